//! What the kernels of a task's kind take for granted, checked when its plan is loaded.
//!
//! They work on a step's rows and index by a few inputs that each step checks by name. A graph that is laid out
//! otherwise is valid; its tasks run node by node.

use aio_ir::{DType, Op, Sym, TensorType};
use aio_plan::{AttendSpec, InputId, KindName, Plan, PlanFamily, Slot, Task, TaskKind};

/// Whether the kernels of a task's kind fit its operands and results.
pub(super) fn fits(task: &Task, family: &PlanFamily, plan: &Plan) -> bool {
    let t = Operands { task, family, plan };
    let (o, r) = (&task.operands, &task.results);
    let rows = |slot: Slot, width: Option<u64>| t.row_major(slot, Sym::Rows, width);
    t.vectors()
        && match task.kind {
            TaskKind::Qkv(spec) => {
                let places = reads(task, plan).places;
                let factors = matches!(o[11], Slot::Absent | Slot::Weight(_));
                let heads = spec.head_dim.is_multiple_of(16);
                places
                    && factors
                    && heads
                    && t.matrices(&[2, 3, 4])
                    && rows(o[0], t.size(2, 1))
                    && rows(r[0], t.size(2, 0))
            }
            TaskKind::Attend(spec) => t.attend(&spec),
            TaskKind::Op(Op::Attend) => t.attend(&attend_spec(task)),
            TaskKind::Linear(_) => {
                let ends = rows(o[4], t.size(2, 0)) && rows(r[0], t.size(2, 0));
                t.matrices(&[2]) && rows(o[0], t.size(2, 1)) && ends
            }
            TaskKind::GateUp(_) => t.matrices(&[2, 3]) && rows(o[0], t.size(2, 1)) && rows(r[0], t.size(2, 0)),
            TaskKind::Head(_) => {
                let out = t.row_major(r[0], Sym::Outs, None);
                reads(task, plan).out_rows && t.matrices(&[3]) && rows(o[0], t.size(3, 1)) && out
            }
            TaskKind::Op(_) => false,
        }
}

/// Which inputs, by name, a plan's tasks index by. A step checks those.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reads {
    /// `positions`, `page_table` and `row_seq`.
    pub places: bool,
    /// `out_rows`.
    pub out_rows: bool,
}

impl Reads {
    /// What either reads.
    pub(crate) fn or(self, other: Reads) -> Reads {
        Reads { places: self.places || other.places, out_rows: self.out_rows || other.out_rows }
    }
}

/// What a task reads so.
pub(crate) fn reads(task: &Task, plan: &Plan) -> Reads {
    let named = |place: usize, name: &str| named(task, plan, place, name);
    let places = |table, row_seq, positions| {
        named(table, "page_table") && named(row_seq, "row_seq") && named(positions, "positions")
    };
    let places = match task.kind {
        TaskKind::Qkv(_) => places(13, 14, 10),
        TaskKind::Attend(_) | TaskKind::Op(Op::Attend) => places(2, 3, 4),
        TaskKind::Op(Op::PageWrite) => places(3, 4, 5),
        _ => false,
    };
    Reads { places, out_rows: matches!(task.kind, TaskKind::Head(_)) && named(1, "out_rows") }
}

/// Whether an operand is the input of this name.
fn named(task: &Task, plan: &Plan, place: usize, name: &str) -> bool {
    plan.input(name).is_some_and(|i| task.operands[place] == Slot::Input(InputId::new(i)))
}

/// The numbers of an `attend` that is a task of its own, unfused.
pub(super) fn attend_spec(task: &Task) -> AttendSpec {
    let body = &task.body;
    let (_, node) = body.nodes().next().expect("L005: a task of one op has one node");
    let size = |operand: usize, dim: usize| body.ty(node.input(operand)).shape.dims()[dim].known().unwrap_or(0) as u32;
    AttendSpec {
        heads: size(0, 1),
        kv_heads: size(1, 2),
        head_dim: size(0, 2),
        scale: node.f32("scale"),
        window: u32::try_from(node.int("window")).unwrap_or(0),
        soft_cap: node.f32("soft_cap"),
    }
}

/// A task's operands with what they are.
struct Operands<'a> {
    task: &'a Task,
    family: &'a PlanFamily,
    plan: &'a Plan,
}

impl Operands<'_> {
    /// A dimension of a weight.
    fn size(&self, place: usize, axis: usize) -> Option<u64> {
        let Slot::Weight(w) = self.task.operands[place] else { return None };
        self.family.weights[w.index()].ty.shape.dims().get(axis).and_then(|d| d.known())
    }

    /// Whether these operands are packed weights.
    fn matrices(&self, places: &[usize]) -> bool {
        let layout = |place: &usize| match self.task.operands[*place] {
            Slot::Weight(w) => Some(self.family.weights[w.index()].layout),
            _ => None,
        };
        places.iter().all(|p| layout(p) == Some(aio_plan::Layout::Packed))
    }

    /// Whether all other weights are vectors of f32.
    fn vectors(&self) -> bool {
        let kind: KindName = self.task.kind.name();
        let mut others = self.task.operands.iter().enumerate().filter(|(place, _)| !kind.is_matrix(*place));
        others.all(|(_, slot)| match slot {
            Slot::Weight(w) => {
                let ty = &self.family.weights[w.index()].ty;
                ty.dtype == DType::F32 && ty.shape.rank() == 1
            }
            _ => true,
        })
    }

    fn attend(&self, spec: &AttendSpec) -> bool {
        let (o, r) = (&self.task.operands, &self.task.results);
        let places = reads(self.task, self.plan).places;
        let kernel = spec.head_dim > 0 && spec.head_dim.is_multiple_of(16) && matches!(o[1], Slot::State(_));
        let sinks = matches!(o[5], Slot::Absent | Slot::Weight(_));
        let rows = |slot| self.row_major(slot, Sym::Rows, None);
        places && kernel && sinks && rows(o[0]) && rows(r[0])
    }

    /// Whether a slot is absent or holds a row of `width` elements for each of the step's rows.
    fn row_major(&self, slot: Slot, first: Sym, width: Option<u64>) -> bool {
        let ty = match slot {
            Slot::Absent => return true,
            Slot::Buffer(b) => &self.plan.buffers[b.index()].ty,
            Slot::Input(i) => &self.plan.inputs[i.index()].ty,
            Slot::Output(o) => &self.plan.outputs[o.index()].ty,
            Slot::Weight(_) | Slot::State(_) => return false,
        };
        let found = row_width(ty, first);
        found.is_some() && (width.is_none() || found == width)
    }
}

/// Elements of a row, if the outermost dimension is the symbol and no other depends on the step.
fn row_width(ty: &TensorType, first: Sym) -> Option<u64> {
    let (head, rest) = ty.shape.dims().split_first()?;
    if *head != first.into() {
        return None;
    }
    rest.iter().try_fold(1u64, |n, d| n.checked_mul(d.known()?))
}
