//! A request that asks for a variant, and the variant that it got.

use crate::Answer;
use crate::resident::Resident;
use aio_engine::Engine;
use aio_orchestrator::routing::{Policy, Route};
use serde_json::{Value, json};
use std::sync::Arc;

/// A request that asks for a variant.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Its text, for the probe.
    pub text: &'a str,
    /// Tokens of its prompt.
    pub prompt: u32,
    /// Tokens that are expected as its answer.
    pub output: u32,
    /// Seconds in which it should be finished; infinite if it may take as long as it takes.
    pub within: f64,
    /// A policy in place of the fleet's.
    pub policy: Option<&'a Policy>,
    /// The category, if it is known; then no probe is asked.
    pub category: Option<&'a str>,
    /// The variant that it must have, whatever the policy says; then no probe is asked.
    pub variant: Option<&'a str>,
}

impl<'a> Ask<'a> {
    /// A request without a deadline, for the fleet's policy.
    pub fn new(text: &'a str, prompt: u32, output: u32) -> Ask<'a> {
        Ask { text, prompt, output, within: f64::INFINITY, policy: None, category: None, variant: None }
    }
}

/// Where a request goes. While it exists, the request counts as running on its variant: keep it until the answer is there.
#[derive(Debug)]
pub struct Routed {
    /// The variant's name.
    pub name: String,
    /// It.
    pub engine: Arc<Engine>,
    /// The choice and the variants that were not taken, by index in [`Fleet::states`](crate::Fleet::states).
    pub route: Route,
    /// What the probe said, if it was asked.
    pub answer: Option<Answer>,
    /// Seconds that the probe took.
    pub probe_seconds: f64,
    /// Bytes per second at which the variant reads its weights at present.
    pub bandwidth: f64,
    /// Tokens that the expected seconds are for: to be read, and to be generated.
    pub tokens: [u32; 2],
    pub(crate) running: Running,
}

/// Counts a request on its variant.
pub(crate) struct Running {
    resident: Arc<Resident>,
    pub at: usize,
    pub positions: u64,
}

impl Running {
    /// Counts it from now on.
    pub(crate) fn new(resident: &Arc<Resident>, at: usize, positions: u64) -> Running {
        if let Some(variant) = resident.lock().get_mut(at) {
            variant.requests += 1;
            variant.positions += positions;
        }
        Running { resident: Arc::clone(resident), at, positions }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let variant = &mut self.resident.lock()[self.at];
        variant.requests = variant.requests.saturating_sub(1);
        variant.positions = variant.positions.saturating_sub(self.positions);
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("at", &self.at).field("positions", &self.positions).finish()
    }
}

impl Routed {
    /// What was chosen and why, a line each. `names` are those of [`Fleet::states`](crate::Fleet::states).
    pub fn explain(&self, names: &[String]) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(answer) = &self.answer {
            let (best, margin) = answer.best();
            let scores: Vec<String> =
                answer.scores.iter().map(|(name, score)| format!("{name} {:.0} %", score * 100.0)).collect();
            let ms = self.probe_seconds * 1e3;
            lines.push(format!(
                "probe: {best}, ahead by {:.0} points ({}), from {} tokens in {ms:.1} ms",
                margin * 100.0,
                scores.join(", "),
                answer.tokens
            ));
        }
        let [read, generated] = self.tokens;
        lines.push(format!(
            "variant: {} ({}), {:.2} s expected for {read} tokens of prompt and {generated} of answer, reading memory at {:.1} GB/s",
            self.name,
            self.route.reason,
            self.route.seconds,
            self.bandwidth / 1e9
        ));
        for other in &self.route.rejected {
            let name = names.get(other.variant).map_or("", String::as_str);
            let time =
                if other.seconds.is_finite() { format!(", {:.2} s expected", other.seconds) } else { String::new() };
            let quality = other.quality.map(|[own, needed]| format!(" ({own:.1}, and {needed:.1} is needed)"));
            lines.push(format!("  not {name}: {}{}{time}", other.why, quality.unwrap_or_default()));
        }
        lines
    }

    /// The same as a JSON object.
    pub fn to_json(&self, names: &[String]) -> Value {
        let finite = |seconds: f64| if seconds.is_finite() { Value::from(seconds) } else { Value::Null };
        let rejected = self.route.rejected.iter().map(|r| {
            json!({
                "variant": names.get(r.variant), "seconds": finite(r.seconds), "why": r.why, "quality": r.quality,
            })
        });
        let probe = self.answer.as_ref().map(|answer| {
            let (category, margin) = answer.best();
            let scores: serde_json::Map<String, Value> =
                answer.scores.iter().map(|(name, score)| (name.clone(), (*score).into())).collect();
            json!({
                "category": category, "margin": margin, "scores": scores, "tokens": answer.tokens,
                "seconds": self.probe_seconds,
            })
        });
        json!({
            "variant": self.name,
            "reason": self.route.reason,
            "expected_seconds": finite(self.route.seconds),
            "prompt_tokens": self.tokens[0],
            "output_tokens": self.tokens[1],
            "bytes_per_second": self.bandwidth,
            "speculation": self.route.speculation.to_string(),
            "probe": probe,
            "rejected": rejected.collect::<Vec<_>>(),
        })
    }
}
