//! What is asked of the engine and what comes back.

use crate::batch::SpeculationStats;
use crate::{EngineError, LogitMask};
use aio_ir::sampling::SampleParams;
use aio_model::tokenizer::Vocab;
use std::sync::Arc;
use std::time::Duration;

/// How tokens are chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// The chain's numbers.
    pub params: SampleParams,
    /// Tokens that the penalties look back on.
    pub repeat_last_n: usize,
    /// Seed of the noise: the same seed gives the same text.
    pub seed: u64,
    /// Which of several choices for the same seed this is.
    pub choice: u32,
}

impl Sampling {
    /// The most likely token at each step.
    pub fn greedy() -> Sampling {
        Sampling { params: SampleParams::GREEDY, repeat_last_n: 64, seed: 0, choice: 0 }
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// [`EngineError::Option`].
    pub fn check(&self) -> Result<(), EngineError> {
        let p = &self.params;
        let rules: [(&'static str, f32, bool, &'static str); 6] = [
            ("temperature", p.temperature, p.temperature == 0.0 || p.temperature >= 1e-4, "0, or 0.0001 or more"),
            ("top_p", p.top_p, (0.0..=1.0).contains(&p.top_p), "0 to 1"),
            ("min_p", p.min_p, (0.0..=1.0).contains(&p.min_p), "0 to 1"),
            ("repeat_penalty", p.repeat_penalty, p.repeat_penalty > 0.0, "more than 0"),
            ("presence_penalty", p.presence_penalty, true, "a number"),
            ("frequency_penalty", p.frequency_penalty, true, "a number"),
        ];
        for (name, value, holds, expected) in rules {
            if !holds || !value.is_finite() {
                return Err(EngineError::Option { name, value: value.to_string(), expected });
            }
        }
        Ok(())
    }
}

/// Whether tokens are drafted, and how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speculation {
    /// None.
    #[default]
    Off,
    /// As many in each step as promise the most tokens a second; none where drafts would not pay, and none while another
    /// member of the batch reads its prompt. What drafts gain is counted against the step with those of [`Speculation::Fixed`]
    /// members alone, which come first.
    Auto,
    /// This many in each step, as far as the drafter has them: at most 64, and no more than fit into the 72 rows of a step,
    /// of which each member that still generates has one besides (fewer rows if the engine was loaded with smaller steps).
    /// Where those of all members do not fit, they share evenly.
    Fixed(usize),
}

/// One text to continue.
#[derive(Clone, Debug)]
pub struct Request {
    /// Token ids of the prompt.
    pub prompt: Vec<u32>,
    /// Tokens to generate at most; `None` until the end or the context is full.
    pub max_tokens: Option<usize>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Texts that end the output; they are not part of it.
    pub stop: Vec<String>,
    /// Tokens that end the output as the model's own end-of-generation tokens do, whatever `ignore_eog` says.
    pub stop_tokens: Vec<u32>,
    /// Added to the logits of every step, one number a token of the vocabulary.
    pub logit_bias: Option<Vec<f32>>,
    /// Says before each token which ones may follow: a grammar, a schema.
    pub mask: Option<Arc<dyn LogitMask>>,
    /// Whether tokens are drafted. It changes how long the output takes and nothing of the output.
    pub speculation: Speculation,
    /// Go on after an end-of-generation token.
    pub ignore_eog: bool,
}

impl Request {
    /// Continues a prompt until the model ends it or the context is full.
    pub fn new(prompt: Vec<u32>, sampling: Sampling) -> Request {
        Request {
            prompt,
            max_tokens: None,
            sampling,
            stop: Vec::new(),
            stop_tokens: Vec::new(),
            logit_bias: None,
            mask: None,
            speculation: Speculation::default(),
            ignore_eog: false,
        }
    }

    /// Whether a token ends the output.
    pub(crate) fn ends_with(&self, vocab: &Vocab, token: u32) -> bool {
        vocab.is_end(token) && !self.ignore_eog || self.stop_tokens.contains(&token)
    }

    /// All tokens that do.
    pub(crate) fn ends(&self, vocab: &Vocab) -> Vec<u32> {
        let own = vocab.ends().filter(|_| !self.ignore_eog);
        own.chain(self.stop_tokens.iter().copied()).collect()
    }

    /// Checks it against the context, in positions, and the vocabulary of the engine that it is for.
    ///
    /// # Errors
    /// [`EngineError::EmptyPrompt`], [`EngineError::ContextOverflow`], [`EngineError::Token`], [`EngineError::Option`].
    pub(crate) fn check(&self, context: usize, vocabulary: u32) -> Result<(), EngineError> {
        self.sampling.check()?;
        let prompt = self.prompt.len();
        if prompt == 0 {
            return Err(EngineError::EmptyPrompt);
        }
        if prompt >= context {
            return Err(EngineError::ContextOverflow { prompt, context });
        }
        if let Some(&token) = self.prompt.iter().find(|&&t| t >= vocabulary) {
            return Err(EngineError::Token { token, vocabulary });
        }
        match &self.logit_bias {
            Some(bias) if bias.len() != vocabulary as usize => Err(EngineError::bias(bias.len())),
            _ => Ok(()),
        }
    }
}

/// Why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// An end-of-generation token, which is the last id.
    EndOfGeneration,
    /// A stop string.
    StopString,
    /// As many tokens as were asked for.
    MaxTokens,
    /// The context is full.
    ContextFull,
    /// The caller said so.
    Cancelled,
}

impl StopReason {
    /// The name in machine output.
    pub fn name(self) -> &'static str {
        match self {
            StopReason::EndOfGeneration => "eog",
            StopReason::StopString => "stop",
            StopReason::MaxTokens => "length",
            StopReason::ContextFull => "context",
            StopReason::Cancelled => "cancelled",
        }
    }
}

/// How long the phases took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timing {
    /// From the first step to the first token.
    pub prefill: Duration,
    /// From the first token to the last.
    pub decode: Duration,
    /// Decode steps.
    pub decode_steps: usize,
}

/// What was generated.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// Generated ids, with the end-of-generation token that stopped the run.
    pub ids: Vec<u32>,
    /// Their text, without it.
    pub text: String,
    /// Why it ended.
    pub stop_reason: StopReason,
    /// How long it took.
    pub timing: Timing,
    /// Name of the plan that decoded.
    pub plan: String,
    /// What became of drafts.
    pub speculation: SpeculationStats,
}
