//! One sequence of a batch: its tokens, its drafts, its output.

use super::SpeculationStats;
use crate::generate::Flow;
use crate::output::Output;
use crate::request::{Completion, Request, Speculation, StopReason, Timing};
use crate::{Engine, EngineError, Sequence};
use aio_orchestrator::Drafter;
use std::fmt;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Names a member of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberId(pub(super) u64);

pub(super) struct Member {
    pub id: MemberId,
    pub request: Request,
    pub sequence: Sequence,
    /// Prompt and output; during a step the drafts after them.
    pub tokens: Vec<u32>,
    /// How many of `tokens` are no drafts.
    pub known: usize,
    /// End of the positions that this step runs beside the drafts; up to `known`.
    end: usize,
    drafter: Option<Box<dyn Drafter>>,
    output: Output,
    stats: SpeculationStats,
    timing: Timing,
    began: Option<Instant>,
    first_token: Option<Instant>,
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("id", &self.id).field("tokens", &self.known).finish_non_exhaustive()
    }
}

/// What a step gave a member.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    /// Drafts that were right.
    pub accepted: usize,
    /// The token after them; means nothing while prompt is left.
    pub next: u32,
}

impl Member {
    pub(super) fn new(
        id: MemberId,
        request: Request,
        mut sequence: Sequence,
        mut drafter: Option<Box<dyn Drafter>>,
    ) -> Member {
        let tokens = request.prompt.clone();
        if let Some(drafter) = &mut drafter {
            drafter.extend(&tokens);
        }
        // The last token always runs, for its logits.
        sequence.commit(sequence.len().min(tokens.len().saturating_sub(1)));
        let (known, output) = (tokens.len(), Output::new(&request));
        let (stats, timing) = (SpeculationStats::default(), Timing::default());
        let (began, first_token) = (None, None);
        Member { id, request, sequence, tokens, known, end: 0, drafter, output, stats, timing, began, first_token }
    }

    pub(super) fn is_running(&self) -> bool {
        self.output.reason.is_none()
    }

    /// Takes as much of what is pending as the budget of rows allows, but one row at least.
    pub(super) fn plan_chunk(&mut self, budget: &mut usize) {
        self.began.get_or_insert_with(Instant::now);
        let pending = self.known - self.sequence.len();
        let take = pending.min((*budget).max(1));
        self.end = self.sequence.len() + take;
        *budget = budget.saturating_sub(take);
    }

    /// Appends up to `most` drafts to the tokens, if this step runs the last token and nothing else.
    ///
    /// # Errors
    /// [`EngineError::Draft`].
    pub(super) fn draft(&mut self, context: usize, most: usize) -> Result<(), EngineError> {
        debug_assert_eq!(self.tokens.len(), self.known, "drafts of the last step are gone");
        let Some(drafter) = &mut self.drafter else { return Ok(()) };
        if self.sequence.len() + 1 != self.known {
            return Ok(());
        }
        let wanted = match self.request.speculation {
            Speculation::Off => 0,
            Speculation::Fixed(k) => k,
        };
        let most = wanted.min(most).min(context - self.known).min(self.output.left().saturating_sub(1));
        if most > 0 {
            drafter.draft(most, &mut self.tokens)?;
        }
        Ok(())
    }

    /// Positions of this step, drafts included.
    pub(super) fn rows(&self) -> Range<usize> {
        self.sequence.len()..self.end + self.drafts()
    }

    /// Drafts of this step.
    pub(super) fn drafts(&self) -> usize {
        self.tokens.len() - self.known
    }

    /// Position of the first row whose sample counts: the last token's, or the last of a chunk.
    pub(super) fn first_out(&self) -> usize {
        self.end - 1
    }

    /// Whether the step's sample is the next token: no prompt is left.
    pub(super) fn samples(&self) -> bool {
        self.end == self.known
    }

    /// Adds what masks say of the token after position `at` to `bias`, all zeros before.
    pub(super) fn bias(&self, at: usize, bias: &mut [f32]) {
        if let Some(mask) = &self.request.mask {
            mask.bias(&self.tokens[self.request.prompt.len()..=at], bias);
        }
        for (sum, x) in bias.iter_mut().zip(self.request.logit_bias.iter().flatten()) {
            *sum += x;
        }
    }

    pub(super) fn has_bias(&self) -> bool {
        self.request.mask.is_some() || self.request.logit_bias.is_some()
    }

    /// Takes over what a step gave.
    pub(super) fn take(&mut self, engine: &Engine, outcome: Outcome, sink: &mut dyn FnMut(MemberId, &str) -> Flow) {
        if !self.samples() {
            self.sequence.commit(self.end);
            if sink(self.id, "") == Flow::Stop {
                self.output.reason = Some(StopReason::Cancelled);
            }
            return;
        }
        let now = Instant::now();
        if let Some(first) = self.first_token {
            self.timing.decode = now - first;
            self.timing.decode_steps += 1;
            self.stats.add(self.drafts(), outcome.accepted);
        } else {
            self.timing.prefill = self.began.map_or(Duration::ZERO, |began| now - began);
            self.first_token = Some(now);
        }
        let old = self.known;
        self.tokens.truncate(old + outcome.accepted);
        self.tokens.push(outcome.next);
        self.push_output(engine, sink);
        self.sequence.commit(self.known - 1);
        if let Some(drafter) = &mut self.drafter {
            drafter.extend(&self.tokens[old..]);
        }
    }

    /// Shows the new tokens one by one; those after the one that ends the output are dropped.
    fn push_output(&mut self, engine: &Engine, sink: &mut dyn FnMut(MemberId, &str) -> Flow) {
        let mut sink = |text: &str| sink(self.id, text);
        let tokenizer = &engine.model().tokenizer;
        while self.known < self.tokens.len() && self.output.reason.is_none() {
            let token = self.tokens[self.known];
            self.known += 1;
            self.output.push(tokenizer, &self.request, token, (self.known, engine.context()), &mut sink);
        }
        self.tokens.truncate(self.known);
        if self.output.reason.is_some() {
            self.output.finish(&mut sink);
        }
    }

    /// Forgets the drafts of a step that failed.
    pub(super) fn drop_drafts(&mut self) {
        self.tokens.truncate(self.known);
    }

    /// What it has generated, and its sequence.
    pub(super) fn finish(self, engine: &Engine) -> (Completion, Sequence) {
        let plan = if self.output.ids.is_empty() { String::new() } else { engine.decode_plan(&self.request) };
        let stop_reason = self.output.reason.unwrap_or(StopReason::Cancelled);
        let Output { ids, text, .. } = self.output;
        let completion = Completion { ids, text, stop_reason, timing: self.timing, plan, speculation: self.stats };
        (completion, self.sequence)
    }
}
