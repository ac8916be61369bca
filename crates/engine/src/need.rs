//! How much memory a model needs.

use aio_plan::PlanFamily;
use std::fmt;

/// Bytes that a loaded model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryNeed {
    /// Weights in the device's form; packing pads a little, so this is the file's size plus one part in 32. Of an artefact
    /// its packed bytes, or none if they are mapped.
    pub weights: u64,
    /// The KV pool.
    pub kv: u64,
    /// The arena and step buffers.
    pub arena: u64,
    /// What the device works in: activations, partial results of attention.
    pub scratch: u64,
}

impl MemoryNeed {
    /// What a family needs with a pool of `pages` pages; scratch memory is the device's to say, and 0 here.
    pub fn of(family: &PlanFamily, pages: u32) -> MemoryNeed {
        let dims = family.state_bounds(pages);
        let bytes = |ty: &aio_ir::TensorType| ty.bytes(&dims).unwrap_or(u64::MAX);
        let weights = family.weights.iter().fold(0u64, |n, w| n.saturating_add(bytes(&w.ty)));
        let kv = family.states.iter().fold(0u64, |n, s| n.saturating_add(bytes(&s.ty)));
        MemoryNeed { weights: weights.saturating_add(weights / 32), kv, arena: family.arena_bytes, scratch: 0 }
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        [self.kv, self.arena, self.scratch].iter().fold(self.weights, |n, part| n.saturating_add(*part))
    }
}

impl fmt::Display for MemoryNeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MemoryNeed { weights, kv, arena, scratch } = self;
        write!(f, "{} bytes (weights {weights}, KV cache {kv}, arena {arena}", self.total())?;
        // Where the rest is too much already, nobody asked for this part.
        if *scratch > 0 { write!(f, ", scratch {scratch})") } else { f.write_str(")") }
    }
}
