//! Buckets: for which steps a plan is made.

use aio_ir::Dims;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a step makes of the output rows' logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Tail {
    /// The most likely token; logits are never stored.
    Argmax,
    /// A token drawn by the sampling chain.
    Sample,
    /// The logits themselves.
    Logits,
}

impl Tail {
    /// All tails.
    pub const ALL: [Tail; 3] = [Tail::Argmax, Tail::Sample, Tail::Logits];

    /// The name in plans and tables.
    pub fn name(self) -> &'static str {
        match self {
            Tail::Argmax => "argmax",
            Tail::Sample => "sample",
            Tail::Logits => "logits",
        }
    }
}

/// An upper bound on a step and the tail it needs. Pages and recent tokens are bound per step, not per bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Bucket {
    /// Token rows at most.
    pub rows: u32,
    /// Sequences at most.
    pub seqs: u32,
    /// Output rows at most.
    pub outs: u32,
    /// What becomes of the logits.
    pub tail: Tail,
    /// Whether the plan compares the sampled tokens with drafts; never with [`Tail::Logits`].
    pub verify: bool,
}

impl Bucket {
    /// For steps of up to `rows` rows of any sequences, `outs` of which ask for an output, without drafts.
    pub fn new(rows: u32, outs: u32, tail: Tail) -> Bucket {
        Bucket { rows, seqs: rows, outs, tail, verify: false }
    }

    /// The same for steps whose drafts are verified.
    pub fn verifying(self) -> Bucket {
        Bucket { verify: true, ..self }
    }

    /// Upper bounds as dimensions; pages and recent are 0, for they size no buffer of the arena.
    pub fn bounds(&self) -> Dims {
        Dims { rows: self.rows, seqs: self.seqs, pages: 0, outs: self.outs, recent: 0 }
    }

    /// Whether a step of these dimensions fits.
    pub fn holds(&self, dims: &Dims) -> bool {
        dims.rows <= self.rows && dims.seqs <= self.seqs && dims.outs <= self.outs
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verify = if self.verify { "-verify" } else { "" };
        write!(f, "r{}s{}o{}-{}{verify}", self.rows, self.seqs, self.outs, self.tail.name())
    }
}
