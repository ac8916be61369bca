//! A member's share of a turn: the rows that it runs in one step.
//!
//! These are a chunk of its prompt, or its last token and the drafts after it. A share names its member by index and
//! changes nothing of the member's text, so a step that fails is undone by dropping its shares and their pages.

use super::member::Member;
use crate::limits::SNAPSHOT_POSITIONS;
use crate::request::Speculation;
use crate::{Engine, EngineError};
use aio_orchestrator::{Candidate, DrafterKind, Match, Outcome as Lesson};
use aio_plan::{Clock, StepTime};
use std::ops::Range;

/// See the module docs.
#[derive(Debug)]
pub(super) struct Share {
    /// The member's index in the batch.
    pub member: usize,
    speculation: Speculation,
    /// Positions of its tokens, excluding drafts.
    chunk: Range<usize>,
    /// Number of its tokens.
    text: usize,
    /// Drafts found; the first `drafts` are in the step.
    offer: Vec<u32>,
    drafts: usize,
    /// The match that the drafts are based on.
    matched: Match,
    /// Number of drafts found, or that a model could make.
    available: usize,
    /// Time that a draft model took for those in the step.
    drafting: Option<StepTime>,
    /// With drafts: the tokens from position `window_start` on that rows look back on, then the drafts.
    window: Vec<u32>,
    window_start: usize,
    /// Positions that the sequence had room for before the turn, and with the chunk.
    reserved: [usize; 2],
}

/// A member's result of a step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    /// Number of accepted drafts.
    pub accepted: usize,
    /// The token after them, or [`NO_TOKEN`](aio_ir::sampling::NO_TOKEN). Meaningless while prompt is left.
    pub next: u32,
}

impl Share {
    /// The share of the member at `index`: one row, and what up to `most` drafts there are. A model's drafts are only
    /// counted here, and made once they are chosen. The step that gives the first token belongs to the prompt and has
    /// no drafts.
    pub(super) fn new(index: usize, member: &mut Member, engine: &Engine, most: usize) -> Share {
        let (start, held) = (member.sequence.len(), member.sequence.reserved());
        let mut share = Share {
            member: index,
            speculation: member.request.speculation,
            chunk: start..start + 1,
            text: member.tokens.len(),
            offer: Vec::new(),
            drafts: 0,
            matched: Match::default(),
            available: 0,
            drafting: None,
            window: Vec::new(),
            window_start: 0,
            reserved: [held; 2],
        };
        share.look_ahead(member, engine, most.min(member.most_drafts(engine.context())));
        share
    }

    fn look_ahead(&mut self, member: &mut Member, engine: &Engine, most: usize) {
        if most == 0 || !member.has_output() || !self.samples() {
            return;
        }
        let Some(drafter) = &member.drafter else { return };
        self.available = most.min(drafter.most());
        // A draft model always has a draft, so its match lengths carry no information.
        self.matched = Match { len: 1 };
        if drafter.kind() == DrafterKind::Text {
            self.draft(member, engine, self.available);
            self.available = self.offer.len();
        }
    }

    /// Fills `offer` with up to `count` drafts.
    fn draft(&mut self, member: &mut Member, engine: &Engine, count: usize) {
        self.offer.clear();
        let Some(drafter) = member.drafter.as_mut().filter(|_| count > 0) else { return };
        match drafter.draft(count, &mut self.offer) {
            Ok(matched) => self.matched = matched,
            Err(error) => {
                member.give_up(&error);
                self.offer.clear();
                self.available = 0;
            }
        }
        // A caller's drafter is not trusted to respect the number of rows or the vocabulary.
        self.offer.truncate(count);
        let vocabulary = engine.model().hyper.vocab_size;
        let known = self.offer.iter().take_while(|&&t| t < vocabulary).count();
        self.offer.truncate(known);
    }

    /// Number of drafts that the request fixes.
    pub(super) fn fixed(&self) -> u32 {
        match self.speculation {
            Speculation::Fixed(k) => k.min(self.available) as u32,
            Speculation::Off | Speculation::Auto => 0,
        }
    }

    /// Whether the speculator chooses its drafts.
    pub(super) fn is_auto(&self) -> bool {
        self.speculation == Speculation::Auto
    }

    /// Drops the drafts of a drafter whose times cannot be weighed against those of steps.
    pub(super) fn keep_to(&mut self, steps: Clock, member: &mut Member) {
        if !member.keep_to(steps) {
            self.offer.clear();
            (self.available, self.matched) = (0, Match::default());
        }
    }

    /// The input for the choice of drafts. `fixed` is the number of drafts of a member that does not use `auto`.
    pub(super) fn candidate<'a>(&self, member: &'a Member, fixed: u32) -> Candidate<'a> {
        let drafts = if self.is_auto() { self.available as u32 } else { fixed };
        let each = member.drafter.as_ref().and_then(|d| d.time_per_token());
        let seconds_per_draft = each.map_or(0.0, StepTime::seconds);
        Candidate { acceptance: &member.acceptance, matched: self.matched, drafts, fixed, seconds_per_draft }
    }

    /// Puts the first `count` drafts into the step. A draft model makes them now.
    pub(super) fn take_drafts(&mut self, member: &mut Member, engine: &Engine, count: usize) {
        let count = count.min(self.available);
        if count > 0 && member.drafter.as_ref().is_some_and(|d| d.kind() == DrafterKind::Model) {
            self.draft(member, engine, count);
            self.drafting = member.drafter.as_ref().and_then(|d| d.last_time());
        }
        self.drafts = count.min(self.offer.len());
        if self.drafts > 0 {
            self.fill_window(member);
        }
    }

    /// Time that a draft model took for the drafts in the step.
    pub(super) fn drafting(&self) -> Option<StepTime> {
        self.drafting
    }

    /// Copies what the rows of drafts look back on: recent tokens, and for a mask the whole output.
    fn fill_window(&mut self, member: &Member) {
        let recent = self.text - member.request.sampling.repeat_last_n.min(self.text);
        let output = if member.request.mask.is_some() { member.request.prompt.len() } else { self.text };
        self.window_start = recent.min(output);
        self.window.extend_from_slice(&member.tokens[self.window_start..]);
        self.window.extend_from_slice(&self.offer[..self.drafts]);
    }

    /// Adds up to `spare` pending rows of the prompt to the chunk. With `snapshots` a chunk in the middle of the prompt
    /// ends where a snapshot is kept, if it reaches that far.
    pub(super) fn take_chunk(&mut self, spare: &mut usize, snapshots: bool) {
        let mut end = self.text.min(self.chunk.end + *spare);
        if snapshots && end < self.text && end - end % SNAPSHOT_POSITIONS >= self.chunk.end {
            end -= end % SNAPSHOT_POSITIONS;
        }
        *spare -= end - self.chunk.end;
        self.chunk.end = end;
    }

    /// Reserves pages for the chunk.
    ///
    /// # Errors
    /// See [`Engine::reserve`].
    pub(super) fn reserve(&mut self, member: &mut Member, engine: &Engine) -> Result<(), EngineError> {
        engine.reserve(&mut member.sequence, self.chunk.end)?;
        self.reserved[1] = member.sequence.reserved();
        Ok(())
    }

    /// Reserves pages for the drafts too, or drops the drafts if the pool is full.
    ///
    /// # Errors
    /// The errors of [`Engine::reserve`], except a full pool.
    pub(super) fn reserve_drafts(&mut self, member: &mut Member, engine: &Engine) -> Result<(), EngineError> {
        if self.drafts == 0 {
            return Ok(());
        }
        match engine.reserve(&mut member.sequence, self.rows().end) {
            Err(EngineError::PoolFull { .. }) => {
                self.drafts = 0;
                Ok(())
            }
            reserved => reserved,
        }
    }

    /// Lets the drafter read the prompt, in the step that ends it.
    pub(super) fn prepare(&self, member: &mut Member, engine: &Engine) {
        if member.has_output() || !self.samples() || member.most_drafts(engine.context()) == 0 {
            return;
        }
        if let Some(Err(error)) = member.drafter.as_mut().map(|d| d.prepare()) {
            member.give_up(&error);
        }
    }

    /// Returns the pages that only rejected or unused drafts needed.
    pub(super) fn trim(&self, member: &mut Member) {
        member.sequence.trim(member.tokens.len().max(self.reserved[1]));
    }

    /// Returns the pages that the turn reserved, and the recurrent state of steps that ran.
    pub(super) fn abandon(&self, member: &mut Member) {
        member.sequence.trim(self.reserved[0]);
        member.sequence.unstage();
    }

    /// Positions of the step's rows, including drafts.
    pub(super) fn rows(&self) -> Range<usize> {
        self.chunk.start..self.chunk.end + self.drafts
    }

    /// Number of the member's tokens before the step.
    pub(super) fn text(&self) -> usize {
        self.text
    }

    /// The drafts in the step.
    pub(super) fn drafts(&self) -> &[u32] {
        &self.offer[..self.drafts]
    }

    /// Position of the first row whose sample counts: the last token's, or the last row of a chunk.
    pub(super) fn first_out(&self) -> usize {
        self.chunk.end - 1
    }

    /// Whether the step's sample is the next token, because no prompt is left.
    pub(super) fn samples(&self) -> bool {
        self.chunk.end == self.text
    }

    /// The end of the text up to and including `position`, a draft's or one of `tokens`, the member's. It has all that
    /// the row looks back on.
    fn up_to<'a>(&'a self, tokens: &'a [u32], position: usize) -> &'a [u32] {
        if position < self.text { &tokens[..=position] } else { &self.window[..=position - self.window_start] }
    }

    /// The token at a position, and those before it that the row looks back on.
    pub(super) fn prefix<'a>(&'a self, tokens: &'a [u32], position: usize) -> (u32, &'a [u32]) {
        let prefix = self.up_to(tokens, position);
        (prefix[prefix.len() - 1], prefix)
    }

    /// The output up to and including `position`, for a mask, which is in the window then.
    pub(super) fn output<'a>(&'a self, tokens: &'a [u32], prompt: usize, position: usize) -> &'a [u32] {
        let prefix = self.up_to(tokens, position);
        &prefix[prefix.len() - (position + 1 - prompt)..]
    }

    /// What the speculator can learn from the step just taken, which added tokens to the member's text.
    pub(super) fn lesson<'a>(&self, member: &'a mut Member) -> Lesson<'a> {
        let (offered, drafted) = (self.offer.len() as u32, self.drafts as u32);
        let new = &member.tokens[self.text..];
        let agreed = self.offer.iter().zip(new).take_while(|(a, b)| a == b).count() as u32;
        let produced = new.len() as u32;
        let fixed = if self.is_auto() { 0 } else { drafted };
        let acceptance = &mut member.acceptance;
        Lesson { acceptance, matched: self.matched, offered, drafted, fixed, produced, agreed }
    }
}
