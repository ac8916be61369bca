//! What kernels take for granted of a task, checked when its plan is loaded.
//!
//! Kernels work on a step's rows and index by a few inputs that each step checks by name. A graph that is laid out
//! otherwise is valid and other back ends may run it, so it is not refused before, but here, as unsupported.

use super::unsupported;
use aio_backend::DeviceError;
use aio_ir::{DType, Op, Sym, TensorType};
use aio_plan::{InputId, Plan, PlanFamily, Slot, Task, TaskKind};

/// Checks a task's inputs and the shapes of what it reads and writes.
///
/// # Errors
/// [`DeviceError::Unsupported`].
pub(super) fn check(task: &Task, family: &PlanFamily, plan: &Plan) -> Result<(), DeviceError> {
    for &(place, name) in names(task) {
        let named = plan.input(name).is_some_and(|i| task.operands[place] == Slot::Input(InputId::new(i)));
        if !named {
            return Err(unsupported(task, format!("operand {place} that is not the input `{name}`")));
        }
    }
    let (o, r) = (&task.operands, &task.results);
    let weight = |place: usize, axis: usize| match o[place] {
        Slot::Weight(w) => family.weights[w.index()].ty.shape.dims().get(axis).and_then(|d| d.known()),
        _ => None,
    };
    let words = |place: usize| bound(task, plan, place, DType::U32);
    let rows = |slot: Slot, width: Option<u64>| row_major(task, plan, slot, Sym::Rows, width);
    match task.kind {
        TaskKind::Qkv(_) => factors(task).and(rows(o[0], weight(2, 1))).and(rows(r[0], weight(2, 0))),
        TaskKind::Attend(_) => rows(o[0], None).and(rows(r[0], None)),
        TaskKind::Linear(_) => rows(o[0], weight(2, 1)).and(rows(o[4], weight(2, 0))).and(rows(r[0], weight(2, 0))),
        TaskKind::GateUp(_) => rows(o[0], weight(2, 1)).and(rows(r[0], weight(2, 0))),
        TaskKind::Head(_) => rows(o[0], weight(3, 1)).and(row_major(task, plan, r[0], Sym::Outs, None)),
        TaskKind::Op(Op::Embed) => words(1).and(rows(o[1], Some(1))).and(rows(r[0], weight(0, 1))),
        TaskKind::Op(Op::Gather) => rows(o[0], None).and(row_major(task, plan, r[0], Sym::Outs, None)),
        TaskKind::Op(Op::Sample) => {
            words(2).and(bound(task, plan, 3, DType::I32)).and(bound(task, plan, 4, DType::F32))
        }
        TaskKind::Op(_) => Ok(()),
    }
}

/// Checks that an operand is absent or what the step binds, of this type.
fn bound(task: &Task, plan: &Plan, place: usize, dtype: DType) -> Result<(), DeviceError> {
    match task.operands[place] {
        Slot::Absent => Ok(()),
        Slot::Input(i) if plan.inputs[i.index()].ty.dtype == dtype => Ok(()),
        slot => Err(unsupported(task, format!("operand {place} in {slot} instead of an input of {dtype}"))),
    }
}

/// The tables of angles are made once, so what divides the frequencies must be constant.
fn factors(task: &Task) -> Result<(), DeviceError> {
    match task.operands[11] {
        Slot::Absent | Slot::Weight(_) => Ok(()),
        slot => Err(unsupported(task, format!("frequency factors in {slot}"))),
    }
}

/// Operands that kernels index by, and the names under which a step checks them.
fn names(task: &Task) -> &'static [(usize, &'static str)] {
    match task.kind {
        TaskKind::Qkv(_) => &[(10, "positions"), (13, "page_table"), (14, "row_seq")],
        TaskKind::Attend(_) => &[(2, "page_table"), (3, "row_seq"), (4, "positions")],
        TaskKind::Head(_) => &[(1, "out_rows")],
        _ => &[],
    }
}

/// Checks that a slot holds a row of `width` elements for each of the step's rows.
fn row_major(task: &Task, plan: &Plan, slot: Slot, first: Sym, width: Option<u64>) -> Result<(), DeviceError> {
    let ty = match slot {
        Slot::Absent => return Ok(()),
        Slot::Buffer(b) => &plan.buffers[b.index()].ty,
        Slot::Input(i) => &plan.inputs[i.index()].ty,
        Slot::Output(o) => &plan.outputs[o.index()].ty,
        Slot::Weight(_) | Slot::State(_) => return Err(unsupported(task, format!("rows in {slot}"))),
    };
    let found = row_width(ty, first);
    if found.is_some() && (width.is_none() || found == width) {
        return Ok(());
    }
    Err(unsupported(task, format!("{slot} : {ty}, which has no row for each of `{}`", first.name())))
}

/// Elements of a row, if the outermost dimension is the symbol and no other depends on the step.
pub(super) fn row_width(ty: &TensorType, first: Sym) -> Option<u64> {
    let (head, rest) = ty.shape.dims().split_first()?;
    if *head != first.into() {
        return None;
    }
    rest.iter().try_fold(1u64, |n, d| n.checked_mul(d.known()?))
}
