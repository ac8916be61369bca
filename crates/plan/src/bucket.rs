//! Buckets: the step sizes and tails that plans are made for.

use aio_ir::Dims;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a step computes from the logits of the output rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Tail {
    /// The most likely token. Logits are never stored.
    Argmax,
    /// A token drawn by the sampling chain.
    Sample,
    /// The logits themselves.
    Logits,
    /// What the head multiplies: the last hidden state after its norm. No logits are computed.
    Hidden,
}

impl Tail {
    /// The tails of a model that generates.
    pub const ALL: [Tail; 3] = [Tail::Argmax, Tail::Sample, Tail::Logits];

    /// The name in plans and tables.
    pub fn name(self) -> &'static str {
        match self {
            Tail::Argmax => "argmax",
            Tail::Sample => "sample",
            Tail::Logits => "logits",
            Tail::Hidden => "hidden",
        }
    }
}

/// Upper bounds on a step, and its tail. Pages and recent tokens are bounded per step, not per bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Bucket {
    /// Maximum token rows.
    pub rows: u32,
    /// Maximum sequences.
    pub seqs: u32,
    /// Maximum output rows.
    pub outs: u32,
    /// What the step computes from the logits.
    pub tail: Tail,
    /// Whether the plan verifies drafts against the sampled tokens. Never with [`Tail::Logits`].
    pub verify: bool,
}

impl Bucket {
    /// A bucket for steps of up to `rows` rows and `outs` output rows, without drafts. Each row may be a separate
    /// sequence.
    pub fn new(rows: u32, outs: u32, tail: Tail) -> Bucket {
        Bucket { rows, seqs: rows, outs, tail, verify: false }
    }

    /// The same bucket with draft verification.
    pub fn verifying(self) -> Bucket {
        Bucket { verify: true, ..self }
    }

    /// The bounds as dimensions. Those of the pools, the page table and recent tokens are 0, because they size no arena
    /// buffer.
    pub fn bounds(&self) -> Dims {
        Dims { rows: self.rows, seqs: self.seqs, outs: self.outs, ..Dims::default() }
    }

    /// Whether a step of these dimensions fits the bucket.
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
