//! Bytes that a step moves: the one definition behind counters, rooflines and benchmarks.

use crate::family::{Plan, PlanFamily, Role};
use crate::kinds::TaskKind;
use crate::loc::Loc;
use aio_ir::{Dims, Op};

/// Memory traffic of a step: weights once, keys and values per position, slots per sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes of the weights that a step reads, as stored in the model file, each once. Tables that are only looked up
    /// are excluded, since only a few rows are read.
    pub weights: u64,
    /// Bytes of keys and values per position, over all layers.
    pub kv_per_position: u64,
    /// Bytes of a slot, over all layers. A step reads and writes one for each sequence.
    pub slots_per_sequence: u64,
}

impl Traffic {
    /// The traffic of a step of a plan.
    pub fn of(family: &PlanFamily, plan: &Plan) -> Traffic {
        let one = Dims { pages: 1, slots: 1, ..Dims::default() };
        let whole = plan.tasks.iter().filter(|t| t.kind != TaskKind::Op(Op::Embed));
        let locs = whole.flat_map(|t| t.operands.iter());
        let mut read: Vec<_> =
            locs.filter_map(|s| if let Loc::Weight(w) = s { Some(w.index()) } else { None }).collect();
        read.sort_unstable();
        read.dedup();
        let (mut kv_per_position, mut slots_per_sequence) = (0, 0);
        for state in &family.states {
            let bytes = state.ty.bytes(&one).unwrap_or(0);
            match state.role() {
                Role::Pages(kv) => kv_per_position += bytes / u64::from(kv.positions),
                Role::Slot => slots_per_sequence += bytes,
                Role::PageRecord | Role::Plain => {}
            }
        }
        Traffic {
            weights: read.iter().filter_map(|&w| family.weights[w].ty.bytes(&Dims::default())).sum(),
            kv_per_position,
            slots_per_sequence,
        }
    }
}
