//! What a model's steps read and compute, for its roofline.

use aio_ir::Op;
use aio_orchestrator::{Ceilings, StepCost, StepWork};
use aio_plan::{AttendSpec, Loc, PlanFamily, Task, TaskKind, Traffic, WeightDesc, WeightId};

/// Seconds of a step besides its work, before any is measured.
const STEP_SECONDS: f64 = 50e-6;

/// The work of a model's steps, from the shapes of its weights and states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModelWork {
    /// Bytes of the weights that a step of one row reads, as stored in the model file. A separate embedding table is
    /// excluded, since only a few of its rows are read; of experts, those that the row picks count.
    pub weight_bytes: u64,
    /// Bytes of keys and values of one position, over all layers.
    pub kv_bytes_per_position: u64,
    /// Multiply-adds per row with weights in block formats, if every row has an output.
    pub int8_macs: u64,
    /// Multiply-adds per row with weights in plain formats.
    pub f32_macs: u64,
    /// Multiply-adds of a row's attention for each position that it sees, over all layers.
    pub macs_per_position: u64,
}

impl ModelWork {
    /// Computes the work from a family's weights and states.
    pub fn of(family: &PlanFamily) -> ModelWork {
        let traffic = family.plans.iter().map(|plan| Traffic::of(family, plan)).max_by_key(|t| t.weights_of(1));
        let traffic = traffic.unwrap_or_default();
        let (weight_bytes, kv_bytes_per_position) = (traffic.weights_of(1), traffic.kv_per_position);
        let macs_per_position =
            family.plans.iter().map(|p| p.tasks.iter().map(attention_macs).sum()).max().unwrap_or(0);
        let mut work = ModelWork { weight_bytes, kv_bytes_per_position, macs_per_position, ..ModelWork::default() };
        for weight in streamed(family).filter(|w| w.ty.shape.rank() >= 2) {
            let dims: Vec<u64> = weight.ty.shape.dims().iter().filter_map(|d| d.known()).collect();
            // A row is multiplied with the experts that it picks.
            let experts = traffic.experts.iter().find(|e| dims.len() == 3 && e.total == dims[0]);
            let matrices = experts.map_or(dims[..dims.len() - 2].iter().product(), |e| e.picked);
            let macs = dims[dims.len() - 2..].iter().fold(matrices, |n, &d| n.saturating_mul(d));
            if weight.ty.dtype.is_quantized() {
                work.int8_macs += macs;
            } else {
                work.f32_macs += macs;
            }
        }
        work
    }
}

impl ModelWork {
    /// The work on a device with these ceilings.
    pub fn on(&self, ceilings: Ceilings) -> StepWork {
        let cost = StepCost {
            bytes: self.weight_bytes as f64,
            bytes_per_row: self.kv_bytes_per_position as f64,
            macs_per_row: (self.int8_macs + self.f32_macs) as f64,
            seconds: STEP_SECONDS,
        };
        let (kv_bytes, kv_macs) = (self.kv_bytes_per_position as f64, self.macs_per_position as f64);
        StepWork { cost, ceilings, kv_bytes, kv_macs }
    }
}

/// Multiply-adds of a row for each position that a task's attention reads.
fn attention_macs(task: &Task) -> u64 {
    let spec = match task.kind {
        TaskKind::Attend(spec) => Some(spec),
        TaskKind::Op(Op::Attend) => {
            task.body.nodes().next().and_then(|(_, node)| AttendSpec::from_node(&task.body, node))
        }
        _ => None,
    };
    spec.map_or(0, |spec| 2 * u64::from(spec.heads) * u64::from(spec.head_dim))
}

/// Weights that steps read whole: all except tables that are only looked up.
fn streamed(family: &PlanFamily) -> impl Iterator<Item = &WeightDesc> {
    let read = |w: usize| {
        let tasks = family.plans.iter().flat_map(|p| &p.tasks);
        let whole = tasks.filter(|t| t.kind != TaskKind::Op(Op::Embed));
        whole.flat_map(|t| &t.operands).any(|s| *s == Loc::Weight(WeightId::new(w)))
    };
    family.weights.iter().enumerate().filter(move |(i, _)| read(*i)).map(|(_, w)| w)
}
