//! Bytes that a step moves: the one definition behind counters, rooflines and benchmarks.

use crate::family::{Plan, PlanFamily};
use crate::kinds::TaskKind;
use crate::loc::Loc;
use aio_ir::{Dims, Op, PAGE_POSITIONS};

/// Memory traffic of a step: weights once, keys and values per position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes of the weights that a step reads, as stored in the model file, each once. Tables that are only looked up
    /// are excluded, since only a few rows are read.
    pub weights: u64,
    /// Bytes of keys and values per position, over all layers.
    pub kv_per_position: u64,
}

impl Traffic {
    /// The traffic of a step of a plan.
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
