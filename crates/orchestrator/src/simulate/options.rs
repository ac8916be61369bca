//! How a trace is run: variants, policy, probe, limits. Set by `aio simulate`.

use super::costs::VariantCosts;
use crate::routing::{Policy, SpeculationRule};

/// A model that is resident.
#[derive(Clone, Debug)]
pub struct SimVariant {
    /// Its name.
    pub name: String,
    /// What its steps cost.
    pub costs: VariantCosts,
    /// Bytes of its weights.
    pub weight_bytes: u64,
}

/// How drafts are verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    /// All in one step.
    Batch,
    /// Each in a separate step.
    Token,
}

/// The probe of a request's category.
#[derive(Clone, Copy, Debug)]
pub struct SimProbe {
    /// Rows that it runs on the smallest variant: the end of the request and the question.
    pub rows: u32,
    /// How often it is right, 0 to 1.
    pub accuracy: f64,
}

/// A time in which others use the device's memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Busy {
    /// Seconds from the start: when it begins and when it ends.
    pub from: f64,
    /// See above.
    pub to: f64,
    /// How many times as long a step takes meanwhile.
    pub factor: f64,
}

/// How a trace is run.
#[derive(Clone, Copy, Debug)]
pub struct SimOptions<'a> {
    /// The variants, at least one.
    pub variants: &'a [SimVariant],
    /// Where requests go.
    pub policy: &'a Policy,
    /// How drafts are verified.
    pub verification: Verification,
    /// In place of the policy's speculation.
    pub speculation: Option<SpeculationRule>,
    /// Most sequences at once.
    pub sequences: u32,
    /// Most rows of a step with prompts.
    pub prefill_rows: u32,
    /// Most drafts of a sequence in a step.
    pub drafts: u32,
    /// Bytes for keys and values of all variants.
    pub kv_bytes: f64,
    /// Seconds in which a request should be finished.
    pub within: f64,
    /// The probe, where the policy has one.
    pub probe: SimProbe,
    /// When others use the memory. The server only sees what its steps take.
    pub busy: &'a [Busy],
    /// Seed of texts and of the probe's mistakes.
    pub seed: u64,
}
