//! Errors of the engine.

use crate::need::MemoryNeed;
use aio_backend::DeviceError;
use aio_compiler::CompileError;
use aio_ir::{TensorType, VerifyErrors};
use aio_plan::artefact::ArtefactError;

/// An error of the engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The model or its graph template is invalid.
    #[error(transparent)]
    Model(#[from] aio_model::ModelError),
    /// The rendered template breaks a rule.
    #[error("the rendered graph template is not valid: {0}")]
    Verify(#[from] VerifyErrors),
    /// The graph cannot be compiled for the device.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The device reported an error.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The artefact cannot be used.
    #[error(transparent)]
    Artefact(#[from] ArtefactError),
    /// The model needs more memory than is available.
    #[error("not enough memory: {need}, but only {available} bytes are available")]
    Memory {
        /// Memory needed.
        need: MemoryNeed,
        /// Available memory in bytes.
        available: u64,
    },
    /// The prompt leaves no room in the context.
    #[error("the prompt has {prompt} tokens, which leaves no room in a context of {context}")]
    ContextOverflow {
        /// Tokens in the prompt.
        prompt: usize,
        /// Positions of the context.
        context: usize,
    },
    /// There is nothing to continue.
    #[error("the prompt is empty, and the model has no token to start with")]
    EmptyPrompt,
    /// A token id is not in the vocabulary.
    #[error("token {token} is not below the vocabulary's {vocabulary}")]
    Token {
        /// The id.
        token: u32,
        /// The vocabulary's size.
        vocabulary: u32,
    },
    /// The graph's logits do not have one value per token of the vocabulary.
    #[error("the graph's logits are {got}, but the vocabulary has {vocabulary} tokens")]
    Logits {
        /// The output's type.
        got: TensorType,
        /// The vocabulary's size.
        vocabulary: u32,
    },
    /// No plan is large enough for the step.
    #[error("a step of {rows} rows, {outs} of which ask for an output, fits no plan")]
    StepSize {
        /// Rows of the step.
        rows: u32,
        /// Rows that ask for a token or logits.
        outs: u32,
    },
    /// No token can be chosen from a row's logits.
    #[error(
        "step {step} gave no token: a logit at position {position} is NaN or infinite; the weights are damaged, or the \
         model's numbers are too large"
    )]
    NoToken {
        /// The step of the sequence, from 1, counting prefill chunks.
        step: usize,
        /// The position of the row.
        position: usize,
    },
    /// The runs of drafts do not fit their step.
    #[error("{spans} runs of drafts do not fit a step with {outs} rows that ask for a token")]
    Spans {
        /// Number of runs; there must be one per sequence.
        spans: usize,
        /// Rows that ask for an output.
        outs: usize,
    },
    /// A row's position has no page.
    #[error("position {position} has no page; the sequence has room for {reserved}")]
    NotReserved {
        /// The row's position.
        position: usize,
        /// Positions that the sequence has pages for.
        reserved: usize,
    },
    /// The sequence's pages belong to another engine.
    #[error("the sequence has {pages} pages of another engine")]
    ForeignSequence {
        /// Number of its pages.
        pages: usize,
    },
    /// The draft model's tokens differ from the target model's.
    #[error("the draft model does not fit: {reason}")]
    DraftModel {
        /// Where they differ.
        reason: String,
    },
    /// The batch has the maximum number of members.
    #[error("the batch is full: a step runs at most {limit} members")]
    BatchFull {
        /// Maximum number of members.
        limit: usize,
    },
    /// The pool has no free page left.
    #[error("the KV pool of {pages} pages is full")]
    PoolFull {
        /// Pages in the pool.
        pages: u32,
    },
    /// The receiver of the text, called during a step, tried to run another step of the engine.
    #[error("the engine is running a step on this thread; run no other from the receiver of its text")]
    Reentered,
    /// An option of the request is out of range.
    #[error("{name} is {value}, expected {expected}")]
    Option {
        /// The option.
        name: &'static str,
        /// Its value.
        value: String,
        /// The values allowed.
        expected: &'static str,
    },
}

impl EngineError {
    /// The error for a logit bias of the wrong length.
    pub(crate) fn bias(len: usize) -> EngineError {
        let expected = "one number for each token of the vocabulary";
        EngineError::Option { name: "logit_bias", value: format!("{len} numbers"), expected }
    }
}
