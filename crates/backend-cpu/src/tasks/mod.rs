//! Tasks of a plan as this back end runs them: one file per kind.
//!
//! All threads of the team run a task at once, each its share. `executable` puts a barrier between tasks, so a task may read
//! anything earlier ones wrote. Barriers within a task are used only with enough rows for shared preparation to pay.

mod acts;
mod attend;
mod choice;
mod fits;
mod gate_up;
mod head;
mod linear;
pub(crate) mod ops;
mod prelude;
mod qkv;

pub(crate) use choice::Chooser;
pub(crate) use prelude::Prelude;

use crate::bounds::{Bounds, Scratch};
use crate::error::unsupported;
use crate::pool::Worker;
use crate::resident::Resident;
use crate::step::StepView;
use aio_backend::DeviceError;
use aio_ir::{Op, PAGE_POSITIONS};
use aio_plan::kinds;
use aio_plan::{Layout, Loc, Plan, PlanFamily, Task, TaskKind};
use ops::{Cx, Nodes};

pub(crate) use fits::{HEAD_MULTIPLE, reads_pages};

/// A task bound to its locations and numbers.
pub(crate) enum Lowered {
    Qkv(qkv::Qkv),
    Attend(attend::Attend),
    Linear(linear::Linear),
    GateUp(gate_up::GateUp),
    Head(head::Head),
    Nodes(Nodes),
}

impl Lowered {
    /// Scratch memory the task needs in a step within the bounds.
    pub(crate) fn scratch(&self, bounds: &Bounds) -> Scratch {
        match self {
            Lowered::Qkv(t) => t.scratch(bounds),
            Lowered::Attend(t) => t.scratch(bounds),
            Lowered::Linear(t) => t.scratch(bounds),
            Lowered::GateUp(t) => t.scratch(bounds),
            Lowered::Head(t) => t.scratch(bounds),
            Lowered::Nodes(t) => t.scratch(bounds),
        }
    }

    /// The packed weights that this thread reads first; empty if the task has none.
    pub(crate) fn first_weights<'s>(&self, step: &StepView<'s>, worker: Worker<'_>) -> &'s [u8] {
        match self {
            Lowered::Qkv(t) => t.first_weights(step, worker),
            Lowered::Linear(t) => t.first_weights(step, worker),
            Lowered::GateUp(t) => t.first_weights(step, worker),
            Lowered::Head(t) => t.first_weights(step, worker),
            _ => &[],
        }
    }

    /// Whether the task streams weights.
    pub(crate) fn has_weights(&self) -> bool {
        matches!(self, Lowered::Qkv(_) | Lowered::Linear(_) | Lowered::GateUp(_) | Lowered::Head(_))
    }

    /// This thread's share of the task.
    pub(crate) fn run(&self, step: &StepView<'_>, worker: Worker<'_>) {
        match self {
            Lowered::Qkv(t) => t.run(step, worker),
            Lowered::Attend(t) => t.run(step, worker),
            Lowered::Linear(t) => t.run(step, worker),
            Lowered::GateUp(t) => t.run(step, worker),
            Lowered::Head(t) => t.run(step, worker),
            Lowered::Nodes(t) => t.run(step, worker),
        }
    }
}

/// Binds a task to its kernels: those of its kind if they fit its operands, else those of its nodes.
///
/// # Errors
/// [`DeviceError::Unsupported`].
pub(crate) fn lower(
    task: &Task,
    family: &PlanFamily,
    plan: &Plan,
    resident: &Resident,
    prelude: &mut Prelude,
) -> Result<Lowered, DeviceError> {
    check_layouts(task, family)?;
    check_states(task, family)?;
    if fits::fits(task, family, plan) {
        return Ok(whole(task, plan, resident, prelude));
    }
    Ok(Lowered::Nodes(Nodes::new(&Cx { task, plan, resident })?))
}

/// The kernels of a task's kind.
fn whole(task: &Task, plan: &Plan, resident: &Resident, prelude: &mut Prelude) -> Lowered {
    let weight = |loc: Loc| match loc {
        Loc::Weight(w) => Some(&resident.weights[w.index()]),
        _ => None,
    };
    match task.kind {
        TaskKind::Qkv(spec) => {
            let o = kinds::qkv::Operands::of(&task.operands);
            let table = prelude.table(spec.rope, o.freq_factors, o.positions, resident);
            let rope = prelude.rows(table, plan.bucket.rows as usize);
            Lowered::Qkv(qkv::Qkv::new(task, spec, weight, rope))
        }
        TaskKind::Attend(spec) => Lowered::Attend(attend::Attend::new(task, spec)),
        TaskKind::Linear(spec) => Lowered::Linear(linear::Linear::new(task, spec, weight)),
        TaskKind::GateUp(spec) => Lowered::GateUp(gate_up::GateUp::new(task, spec, weight)),
        TaskKind::Head(spec) => Lowered::Head(head::Head::new(task, spec, weight)),
        TaskKind::Experts(_) => unreachable!("`fits` takes no experts"),
        TaskKind::Op(_) => {
            let spec = fits::attend_spec(task).expect("`fits` takes no other op, and only with such numbers");
            Lowered::Attend(attend::Attend::new(task, spec))
        }
    }
}

/// Rejects pages of other sizes than the kernels', and KV states as plain operands: their key order is private to this
/// device's page writes and attention.
fn check_states(task: &Task, family: &PlanFamily) -> Result<(), DeviceError> {
    let kv_of = |loc: &Loc| match loc {
        Loc::State(s) => family.states[s.index()].kv_shape(),
        _ => None,
    };
    let all = || task.operands.iter().chain(&task.results);
    if let Some(kv) = all().filter_map(kv_of).find(|kv| u64::from(kv.positions) != PAGE_POSITIONS) {
        let reason = format!("pages of {} positions; its kernels take pages of {PAGE_POSITIONS}", kv.positions);
        return Err(unsupported(task, reason));
    }
    let knows = |op: Op| matches!(op, Op::PageWrite | Op::Attend);
    if !matches!(task.kind, TaskKind::Op(op) if !knows(op)) {
        return Ok(());
    }
    match all().find(|loc| kv_of(loc).is_some()) {
        Some(loc) => Err(unsupported(task, format!("keys and values in {loc} as a plain tensor"))),
        None => Ok(()),
    }
}

/// Checks that packed weights are matrices of a product or a look-up; all others are stored as in the file.
fn check_layouts(task: &Task, family: &PlanFamily) -> Result<(), DeviceError> {
    for (place, loc) in task.operands.iter().enumerate() {
        let Loc::Weight(w) = loc else { continue };
        let weight = &family.weights[w.index()];
        let packed = weight.layout == Layout::Packed;
        if packed && !((2..=3).contains(&weight.ty.shape.rank()) && task.kind.name().is_matrix(place)) {
            let reason = format!("weight `{}` : {} in {} layout", weight.name, weight.ty, weight.layout.name());
            return Err(unsupported(task, reason));
        }
    }
    Ok(())
}
