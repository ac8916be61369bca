//! Requests to the engine and their completions.

use crate::batch::SpeculationStats;
use crate::{EngineError, LogitMask};
use aio_ir::sampling::SampleParams;
use aio_model::tokenizer::Vocab;
use std::sync::Arc;
use std::time::Duration;

/// How tokens are sampled.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Parameters of the sampling chain.
    pub params: SampleParams,
    /// Number of recent tokens that penalties apply to.
    pub repeat_last_n: usize,
    /// Seed of the noise. The same seed gives the same text.
    pub seed: u64,
    /// Which of several choices with the same seed.
    pub choice: u32,
}

impl Sampling {
    /// The most likely token at each step.
    pub fn greedy() -> Sampling {
        Sampling { params: SampleParams::GREEDY, repeat_last_n: 64, seed: 0, choice: 0 }
    }

    /// Checks that the parameters are in range.
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

/// Whether to draft tokens, and how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speculation {
    /// No drafts.
    #[default]
    Off,
    /// Chooses the draft count in each step that maximises expected throughput: zero when speculation would not pay,
    /// and while another member of the batch is in prefill. The gain of drafts is measured against a step with only the
    /// drafts of [`Speculation::Fixed`] members, which come first.
    Auto,
    /// Up to this many drafts in each step, as the drafter finds them. The maximum is
    /// [`Engine::most_drafts`](crate::Engine::most_drafts), and drafts must fit into the 72 rows of a step besides one
    /// row for each running member (fewer rows if the engine was loaded with smaller steps). If the drafts of all members do not fit, they share the rows evenly.
    Fixed(usize),
}

/// A text to continue.
#[derive(Clone, Debug)]
pub struct Request {
    /// Token ids of the prompt.
    pub prompt: Vec<u32>,
    /// Maximum tokens to generate; `None` for no limit besides the context.
    pub max_tokens: Option<usize>,
    /// How tokens are sampled.
    pub sampling: Sampling,
    /// Texts that end the output. They are not part of it.
    pub stop: Vec<String>,
    /// Tokens that end the output like the model's own end-of-generation tokens, regardless of `ignore_eog`.
    pub stop_tokens: Vec<u32>,
    /// Added to the logits of every step, one value per token of the vocabulary.
    pub logit_bias: Option<Vec<f32>>,
    /// Restricts which tokens may come next: a grammar, a schema.
    pub mask: Option<Arc<dyn LogitMask>>,
    /// Whether to draft tokens. Affects the speed, never the output.
    pub speculation: Speculation,
    /// Continue after an end-of-generation token.
    pub ignore_eog: bool,
}

impl Request {
    /// Continues a prompt until the model ends the output or the context is full.
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

    /// All tokens that end the output.
    pub(crate) fn ends(&self, vocab: &Vocab) -> Vec<u32> {
        let own = vocab.ends().filter(|_| !self.ignore_eog);
        own.chain(self.stop_tokens.iter().copied()).collect()
    }

    /// Checks the request against the context length in positions and the vocabulary size of its engine.
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
    /// The maximum number of tokens was generated.
    MaxTokens,
    /// The context is full.
    ContextFull,
    /// The caller cancelled.
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

/// Duration of each phase.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timing {
    /// From the first step to the first token.
    pub prefill: Duration,
    /// From the first token to the last.
    pub decode: Duration,
    /// Decode steps.
    pub decode_steps: usize,
}

/// The result of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// Generated ids, including the end-of-generation token that ended the output.
    pub ids: Vec<u32>,
    /// Their text, excluding that token.
    pub text: String,
    /// Why the output ended.
    pub stop_reason: StopReason,
    /// Duration of each phase.
    pub timing: Timing,
    /// Name of the plan used for decoding.
    pub plan: String,
    /// Speculation statistics.
    pub speculation: SpeculationStats,
}
