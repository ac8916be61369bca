//! Bytes that a step moves, by one definition: what counters, rooflines and benchmarks report.

use crate::family::{Plan, PlanFamily};
use crate::kinds::TaskKind;
use crate::loc::Loc;
use aio_ir::{Dims, Op, PAGE_POSITIONS};

/// Weights once, keys and values by position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes of the weights that a step reads, as the model file stores them, each once. Of a table that is only looked up
    /// a few rows are read, so it does not count.
    pub weights: u64,
    /// Bytes of keys and values of one position, over all layers.
    pub kv_per_position: u64,
}

impl Traffic {
    /// Of a step of a plan.
    pub fn of(family: &PlanFamily, plan: &Plan) -> Traffic {
        let page = Dims { pages: 1, ..Dims::default() };
        let whole = plan.tasks.iter().filter(|t| t.kind != TaskKind::Op(Op::Embed));
        let locs = whole.flat_map(|t| t.operands.iter());
        let mut read: Vec<_> =
            locs.filter_map(|s| if let Loc::Weight(w) = s { Some(w.index()) } else { None }).collect();
        read.sort_unstable();
        read.dedup();
        let kv: u64 = family.states.iter().filter(|s| s.is_paged()).filter_map(|s| s.ty.bytes(&page)).sum();
        Traffic {
            weights: read.iter().filter_map(|&w| family.weights[w].ty.bytes(&Dims::default())).sum(),
            kv_per_position: kv / PAGE_POSITIONS,
        }
    }
}
