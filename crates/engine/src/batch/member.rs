//! A member of a batch: one sequence with its tokens, drafts and output.

use super::SpeculationStats;
use crate::flow::Flow;
use crate::output::Output;
use crate::request::{Completion, Request, Speculation, StopReason, Timing};
use crate::{Engine, EngineError, Sequence};
use aio_ir::PAGE_POSITIONS;
use aio_ir::sampling::NO_TOKEN;
use aio_orchestrator::{
    Acceptance, Candidate, DraftError, Drafter, DrafterKind, Match, Outcome as Lesson, SuffixDrafter,
};
use std::fmt;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Identifies a member of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberId(pub(super) u64);

pub(super) struct Member {
    pub id: MemberId,
    pub request: Request,
    pub sequence: Sequence,
    /// Prompt and output, followed by the drafts during a step.
    pub tokens: Vec<u32>,
    /// Number of `tokens` that are not drafts.
    pub committed: usize,
    /// End of the positions that this step runs, excluding drafts; at most `known`.
    end: usize,
    pub(super) drafter: Option<Box<dyn Drafter>>,
    /// Acceptance statistics of its drafts.
    acceptance: Acceptance,
    /// Drafts found for this step, taken or not, and the match they are based on.
    offer: Vec<u32>,
    matched: Match,
    /// Number of drafts found, or that a model could make.
    available: usize,
    /// Whether the caller chose the drafter.
    pub(super) own_drafter: bool,
    /// Size of the vocabulary.
    vocabulary: u32,
    /// Pages that the sequence had or needed before this step's drafts.
    pages: usize,
    /// Whether it took part in the last step.
    pub ran: bool,
    /// Number of drafts in the last step, and number of tokens before it.
    drafted: usize,
    before: usize,
    pub(super) output: Output,
    pub(super) stats: SpeculationStats,
    pub(super) timing: Timing,
    began: Option<Instant>,
    pub(super) first_token: Option<Instant>,
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("id", &self.id).field("tokens", &self.committed).finish_non_exhaustive()
    }
}

/// The result of a step for a member.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    /// Number of accepted drafts.
    pub accepted: usize,
    /// The token after them, or [`NO_TOKEN`]. Meaningless while prompt is left.
    pub next: u32,
}

impl Member {
    /// A member for a request. If the request speculates, it gets the caller's drafter or else a suffix automaton.
    pub(super) fn new(
        engine: &Engine,
        id: MemberId,
        request: Request,
        mut sequence: Sequence,
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
        let (committed, output) = (tokens.len(), Output::new(&request));
        if output.reason.is_none() {
            // The last token always runs, for its logits.
            sequence.commit(sequence.len().min(committed.saturating_sub(1)));
        }
        let (stats, timing) = (SpeculationStats::default(), Timing::default());
        Member {
            id,
            request,
            sequence,
            tokens,
            committed,
            end: 0,
            drafter,
            acceptance: engine.speculator.sequence(kind),
            offer: Vec::new(),
            matched: Match::default(),
            available: 0,
            own_drafter,
            vocabulary: engine.model().hyper.vocab_size,
            pages: 0,
            ran: false,
            drafted: 0,
            before: committed,
            output,
            stats,
            timing,
            began: None,
            first_token: None,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.output.is_open()
    }

    /// Plans one pending row, plus up to `spare` more.
    pub(super) fn plan_chunk(&mut self, spare: &mut usize) {
        self.began.get_or_insert_with(Instant::now);
        let pending = self.committed - self.sequence.len();
        let more = (pending - 1).min(*spare);
        self.end = self.sequence.len() + 1 + more;
        *spare -= more;
    }

    /// Whether this step runs only the last token, so that drafts may follow it.
    pub(super) fn decodes(&self) -> bool {
        self.sequence.len() + 1 == self.committed
    }

    /// Lets the drafter read the prompt, in the step that ends it.
    pub(super) fn prepare(&mut self, context: usize) {
        let most = self.most_drafts(context);
        if self.first_token.is_some() || !self.samples() || most == 0 {
            return;
        }
        if let Some(Err(error)) = self.drafter.as_mut().map(|d| d.prepare()) {
            self.give_up(&error);
        }
    }

    /// Finds up to `most` drafts for this step. Drafts of a model are only counted here, and made once they are chosen.
    /// The step that gives the first token belongs to the prompt and has no drafts.
    pub(super) fn look_ahead(&mut self, context: usize, most: usize) {
        debug_assert_eq!(self.tokens.len(), self.committed, "drafts of the last step are gone");
        self.offer.clear();
        self.available = 0;
        let most = most.min(self.most_drafts(context));
        if most == 0 || self.first_token.is_none() || !self.decodes() {
            return;
        }
        let Some(drafter) = &mut self.drafter else { return };
        self.available = most.min(drafter.most());
        // A draft model always has a draft, so its match lengths carry no information.
        self.matched = Match { len: 1 };
        if drafter.kind() == DrafterKind::Text {
            self.draft(self.available);
            self.available = self.offer.len();
        }
    }

    /// Maximum drafts that this step or the next may have.
    fn most_drafts(&self, context: usize) -> usize {
        let limit = match self.request.speculation {
            Speculation::Off => 0,
            Speculation::Fixed(k) => k,
            Speculation::Auto => usize::MAX,
        };
        limit.min(context - self.committed).min(self.output.left().saturating_sub(1))
    }

    /// Fills `offer` with up to `count` drafts.
    fn draft(&mut self, count: usize) {
        self.offer.clear();
        let Some(drafter) = self.drafter.as_mut().filter(|_| count > 0) else { return };
        match drafter.draft(count, &mut self.offer) {
            Ok(matched) => self.matched = matched,
            Err(error) => return self.give_up(&error),
        }
        // A caller's drafter is not trusted to respect the number of rows or the vocabulary.
        self.offer.truncate(count);
        let known = self.offer.iter().take_while(|&&t| t < self.vocabulary).count();
        self.offer.truncate(known);
    }

    /// Drops a drafter that failed.
    fn give_up(&mut self, error: &DraftError) {
        self.drafter = None;
        self.offer.clear();
        self.available = 0;
        self.stats.failure = Some(error.to_string());
    }

    /// Number of drafts that the request fixes.
    pub(super) fn fixed_drafts(&self) -> u32 {
        match self.request.speculation {
            Speculation::Fixed(k) => k.min(self.available) as u32,
            Speculation::Off | Speculation::Auto => 0,
        }
    }

    /// The output so far.
    pub(super) fn generated(&self) -> &[u32] {
        &self.tokens[self.request.prompt.len()..self.committed]
    }

    /// The input for the choice of drafts. `fixed` is the number of drafts of a member that does not use `auto`.
    pub(super) fn candidate(&self, fixed: u32) -> Candidate<'_> {
        let drafts = if self.request.speculation == Speculation::Auto { self.available as u32 } else { fixed };
        let seconds = self.drafter.as_ref().map_or(0.0, |d| d.seconds_per_token());
        let (acceptance, matched) = (&self.acceptance, self.matched);
        Candidate { acceptance, matched, drafts, fixed, seconds_per_draft: seconds }
    }

    /// Appends the first `count` drafts to the tokens. Returns the seconds that a draft model took for them.
    pub(super) fn take_drafts(&mut self, count: usize) -> f64 {
        let count = count.min(self.available);
        let started = Instant::now();
        let model = count > 0 && self.drafter.as_ref().is_some_and(|d| d.kind() == DrafterKind::Model);
        if model {
            self.draft(count);
        }
        self.tokens.extend_from_slice(&self.offer[..count.min(self.offer.len())]);
        if model { started.elapsed().as_secs_f64() } else { 0.0 }
    }

    /// Reserves pages for the rows of this step, excluding drafts.
    ///
    /// # Errors
    /// See [`Engine::reserve`].
    pub(super) fn reserve(&mut self, engine: &mut Engine) -> Result<(), EngineError> {
        engine.reserve(&mut self.sequence, self.end)?;
        self.pages = self.sequence.pages().len();
        Ok(())
    }

    /// Reserves pages for the drafts too, or drops the drafts if the pool is full.
    ///
    /// # Errors
    /// The errors of [`Engine::reserve`], except a full pool.
    pub(super) fn reserve_drafts(&mut self, engine: &mut Engine) -> Result<(), EngineError> {
        if self.drafts() == 0 {
            return Ok(());
        }
        let end = self.rows().end;
        match engine.reserve(&mut self.sequence, end) {
            Err(EngineError::PoolFull { .. }) => self.tokens.truncate(self.committed),
            reserved => reserved?,
        }
        Ok(())
    }

    /// Releases pages that only rejected or unused drafts needed.
    fn trim(&mut self, engine: &mut Engine) {
        let positions = self.committed.max(self.pages * PAGE_POSITIONS as usize);
        engine.trim(&mut self.sequence, positions);
    }

    /// What the speculator can learn from the step just taken.
    pub(super) fn lesson(&mut self) -> Lesson<'_> {
        let (offered, drafted) = (self.offer.len() as u32, self.drafted as u32);
        let new = &self.tokens[self.before..];
        let agreed = self.offer.iter().zip(new).take_while(|(a, b)| a == b).count() as u32;
        let produced = new.len() as u32;
        let fixed = if self.request.speculation == Speculation::Auto { 0 } else { drafted };
        Lesson { acceptance: &mut self.acceptance, matched: self.matched, offered, drafted, fixed, produced, agreed }
    }

    /// Positions of this step, including drafts.
    pub(super) fn rows(&self) -> Range<usize> {
        self.sequence.len()..self.end + self.drafts()
    }

    /// Number of drafts in this step.
    pub(super) fn drafts(&self) -> usize {
        self.tokens.len() - self.committed
    }

    /// Position of the first row whose sample counts: the last token's, or the last row of a chunk.
    pub(super) fn first_out(&self) -> usize {
        self.end - 1
    }

    /// Whether the step's sample is the next token, because no prompt is left.
    pub(super) fn samples(&self) -> bool {
        self.end == self.committed
    }

    /// Adds the mask and bias for the token after position `at` to `bias`, which must be all zeros.
    pub(super) fn bias(&self, at: usize, bias: &mut [f32]) {
        let prompt = self.request.prompt.len();
        // In the middle of the prompt the sampled token is ignored, so the mask is not called.
        if let Some(mask) = self.request.mask.as_ref().filter(|_| at + 1 >= prompt) {
            mask.bias(&self.tokens[prompt..=at], bias);
        }
        for (sum, x) in bias.iter_mut().zip(self.request.logit_bias.iter().flatten()) {
            *sum += x;
        }
    }

    pub(super) fn has_bias(&self) -> bool {
        self.request.mask.is_some() || self.request.logit_bias.is_some()
    }

    /// Applies the outcome of a step.
    pub(super) fn take(&mut self, engine: &mut Engine, outcome: Outcome, sink: &mut dyn FnMut(MemberId, &str) -> Flow) {
        self.output.steps += 1;
        if !self.samples() {
            self.sequence.commit(self.end);
            if sink(self.id, "") == Flow::Stop {
                self.output.reason = Some(StopReason::Cancelled);
            }
            return;
        }
        let now = Instant::now();
        let first = self.first_token.is_none();
        if let Some(began) = self.first_token {
            self.timing.decode = now - began;
            self.timing.decode_steps += 1;
        } else {
            self.timing.prefill = self.began.map_or(Duration::ZERO, |began| now - began);
            self.first_token = Some(now);
        }
        (self.drafted, self.before) = (self.drafts(), self.committed);
        let old = self.committed;
        self.tokens.truncate(old + outcome.accepted);
        self.tokens.extend(Some(outcome.next).filter(|&t| t != NO_TOKEN));
        self.push_output(engine, sink);
        if outcome.next == NO_TOKEN && self.is_running() {
            self.output.fail(self.committed - 1, &mut |text| sink(self.id, text));
        }
        if !first {
            // Drafts after the end of the output were never compared, so they do not count.
            let new = self.committed - old;
            self.stats.add(self.drafted, outcome.accepted.min(new), new <= outcome.accepted);
        }
        self.sequence.commit(self.committed - 1);
        if self.drafted > 0 {
            self.trim(engine);
        }
        if let Some(drafter) = &mut self.drafter {
            drafter.extend(&self.tokens[old..]);
        }
    }

    /// Emits the new tokens one by one, dropping those after the one that ends the output.
    fn push_output(&mut self, engine: &Engine, sink: &mut dyn FnMut(MemberId, &str) -> Flow) {
        let mut sink = |text: &str| sink(self.id, text);
        let tokenizer = &engine.model().tokenizer;
        while self.committed < self.tokens.len() && self.is_running() {
            let token = self.tokens[self.committed];
            self.committed += 1;
            self.output.push(tokenizer, &self.request, token, (self.committed, engine.context()), &mut sink);
        }
        self.tokens.truncate(self.committed);
        if self.output.reason.is_some() {
            self.output.finish(&mut sink);
        }
    }

    /// Drops the drafts of a failed step and their pages.
    pub(super) fn drop_drafts(&mut self, engine: &mut Engine) {
        self.ran = false;
        if self.drafts() > 0 {
            self.tokens.truncate(self.committed);
            self.trim(engine);
        }
    }

    /// Ends without a completion and releases its pages.
    pub(super) fn abandon(mut self, engine: &mut Engine) {
        engine.release(&mut self.sequence);
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
