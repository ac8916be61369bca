//! The memory that a model needs.

use aio_plan::{PlanFamily, PoolSizes};
use std::fmt;

/// Memory of a loaded model in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryNeed {
    /// Weights in the device's form. Packing pads slightly, so this is the file's size plus 1/32. For an artefact, its
    /// packed bytes, or 0 if they are mapped.
    pub weights: u64,
    /// The pools of KV pages and of slots.
    pub kv: u64,
    /// The arena and step buffers.
    pub arena: u64,
    /// Working memory of the device: activations, partial results of attention.
    pub scratch: u64,
}

impl MemoryNeed {
    /// The need of a family with these pools. Scratch memory depends on the device and is 0 here.
    pub fn of(family: &PlanFamily, pools: PoolSizes) -> MemoryNeed {
        let dims = family.state_bounds(pools);
        let bytes = |ty: &aio_ir::TensorType| ty.bytes(&dims).unwrap_or(u64::MAX);
        let weights = family.weights.iter().fold(0u64, |n, w| n.saturating_add(bytes(&w.ty)));
        let kv = family.states.iter().fold(0u64, |n, s| n.saturating_add(bytes(&s.ty)));
        MemoryNeed { weights: weights.saturating_add(weights / 32), kv, arena: family.arena_bytes, scratch: 0 }
    }

    /// The total in bytes.
    pub fn total(&self) -> u64 {
        [self.kv, self.arena, self.scratch].iter().fold(self.weights, |n, part| n.saturating_add(*part))
    }
}

impl fmt::Display for MemoryNeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MemoryNeed { weights, kv, arena, scratch } = self;
        write!(f, "{} bytes (weights {weights}, KV cache {kv}, arena {arena}", self.total())?;
        // Scratch is 0 if the rest already exceeded the available memory, because it was not computed.
        if *scratch > 0 { write!(f, ", scratch {scratch})") } else { f.write_str(")") }
    }
}
