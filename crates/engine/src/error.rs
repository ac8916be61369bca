//! What can go wrong in the engine.

use crate::need::MemoryNeed;
use aio_backend::DeviceError;
use aio_compiler::CompileError;
use aio_ir::{TensorType, VerifyErrors};
use aio_plan::artefact::ArtefactError;

/// An error of the engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The model or its graph template.
    #[error(transparent)]
    Model(#[from] aio_model::ModelError),
    /// The rendered template breaks a rule.
    #[error("the rendered graph template is not valid: {0}")]
    Verify(#[from] VerifyErrors),
    /// The graph cannot be compiled for the device.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The artefact that the model was to be loaded from.
    #[error(transparent)]
    Artefact(#[from] ArtefactError),
    /// More memory than there is.
    #[error("not enough memory: {need}, but only {available} bytes are available")]
    Memory {
        /// What is needed.
        need: MemoryNeed,
        /// What there is.
        available: u64,
    },
    /// The prompt leaves no room for a token.
    #[error("the prompt has {prompt} tokens, which leaves no room in a context of {context}")]
    ContextOverflow {
        /// Tokens of the prompt.
        prompt: usize,
        /// Positions of the context.
        context: usize,
    },
    /// Nothing to continue.
    #[error("the prompt is empty, and the model has no token to start with")]
    EmptyPrompt,
    /// A token id that the vocabulary does not have.
    #[error("token {token} is not below the vocabulary's {vocabulary}")]
    Token {
        /// The id.
        token: u32,
        /// The vocabulary's size.
        vocabulary: u32,
    },
    /// The graph's logits are not one for each token of the vocabulary.
    #[error("the graph's logits are {got}, but the vocabulary has {vocabulary} tokens")]
    Logits {
        /// The output's type.
        got: TensorType,
        /// The vocabulary's size.
        vocabulary: u32,
    },
    /// A step that no plan holds.
    #[error("a step of {rows} rows, {outs} of which ask for an output, fits no plan")]
    StepSize {
        /// Its rows.
        rows: u32,
        /// Rows that ask for a token or for logits.
        outs: u32,
    },
    /// A row from whose logits no token can be chosen.
    #[error(
        "step {step} gave no token: a logit at position {position} is NaN or infinite; the weights are damaged, or the \
         model's numbers are too large"
    )]
    NoToken {
        /// The step of the sequence, from 1 on; pieces of its prompt count.
        step: usize,
        /// The position of the row.
        position: usize,
    },
    /// Runs of drafts that do not lie in their step.
    #[error("{spans} runs of drafts do not fit a step with {outs} rows that ask for a token")]
    Spans {
        /// The runs; there must be one for each sequence.
        spans: usize,
        /// Rows that ask for an output.
        outs: usize,
    },
    /// A row at a position that its sequence has no page for.
    #[error("position {position} has no page; the sequence has room for {reserved}")]
    NotReserved {
        /// The row's position.
        position: usize,
        /// Positions that the sequence's pages hold.
        reserved: usize,
    },
    /// A sequence whose pages are of another engine.
    #[error("the sequence has {pages} pages of another engine")]
    ForeignSequence {
        /// Its pages.
        pages: usize,
    },
    /// A draft model whose tokens are not the model's.
    #[error("the draft model does not fit: {reason}")]
    DraftModel {
        /// Where they differ.
        reason: String,
    },
    /// No more sequences run in one step.
    #[error("the batch is full: a step runs at most {limit} members")]
    BatchFull {
        /// Members at most.
        limit: usize,
    },
    /// The pool has no free page left.
    #[error("the KV pool of {pages} pages is full")]
    PoolFull {
        /// Pages of the pool.
        pages: u32,
    },
    /// A number of the request makes no sense.
    #[error("{name} is {value}, expected {expected}")]
    Option {
        /// The option.
        name: &'static str,
        /// Its value.
        value: String,
        /// What would do.
        expected: &'static str,
    },
}

impl EngineError {
    /// A logit bias of the wrong length.
    pub(crate) fn bias(len: usize) -> EngineError {
        let expected = "one number for each token of the vocabulary";
        EngineError::Option { name: "logit_bias", value: format!("{len} numbers"), expected }
    }
}
