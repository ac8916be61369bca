//! A member of a batch: the text of one sequence, who drafts for it, and where its output ends.
//!
//! What it runs in one step is a [`Share`](super::share::Share) of that step's turn. The member changes only when the
//! turn is settled.

use super::SpeculationStats;
use crate::flow::Flow;
use crate::output::Output;
use crate::request::{Completion, Request, Speculation, StopReason, Timing};
use crate::{Engine, EngineError, Sequence};
use aio_orchestrator::{Acceptance, Drafter, DrafterKind, SuffixDrafter};
use aio_plan::{Clock, StepTime};
use std::fmt;
use std::time::{Duration, Instant};

/// Identifies a member of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberId(pub(super) u64);

pub(super) struct Member {
    pub id: MemberId,
    pub request: Request,
    pub sequence: Sequence,
    /// Prompt and output.
    pub tokens: Vec<u32>,
    pub drafter: Option<Box<dyn Drafter>>,
    /// Whether the caller chose the drafter.
    pub own_drafter: bool,
    /// Acceptance statistics of its drafts.
    pub acceptance: Acceptance,
    pub output: Output,
    pub stats: SpeculationStats,
    pub timing: Timing,
    began: Option<Instant>,
    first_token: Option<Instant>,
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("id", &self.id).field("tokens", &self.tokens.len()).finish_non_exhaustive()
    }
}

impl Member {
    /// A member for a request. If the request speculates, it gets the caller's drafter or else a suffix automaton. The
    /// committed positions of `sequence` hold the first tokens of the prompt, at most all but the last.
    pub(super) fn new(
        engine: &Engine,
        id: MemberId,
        request: Request,
        sequence: Sequence,
        drafter: Option<Box<dyn Drafter>>,
    ) -> Member {
        let wanted = request.speculation != Speculation::Off;
        let own_drafter = wanted && drafter.is_some();
        let mut drafter = drafter.or_else(|| Some(Box::new(SuffixDrafter::default()) as _)).filter(|_| wanted);
        let kind = drafter.as_ref().map_or(DrafterKind::Text, |d| d.kind());
        let tokens = request.prompt.clone();
        if let Some(drafter) = &mut drafter {
            drafter.extend(&tokens);
        }
        Member {
            id,
            output: Output::new(&request),
            request,
            sequence,
            tokens,
            drafter,
            own_drafter,
            acceptance: engine.speculating().sequence(kind),
            stats: SpeculationStats::default(),
            timing: Timing::default(),
            began: None,
            first_token: None,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.output.is_open()
    }

    /// Whether only the last token is left to run, so that drafts may follow it.
    pub(super) fn decodes(&self) -> bool {
        self.sequence.len() + 1 == self.tokens.len()
    }

    /// Whether the output has a token. The step that gives the first one belongs to the prompt.
    pub(super) fn has_output(&self) -> bool {
        self.first_token.is_some()
    }

    /// Maximum drafts that the next step may have.
    pub(super) fn most_drafts(&self, context: usize) -> usize {
        let limit = match self.request.speculation {
            Speculation::Off => 0,
            Speculation::Fixed(k) => k,
            Speculation::Auto => usize::MAX,
        };
        limit.min(context - self.tokens.len()).min(self.output.left().saturating_sub(1))
    }

    /// Drops a drafter that failed.
    pub(super) fn give_up(&mut self, error: &dyn fmt::Display) {
        self.drafter = None;
        self.stats.failure = Some(error.to_string());
    }

    /// Gives up a drafter whose times come from another clock than those of steps, since they cannot be weighed against
    /// each other. Returns whether it stays.
    pub(super) fn keep_to(&mut self, steps: Clock) -> bool {
        let time = self.drafter.as_ref().and_then(|d| d.time_per_token().or(d.last_time()));
        let Some(drafts) = time.map(StepTime::clock).filter(|drafts| *drafts != steps) else { return true };
        self.give_up(&format_args!("times of its drafts are {drafts}, those of steps {steps}"));
        false
    }

    /// The output so far.
    pub(super) fn generated(&self) -> &[u32] {
        &self.tokens[self.request.prompt.len()..]
    }

    pub(super) fn has_bias(&self) -> bool {
        self.request.mask.is_some() || self.request.logit_bias.is_some()
    }

    /// Notes that its first step is about to start.
    pub(super) fn begin(&mut self) {
        self.began.get_or_insert_with(Instant::now);
    }

    /// Notes that a step ended with tokens. Returns whether these were the first.
    pub(super) fn tick(&mut self) -> bool {
        let now = Instant::now();
        if let Some(began) = self.first_token {
            self.timing.decode = now - began;
            return false;
        }
        self.timing.prefill = self.began.map_or(Duration::ZERO, |began| now - began);
        self.first_token = Some(now);
        true
    }

    /// Ends the output if the receiver of the text wants so, after a step without a token.
    pub(super) fn ask(&mut self, sink: &mut dyn FnMut(MemberId, &str) -> Flow) {
        if sink(self.id, "") == Flow::Stop {
            self.output.reason = Some(StopReason::Cancelled);
        }
    }

    /// Adds new tokens one by one, dropping those after the one that ends the output. Returns how many were added.
    pub(super) fn push(
        &mut self,
        engine: &Engine,
        new: impl Iterator<Item = u32>,
        sink: &mut dyn FnMut(MemberId, &str) -> Flow,
    ) -> usize {
        if !self.is_running() {
            return 0;
        }
        let old = self.tokens.len();
        let mut sink = |text: &str| sink(self.id, text);
        let tokenizer = &engine.model().tokenizer;
        for token in new {
            if !self.output.is_open() {
                break;
            }
            self.tokens.push(token);
            let size = (self.tokens.len(), engine.context());
            self.output.push(tokenizer, &self.request, token, size, &mut sink);
        }
        if self.output.reason.is_some() {
            self.output.finish(&mut sink);
        }
        self.tokens.len() - old
    }

    /// Ends the output because the row of its last token gave none.
    pub(super) fn fail(&mut self, sink: &mut dyn FnMut(MemberId, &str) -> Flow) {
        self.output.fail(self.tokens.len() - 1, &mut |text| sink(self.id, text));
    }

    /// Commits positions that have run, or fewer if the recurrent state was not kept: drafts that ran one by one leave
    /// only the state after the last one. If it fails otherwise, the error ends the output.
    pub(super) fn commit(&mut self, len: usize) {
        let committed = match self.sequence.commit(len) {
            Err(EngineError::NoState { nearest, .. }) => self.sequence.commit(nearest),
            committed => committed,
        };
        if let Err(error) = committed {
            self.output.failure = Some(error);
        }
    }

    /// Shows the drafter the last `count` tokens.
    pub(super) fn teach_drafter(&mut self, count: usize) {
        if let Some(drafter) = &mut self.drafter {
            drafter.extend(&self.tokens[self.tokens.len() - count..]);
        }
    }

    /// The completion, or the error that ended it, and the sequence.
    pub(super) fn finish(self, engine: &Engine) -> (Result<Completion, EngineError>, Sequence) {
        if let Some(failure) = self.output.failure {
            return (Err(failure), self.sequence);
        }
        let plan = if self.output.ids.is_empty() { String::new() } else { engine.decode_plan(&self.request) };
        let stop_reason = self.output.reason.unwrap_or(StopReason::Cancelled);
        let Output { ids, text, .. } = self.output;
        let completion = Completion { ids, text, stop_reason, timing: self.timing, plan, speculation: self.stats };
        (Ok(completion), self.sequence)
    }
}
