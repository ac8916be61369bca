//! What a simulated trace took.

use crate::roofline::Regime;
use crate::routing::Route;
use std::collections::BTreeMap;

/// A request's route.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Index of the request.
    pub request: usize,
    /// Seconds from the start of the trace.
    pub at: f64,
    /// The category that the probe gave, if there is a probe.
    pub probed: Option<String>,
    /// Where it went.
    pub route: Route,
}

/// Totals of a variant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VariantReport {
    /// Its name.
    pub name: String,
    /// Requests that it finished.
    pub requests: u32,
    /// Tokens that it generated.
    pub tokens: u64,
    /// Its passes over the weights.
    pub steps: u64,
    /// Seconds of its steps.
    pub seconds: f64,
    /// Bytes of weights, and of keys and values, that it read.
    pub weight_bytes: f64,
    /// See `weight_bytes`.
    pub kv_bytes: f64,
    /// Passes by their rows.
    pub rows: BTreeMap<u32, u64>,
    /// Drafts in its steps.
    pub drafted: u64,
    /// Those accepted.
    pub accepted: u64,
}

/// What a trace took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SimReport {
    /// By variant.
    pub variants: Vec<VariantReport>,
    /// Seconds from the start of the trace to the last token.
    pub seconds: f64,
    /// Seconds in which nothing ran.
    pub idle: f64,
    /// Seconds of probes.
    pub probing: f64,
    /// Seconds of steps bound by launching, weights, keys and values, and operations.
    pub regimes: [f64; 4],
    /// Seconds from arrival to the first and to the last token of each request that finished.
    pub first_token: Vec<f64>,
    /// See `first_token`.
    pub latency: Vec<f64>,
    /// Requests that finished later than they should.
    pub late: u32,
    /// Requests too large for the memory.
    pub refused: u32,
    /// Requests whose probe was wrong.
    pub mistaken: u32,
    /// The routes, in the order of admission.
    pub decisions: Vec<Decision>,
}

impl SimReport {
    /// Tokens generated.
    pub fn tokens(&self) -> u64 {
        self.variants.iter().map(|v| v.tokens).sum()
    }

    /// Tokens per second, from start to end.
    pub fn rate(&self) -> f64 {
        if self.seconds > 0.0 { self.tokens() as f64 / self.seconds } else { 0.0 }
    }

    /// Bytes read from memory.
    pub fn bytes(&self) -> f64 {
        self.variants.iter().map(|v| v.weight_bytes + v.kv_bytes).sum()
    }

    pub(super) fn add_step(&mut self, regime: Regime, seconds: f64) {
        self.regimes[regime as usize] += seconds;
    }

    /// The shares of the steps' seconds by what bounded them.
    pub fn shares(&self) -> [(Regime, f64); 4] {
        let all: f64 = self.regimes.iter().sum();
        let share = |regime: Regime| (regime, if all > 0.0 { self.regimes[regime as usize] / all } else { 0.0 });
        [Regime::Launch, Regime::Weight, Regime::Kv, Regime::Compute].map(share)
    }
}

/// The value that a share of `values` does not exceed (nearest rank); 0 if there are none.
pub fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).or(sorted.last()).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!([0.0, 0.5, 0.9, 1.0].map(|p| percentile(&values, p)), [1.0, 3.0, 5.0, 5.0]);
        assert_eq!(percentile(&[], 0.5), 0.0);
    }
}
