//! What a run took: the closing line and the JSON object of `aio run`.

use crate::args::speculation_name;
use crate::speculate::Spent;
use aio::engine::{Completion, Engine, Request};
use std::collections::BTreeMap;

/// The results of a run, for the closing line and the JSON object.
pub(crate) struct Summary<'a> {
    pub engine: &'a Engine,
    pub request: &'a Request,
    pub done: &'a Completion,
    pub dispatch: &'static str,
    /// Submissions of the whole run, including a draft model's; bytes likewise.
    pub submissions: u64,
    pub syncs: u64,
    /// Bytes of weights read after the first token.
    pub decode_bytes: u64,
    /// What the whole run took, and the steps after the first token.
    pub spent: Spent,
    pub decode: Spent,
}

impl Summary<'_> {
    /// Seconds up to the first token, by the device's model if it has one.
    fn prefill_s(&self) -> f64 {
        let modelled = self.spent.modelled().map(|all| all - self.decode.modelled().unwrap_or(0.0));
        modelled.unwrap_or(self.done.timing.prefill.as_secs_f64())
    }

    /// Seconds after the first token, likewise.
    fn decode_s(&self) -> f64 {
        match self.spent.modelled() {
            Some(_) => self.decode.modelled().unwrap_or(0.0),
            None => self.done.timing.decode.as_secs_f64(),
        }
    }

    fn prefill_tok_s(&self) -> f64 {
        rate(self.request.prompt.len() as u64, self.prefill_s())
    }

    fn decode_tok_s(&self) -> f64 {
        rate(self.done.ids.len().saturating_sub(1) as u64, self.decode_s())
    }

    /// Where the rates come from, unless a clock measured them.
    fn clock(&self) -> &'static str {
        if self.spent.modelled().is_some() { " modelled" } else { "" }
    }

    /// What only a modelled device has to say.
    fn modelled(&self) -> String {
        let (captures, seconds) = self.spent.captures();
        if self.spent.modelled().is_none() {
            return String::new();
        }
        let simulated = rate(self.done.ids.len().saturating_sub(1) as u64, self.done.timing.decode.as_secs_f64());
        let host = format!("{}the simulation ran at {simulated:.1} tok/s; ", self.forms());
        if captures == 0 {
            host
        } else {
            format!("{captures} graphs captured in {:.1} ms modelled; {host}", seconds * 1e3)
        }
    }

    /// How many steps ran in which form, if there are several.
    fn forms(&self) -> String {
        let steps: Vec<_> = self.engine.forms().iter().map(|(name, steps)| format!("{steps} {name}")).collect();
        if steps.is_empty() { String::new() } else { format!("steps: {}; ", steps.join(", ")) }
    }

    /// The tokens generated, and how fast those after the first came.
    fn generated(&self) -> String {
        match self.done.ids.len() {
            0 => "generated nothing".to_owned(),
            1 => "generated 1 token".to_owned(),
            n => format!("generated {n} tokens, {:.1} tok/s{}", self.decode_tok_s(), self.clock()),
        }
    }

    /// How fast weights were read after the first token.
    fn bandwidth(&self) -> String {
        let rate = rate(self.decode_bytes, self.decode_s()) / 1e9;
        if rate > 0.0 { format!(", {rate:.1} GB/s{}", self.clock()) } else { String::new() }
    }

    /// The closing line.
    pub(crate) fn line(&self) -> String {
        let weights = self.engine.work().weight_bytes;
        let clock = self.clock();
        format!(
            "prompt {} tokens, {:.1} tok/s{clock}; {}; plan {} on {}; weights {:.2} MB{}; {} submissions, {} syncs; {}{}{}; seed {}",
            self.request.prompt.len(),
            self.prefill_tok_s(),
            self.generated(),
            self.done.plan,
            self.engine.family().target,
            weights as f64 / 1e6,
            self.bandwidth(),
            self.submissions,
            self.syncs,
            self.speculation(),
            self.modelled(),
            self.done.stop_reason.name(),
            self.request.sampling.seed,
        )
    }

    /// How many drafts were accepted, if there were any.
    fn speculation(&self) -> String {
        let s = &self.done.speculation;
        if s.drafted == 0 {
            return String::new();
        }
        let (share, each) = (100.0 * s.acceptance(), s.tokens_per_step());
        format!("{} drafts, {} accepted ({share:.0} %), {each:.2} tokens a step; ", s.drafted, s.accepted)
    }

    /// The JSON object.
    pub(crate) fn json(&self) -> serde_json::Value {
        let speculation = &self.done.speculation;
        serde_json::json!({
            "prompt_ids": self.request.prompt,
            "ids": self.done.ids,
            "text": self.done.text,
            "stop_reason": self.done.stop_reason.name(),
            "prefill_tok_s": self.prefill_tok_s(),
            "decode_tok_s": self.decode_tok_s(),
            "clock": if self.spent.modelled().is_some() { "modelled" } else { "measured" },
            "captures": self.spent.captures().0,
            "forms": self.engine.forms().iter().map(|(name, n)| ((*name).to_owned(), *n)).collect::<BTreeMap<_, _>>(),
            "plan": self.done.plan,
            "device": self.engine.family().target,
            "weight_bytes": self.engine.work().weight_bytes,
            "dispatch": self.dispatch,
            "submissions": self.submissions,
            "syncs": self.syncs,
            "seed": self.request.sampling.seed,
            "spec": speculation_name(self.request.speculation),
            "steps": self.done.timing.decode_steps,
            "drafts": speculation.drafted,
            "accepted": speculation.accepted,
            "tokens_per_step": speculation.tokens_per_step(),
            "accepted_by_position": speculation.by_position,
            "steps_by_drafts": speculation.by_length,
            "draft_failure": speculation.failure,
            "commit": aio::COMMIT,
        })
    }
}

fn rate(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}
