//! Tasks of a plan as this back end runs them: one file a kind.
//!
//! A task runs on all threads at once; each takes its share. `executable` puts a barrier between tasks, so a task may
//! read whatever earlier ones wrote. Inside a task a barrier is used only where a step has so many rows that sharing
//! the preparation pays.

mod acts;
mod attend;
mod choose;
mod embed;
mod fits;
mod gate_up;
mod head;
mod linear;
mod prelude;
mod qkv;

pub(crate) use prelude::Prelude;

use crate::executable::Bounds;
use crate::pool::Worker;
use crate::resident::Resident;
use crate::step::Step;
use aio_backend::DeviceError;
use aio_ir::Op;
use aio_plan::{Layout, Plan, PlanFamily, Slot, Task, TaskKind};

/// Scratch memory of a task, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scratch {
    /// For each thread.
    pub private: usize,
    /// Shared by all threads.
    pub shared: usize,
}

impl Scratch {
    /// The larger of each.
    pub(crate) fn max(self, other: Scratch) -> Scratch {
        Scratch { private: self.private.max(other.private), shared: self.shared.max(other.shared) }
    }
}

/// A task bound to its slots and numbers.
pub(crate) enum Lowered {
    Embed(embed::Embed),
    Qkv(qkv::Qkv),
    Attend(attend::Attend),
    Linear(linear::Linear),
    GateUp(gate_up::GateUp),
    Head(head::Head),
    Argmax(choose::Argmax),
    Sample(choose::Sample),
    Gather(embed::Gather),
}

impl Lowered {
    /// Scratch memory that the task needs in a step within the bounds.
    pub(crate) fn scratch(&self, bounds: &Bounds) -> Scratch {
        match self {
            Lowered::Qkv(t) => t.scratch(bounds),
            Lowered::Attend(t) => t.scratch(bounds),
            Lowered::Linear(t) => t.scratch(bounds),
            Lowered::GateUp(t) => t.scratch(bounds),
            Lowered::Head(t) => t.scratch(bounds),
            Lowered::Argmax(t) => t.scratch(bounds),
            Lowered::Embed(_) | Lowered::Sample(_) | Lowered::Gather(_) => Scratch::default(),
        }
    }

    /// This thread's share of the task.
    pub(crate) fn run(&self, step: &Step<'_>, worker: Worker<'_>) {
        match self {
            Lowered::Embed(t) => t.run(step, worker),
            Lowered::Qkv(t) => t.run(step, worker),
            Lowered::Attend(t) => t.run(step, worker),
            Lowered::Linear(t) => t.run(step, worker),
            Lowered::GateUp(t) => t.run(step, worker),
            Lowered::Head(t) => t.run(step, worker),
            Lowered::Argmax(t) => t.run(step, worker),
            Lowered::Sample(t) => t.run(step, worker),
            Lowered::Gather(t) => t.run(step, worker),
        }
    }
}

fn unsupported(task: &Task, reason: impl Into<String>) -> DeviceError {
    DeviceError::Unsupported { device: "cpu".to_owned(), kind: task.kind.name().name(), reason: reason.into() }
}

/// Binds a task to its kernels.
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
    fits::check(task, family, plan)?;
    let width = |slot: Slot| match slot {
        Slot::Weight(w) => Some(&resident.weights[w.index()]),
        _ => None,
    };
    Ok(match task.kind {
        TaskKind::Op(Op::Embed) => Lowered::Embed(embed::Embed::new(task)),
        TaskKind::Op(Op::Gather) => Lowered::Gather(embed::Gather::new(task, plan)?),
        TaskKind::Op(Op::Argmax) => Lowered::Argmax(choose::Argmax::new(task, plan)?),
        TaskKind::Op(Op::Sample) => Lowered::Sample(choose::Sample::new(task, plan)?),
        TaskKind::Qkv(spec) => {
            let table = prelude.table(spec.rope, task.operands[11], task.operands[10], resident);
            let rope = prelude.rows(table, plan.bucket.rows as usize);
            Lowered::Qkv(qkv::Qkv::new(task, spec, width, rope)?)
        }
        TaskKind::Attend(spec) => Lowered::Attend(attend::Attend::new(task, spec)?),
        TaskKind::Linear(spec) => Lowered::Linear(linear::Linear::new(task, spec, width)),
        TaskKind::GateUp(spec) => Lowered::GateUp(gate_up::GateUp::new(task, spec, width)?),
        TaskKind::Head(spec) => Lowered::Head(head::Head::new(task, spec, width)),
        TaskKind::Op(op) => {
            return Err(unsupported(task, format!("`{}` runs only as a part of larger tasks", op.mnemonic())));
        }
    })
}

/// Vectors are plain f32; matrices are packed.
fn check_layouts(task: &Task, family: &PlanFamily) -> Result<(), DeviceError> {
    for slot in &task.operands {
        let Slot::Weight(w) = slot else { continue };
        let weight = &family.weights[w.index()];
        let fits = match weight.layout {
            Layout::Packed => weight.ty.shape.rank() == 2,
            Layout::Plain => weight.ty.dtype == aio_ir::DType::F32 && weight.ty.shape.rank() == 1,
        };
        if !fits {
            let reason = format!("weight `{}` : {} in {} layout", weight.name, weight.ty, weight.layout.name());
            return Err(unsupported(task, reason));
        }
    }
    Ok(())
}
