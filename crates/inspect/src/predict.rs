//! The predicted time of a task: a roofline with separate terms for memory, caches, arithmetic and fixed costs.
//!
//! Pure arithmetic. Memory and arithmetic overlap in part, as in the orchestrator's prediction of whole steps; fixed
//! costs add. Nothing is clamped.

use crate::subject::Machine;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a task moves and computes in a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// Bytes of weights read, as stored in the model file.
    pub weight_bytes: u64,
    /// Bytes of keys and values, and of recurrent state, read and written.
    pub kv_bytes: u64,
    /// Bytes of other values read and written.
    pub activation_bytes: u64,
    /// Floating-point operations; a multiply-add is two.
    pub flops: u64,
}

impl Work {
    /// All bytes.
    pub fn bytes(&self) -> u64 {
        self.weight_bytes + self.kv_bytes + self.activation_bytes
    }

    /// Operations per byte; 0 if nothing is moved.
    pub fn intensity(&self) -> f64 {
        if self.bytes() == 0 { 0.0 } else { self.flops as f64 / self.bytes() as f64 }
    }

    pub(crate) fn plus(self, other: &Work) -> Work {
        Work {
            weight_bytes: self.weight_bytes + other.weight_bytes,
            kv_bytes: self.kv_bytes + other.kv_bytes,
            activation_bytes: self.activation_bytes + other.activation_bytes,
            flops: self.flops + other.flops,
        }
    }
}

/// The largest term of a predicted time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Reading weights.
    Weights,
    /// Reading and writing keys and values.
    Kv,
    /// Moving other values.
    Activations,
    /// Arithmetic.
    Compute,
    /// The fixed costs of a task.
    Launch,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Bound::Weights => "weights",
            Bound::Kv => "kv",
            Bound::Activations => "activations",
            Bound::Compute => "compute",
            Bound::Launch => "launch",
        })
    }
}

/// How a task's arithmetic runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    /// Products with weights in block formats.
    Blocks,
    /// Plain numbers.
    Plain,
    /// Attention: plain numbers, after the keys and values that they come from.
    Attention,
}

/// What a task's time depends on besides its work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nature {
    pub arithmetic: Arithmetic,
    /// Elements that each thread norms for itself.
    pub normed: f64,
    /// Ops of its body that move or compute anything.
    pub ops: f64,
    /// Bytes of its weights per second that its kernel reaches in a cache, if that is known.
    pub kernel: Option<f64>,
}

/// Predicted seconds of a task, and what bounds it.
pub(crate) fn predict(work: &Work, nature: Nature, machine: &Machine) -> (f64, Bound) {
    let Nature { arithmetic, normed, ops, kernel } = nature;
    let rate = match arithmetic {
        Arithmetic::Blocks => machine.block_macs,
        Arithmetic::Plain | Arithmetic::Attention => machine.plain_macs,
    };
    let weights = work.weight_bytes as f64 / machine.bandwidth;
    let kv = work.kv_bytes as f64 / machine.bandwidth;
    let activations = work.activation_bytes as f64 / machine.cache_bandwidth;
    let compute = match kernel.filter(|_| work.weight_bytes > 0) {
        Some(kernel) => work.weight_bytes as f64 / kernel,
        None => work.flops as f64 / 2.0 / rate,
    };
    let norms = normed * machine.norm_seconds;
    let both = match arithmetic {
        Arithmetic::Attention => weights + kv + compute,
        Arithmetic::Blocks | Arithmetic::Plain => (weights + kv).hypot(compute),
    };
    let fixed = machine.task_seconds + ops * machine.op_seconds;
    let seconds = (both + activations + norms + fixed) / machine.level;
    let terms = [
        (weights, Bound::Weights),
        (kv, Bound::Kv),
        (activations, Bound::Activations),
        (compute + norms, Bound::Compute),
        (fixed, Bound::Launch),
    ];
    let largest = terms.into_iter().max_by(|a, b| a.0.total_cmp(&b.0)).map_or(Bound::Launch, |(_, bound)| bound);
    (seconds, largest)
}
