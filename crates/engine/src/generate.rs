//! The generation loop: prefill in chunks, decode, stop, stream.

use crate::Engine;
use crate::request::{Completion, Request, StopReason, Timing};
use crate::step::{Step, StepRow, StepWants};
use crate::stop::{Scan, StopScanner};
use crate::{EngineError, Sequence};
use aio_model::tokenizer::StreamDecoder;
use std::time::Instant;

/// What a caller's sink says after each piece of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// End after this step.
    Stop,
}

impl Engine {
    /// Generates a continuation; `sink` gets each piece of text as soon as it is final (whole characters, no part of a
    /// stop string), at least once a step, and may end the run.
    ///
    /// # Errors
    /// [`EngineError::ContextOverflow`] and [`EngineError::EmptyPrompt`] before any step; device errors.
    pub fn generate(
        &mut self,
        request: &Request,
        sink: &mut dyn FnMut(&str) -> Flow,
    ) -> Result<Completion, EngineError> {
        let mut sequence = Sequence::new();
        let result = self.generate_in(&mut sequence, request, sink);
        self.release(&mut sequence);
        result
    }

    /// Like [`Engine::generate`], going on in a sequence whose committed positions hold the prompt's first tokens
    /// (chat turns). Afterwards the sequence holds prompt and output but for the last token; with `max_tokens` 0 nothing
    /// runs and it is as it was.
    ///
    /// # Errors
    /// As [`Engine::generate`].
    pub fn generate_in(
        &mut self,
        sequence: &mut Sequence,
        request: &Request,
        sink: &mut dyn FnMut(&str) -> Flow,
    ) -> Result<Completion, EngineError> {
        request.sampling.check()?;
        let (prompt, context) = (request.prompt.len(), self.context());
        if prompt == 0 {
            return Err(EngineError::EmptyPrompt);
        }
        if prompt >= context {
            return Err(EngineError::ContextOverflow { prompt, context });
        }
        let vocabulary = self.model().hyper.vocab_size as usize;
        if let Some(bias) = request.logit_bias.as_ref().filter(|b| b.len() != vocabulary) {
            let expected = "one number for each token of the vocabulary";
            return Err(EngineError::Option { name: "logit_bias", value: format!("{} numbers", bias.len()), expected });
        }
        let mut timing = Timing::default();
        let start = Instant::now();
        let mut history = request.prompt.clone();
        let mut cancelled = false;
        if request.max_tokens == Some(0) {
            let (ids, text, plan) = (Vec::new(), String::new(), String::new());
            return Ok(Completion { ids, text, stop_reason: StopReason::MaxTokens, timing, plan });
        }
        let mut next = self.prefill(sequence, request, &history, &mut || {
            cancelled = cancelled || sink("") == Flow::Stop;
            cancelled
        })?;
        timing.prefill = start.elapsed();
        let decoding = Instant::now();
        let mut output = Output::new(request);
        while let Some(token) = next {
            history.push(token);
            if let Some(reason) = output.push(self, request, token, &history, context, sink) {
                output.reason = reason;
                break;
            }
            next = Some(self.decode_row(sequence, request, &history)?);
            timing.decode_steps += 1;
        }
        timing.decode = decoding.elapsed();
        let plan = self.decode_plan(request);
        Ok(output.finish(timing, plan, sink))
    }

    /// Runs the prompt's uncommitted tokens and returns the first new one, or `None` if cancelled.
    fn prefill(
        &mut self,
        sequence: &mut Sequence,
        request: &Request,
        tokens: &[u32],
        cancelled: &mut dyn FnMut() -> bool,
    ) -> Result<Option<u32>, EngineError> {
        // The last token always runs, for its logits.
        let mut at = sequence.len().min(tokens.len() - 1);
        sequence.commit(at);
        self.reserve(sequence, tokens.len())?;
        while at < tokens.len() {
            let end = (at + self.prefill_rows()).min(tokens.len());
            let last = end == tokens.len();
            let rows: Vec<_> = (at..end)
                .map(|p| {
                    let ask = StepWants::Token {
                        sampling: &request.sampling,
                        recent: tokens,
                        bias: request.logit_bias.as_deref(),
                    };
                    let wants = if last && p + 1 == end { ask } else { StepWants::Nothing };
                    StepRow { token: tokens[p], sequence: 0, position: p, wants }
                })
                .collect();
            let sampled = self.step(&Step { sequences: &[sequence], rows: &rows })?;
            let sampled = sampled.first().copied();
            sequence.commit(end);
            at = end;
            if last {
                return Ok(sampled);
            }
            if cancelled() {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// Runs the newest token of the history and returns the next.
    fn decode_row(&mut self, sequence: &mut Sequence, request: &Request, history: &[u32]) -> Result<u32, EngineError> {
        let position = history.len() - 1;
        self.reserve(sequence, history.len())?;
        let wants =
            StepWants::Token { sampling: &request.sampling, recent: history, bias: request.logit_bias.as_deref() };
        let row = StepRow { token: history[position], sequence: 0, position, wants };
        let sampled = self.step(&Step { sequences: &[sequence], rows: &[row] })?[0];
        sequence.commit(history.len());
        Ok(sampled)
    }
}

/// The output as it grows.
struct Output<'a> {
    ids: Vec<u32>,
    text: String,
    decoder: StreamDecoder,
    scanner: StopScanner<'a>,
    limit: usize,
    reason: StopReason,
}

impl<'a> Output<'a> {
    fn new(request: &'a Request) -> Output<'a> {
        Output {
            ids: Vec::new(),
            text: String::new(),
            decoder: StreamDecoder::new(),
            scanner: StopScanner::new(&request.stop),
            limit: request.max_tokens.unwrap_or(usize::MAX),
            reason: StopReason::Cancelled,
        }
    }

    /// Takes a token; the reason to end, if this is the last one.
    fn push(
        &mut self,
        engine: &Engine,
        request: &Request,
        token: u32,
        history: &[u32],
        context: usize,
        sink: &mut dyn FnMut(&str) -> Flow,
    ) -> Option<StopReason> {
        self.ids.push(token);
        let tokenizer = &engine.model().tokenizer;
        if tokenizer.vocab().is_end(token) && !request.ignore_eog {
            return Some(StopReason::EndOfGeneration);
        }
        let piece = self.decoder.push(tokenizer, token);
        let (text, stopped) = match self.scanner.push(&piece) {
            Scan::Text(text) => (text, false),
            Scan::Stopped(text) => (text, true),
        };
        self.text.push_str(&text);
        let flow = sink(&text);
        if stopped {
            Some(StopReason::StopString)
        } else if self.ids.len() >= self.limit {
            Some(StopReason::MaxTokens)
        } else if history.len() >= context {
            Some(StopReason::ContextFull)
        } else if flow == Flow::Stop {
            Some(StopReason::Cancelled)
        } else {
            None
        }
    }

    fn finish(mut self, timing: Timing, plan: String, sink: &mut dyn FnMut(&str) -> Flow) -> Completion {
        if self.reason != StopReason::StopString {
            let mut rest = self.scanner.finish();
            rest.push_str(&self.decoder.finish());
            self.text.push_str(&rest);
            sink(&rest);
        }
        Completion { ids: self.ids, text: self.text, stop_reason: self.reason, timing, plan }
    }
}
