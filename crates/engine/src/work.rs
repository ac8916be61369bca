//! What a model's steps read and compute, for its roofline.

use aio_ir::Op;
use aio_plan::{Loc, PlanFamily, TaskKind, Traffic, WeightDesc, WeightId};

/// The work of a model's steps, from the shapes of its weights and states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModelWork {
    /// Bytes of the weights that every step reads, as stored in the model file. A separate embedding table is excluded,
    /// since only a few of its rows are read.
    pub weight_bytes: u64,
    /// Bytes of keys and values of one position, over all layers.
    pub kv_bytes_per_position: u64,
    /// Multiply-adds per row with weights in block formats, if every row has an output.
    pub int8_macs: u64,
    /// Multiply-adds per row with weights in plain formats.
    pub f32_macs: u64,
}

impl ModelWork {
    /// Computes the work from a family's weights and states.
    pub fn of(family: &PlanFamily) -> ModelWork {
        let traffic = family.plans.iter().map(|plan| Traffic::of(family, plan)).max_by_key(|t| t.weights);
        let Traffic { weights, kv_per_position, .. } = traffic.unwrap_or_default();
        let mut work =
            ModelWork { weight_bytes: weights, kv_bytes_per_position: kv_per_position, ..ModelWork::default() };
        for weight in streamed(family).filter(|w| w.ty.shape.rank() == 2) {
            let macs = weight.ty.shape.dims().iter().try_fold(1u64, |n, d| n.checked_mul(d.known()?)).unwrap_or(0);
            if weight.ty.dtype.is_quantized() {
                work.int8_macs += macs;
            } else {
                work.f32_macs += macs;
            }
        }
        work
    }
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
