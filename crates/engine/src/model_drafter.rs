//! Drafts from a smaller model with the same tokenizer.
//!
//! The vocabularies may differ in length, since models of a family may be padded to different sizes. Tokens that both
//! have must agree. Others are never drafted, and the draft model reads a stand-in for tokens it lacks.
//!
//! It samples with the request's own parameters and noise, so where the two models agree on the probabilities they draw
//! the same token, at any temperature. Drafts that were accepted are already in its cache.

use crate::step::{Step, StepRow, StepWants};
use crate::{Engine, EngineError, OutputBuffer, Sampling, Sequence};
use aio_ir::sampling::NO_TOKEN;
use aio_model::tokenizer::Vocab;
use aio_orchestrator::{DraftError, Drafter, DrafterKind, Match};
use aio_plan::{Clock, StepTime};
use std::sync::Arc;
use std::time::Instant;

/// Weight of the newest measurement in the moving average of the cost of a drafted token.
const NEWEST: f64 = 0.2;

/// Drafts for one sequence. Several drafters may share the model.
#[derive(Debug)]
pub struct ModelDrafter {
    engine: Arc<Engine>,
    sampling: Sampling,
    /// The committed tokens followed by the last drafts.
    text: Vec<u32>,
    /// Number of committed tokens.
    committed: usize,
    /// The cache.
    sequence: Sequence,
    /// Number of positions at the start of the cache that hold the tokens of `text`.
    valid: usize,
    outputs: OutputBuffer,
    common: Common,
    /// Time that the device gave for the steps of the last draft.
    steps: Option<StepTime>,
    /// Time of the last draft.
    last: Option<StepTime>,
    /// Average time of a drafted token.
    each: Option<StepTime>,
}

impl ModelDrafter {
    /// Drafts with `engine` for a request to `target`. `sampling` should be the request's; with any other the drafts
    /// are worse. Several drafters may share an engine that was loaded for that many sequences.
    ///
    /// # Errors
    /// [`EngineError::DraftModel`] if a token id that both vocabularies have differs.
    pub fn new(engine: Arc<Engine>, target: &Engine, sampling: Sampling) -> Result<ModelDrafter, EngineError> {
        let common = Common::of(engine.model().tokenizer.vocab(), target.model().tokenizer.vocab())?;
        let (text, sequence, outputs) = (Vec::new(), Sequence::new(), OutputBuffer::new());
        let (committed, valid) = (0, 0);
        let [steps, last, each] = [None; 3];
        Ok(ModelDrafter { engine, sampling, text, committed, sequence, valid, outputs, common, steps, last, each })
    }

    /// Drafts up to `max` tokens after the committed ones, stopping at a token that the target does not have.
    fn run(&mut self, max: usize, out: &mut Vec<u32>) -> Result<(), EngineError> {
        self.text.truncate(self.committed);
        // The last token always runs, for its logits.
        self.valid = self.sequence.rewind(self.valid.min(self.committed - 1));
        for _ in 0..max.min(self.most()) {
            let token = self.next()?;
            if token >= self.common.tokens {
                break;
            }
            self.text.push(token);
            out.push(token);
        }
        Ok(())
    }

    /// Runs the part of the text that is not cached and returns the next token.
    ///
    /// Recurrent state cannot be cut at any length. So only the committed tokens before the last one are committed to the
    /// sequence; the last token and the drafts run as steps that continue each other.
    fn next(&mut self) -> Result<u32, EngineError> {
        let ModelDrafter { engine, sequence, valid, text, sampling, outputs, committed, steps, .. } = self;
        let certain = if engine.is_recurrent() { *committed - 1 } else { usize::MAX };
        engine.reserve(sequence, text.len())?;
        loop {
            let from = *valid;
            let limit = if from < certain { text.len().min(certain) } else { text.len() };
            let end = (from + engine.prefill_rows()).min(limit);
            let wants = |p| match p + 1 == text.len() {
                true => StepWants::Token { sampling, recent: text, bias: None },
                false => StepWants::Nothing,
            };
            let rows: Vec<_> =
                (from..end).map(|p| StepRow { token: text[p], sequence: 0, position: p, wants: wants(p) }).collect();
            let step = Step { sequences: &mut [&mut *sequence], rows: &rows, drafts: &[] };
            let (outputs, time) = engine.timed_step(step, outputs)?;
            let token = outputs.tokens().and_then(|t| t.first().copied());
            *steps = steps.map_or(Some(time), |sum| sum.checked_add(time));
            if end <= certain {
                sequence.commit(end)?;
            }
            *valid = end;
            match token {
                Some(NO_TOKEN) => return Err(EngineError::NoToken { step: 1, position: end - 1 }),
                Some(token) => return Ok(token),
                None => {}
            }
        }
    }
}

/// The tokens that two vocabularies share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Common {
    /// Number of common tokens: all ids below this one.
    tokens: u32,
    /// The token that the draft model reads in place of one that only the target has.
    stand_in: u32,
}

impl Common {
    /// Checks that the common tokens agree. Tokens that are padding in both vocabularies may differ.
    fn of(draft: &Vocab, target: &Vocab) -> Result<Common, EngineError> {
        let tokens = draft.len().min(target.len()) as u32;
        match draft.first_difference(target) {
            None => Ok(Common { tokens, stand_in: draft.unknown().or(draft.eos()).unwrap_or(0) }),
            Some(id) => {
                let [a, b] = [draft, target].map(|v| v.text(id).unwrap_or("").to_owned());
                Err(EngineError::DraftModel { reason: format!("its token {id} is {a:?}, the model's {b:?}") })
            }
        }
    }

    /// The draft model's token for a token of the target.
    fn read(self, token: u32) -> u32 {
        if token < self.tokens { token } else { self.stand_in }
    }
}

impl Drafter for ModelDrafter {
    fn name(&self) -> &'static str {
        "model"
    }

    fn extend(&mut self, tokens: &[u32]) {
        for token in tokens.iter().map(|&token| self.common.read(token)) {
            if self.text.get(self.committed) != Some(&token) {
                self.text.truncate(self.committed);
                self.text.push(token);
                self.valid = self.valid.min(self.committed);
            }
            self.committed += 1;
        }
    }

    fn prepare(&mut self) -> Result<(), DraftError> {
        // The first draft runs the prompt. The second is typical of those to come, and is timed.
        let mut unused = Vec::new();
        for _ in 0..2 {
            self.each = None;
            self.draft(1, &mut unused)?;
        }
        Ok(())
    }

    fn most(&self) -> usize {
        self.engine.context().saturating_sub(self.committed)
    }

    fn draft(&mut self, max: usize, out: &mut Vec<u32>) -> Result<Match, DraftError> {
        if self.committed == 0 || max == 0 {
            return Ok(Match::default());
        }
        let (started, old) = (Instant::now(), out.len());
        (self.steps, self.last) = (None, None);
        if let Err(error) = self.run(max, out) {
            out.truncate(old);
            return Err(DraftError { drafter: self.name(), source: Box::new(error) });
        }
        let drafted = out.len() - old;
        // A measured draft includes the host's work between its steps. One that finds nothing costs its steps too.
        self.last = self.steps.map(|steps| match steps.clock() {
            Clock::Modelled => steps,
            Clock::Measured => StepTime::Measured(started.elapsed().as_secs_f64()),
        });
        let Some(took) = self.last.filter(|_| drafted > 0) else { return Ok(Match::default()) };
        let each = took.seconds() / drafted as f64;
        let average = |old: StepTime| (1.0 - NEWEST) * old.seconds() + NEWEST * each;
        self.each = Some(took.map(|_| self.each.map_or(each, average)));
        Ok(Match { len: 1 })
    }

    fn clear(&mut self) {
        self.text.clear();
        self.committed = 0;
        self.valid = 0;
        self.sequence.clear();
    }

    fn kind(&self) -> DrafterKind {
        DrafterKind::Model
    }

    fn last_time(&self) -> Option<StepTime> {
        self.last
    }

    fn time_per_token(&self) -> Option<StepTime> {
        self.each
    }
}
