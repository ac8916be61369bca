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
    #[error("not enough memory: {need}, but only {available} bytes are available{}{}", if .of.is_some() { " on " } else { "" }, .of.as_deref().unwrap_or_default())]
    Memory {
        /// Memory needed.
        need: MemoryNeed,
        /// Available memory in bytes.
        available: u64,
        /// The device whose memory it is; `None` for this machine's.
        of: Option<String>,
    },
    /// The prompt leaves no room in the context.
    #[error("the prompt has {prompt} tokens, which leaves no room in a context of {context}")]
    ContextOverflow {
        /// Tokens in the prompt.
        prompt: usize,
        /// Positions of the context.
        context: usize,
    },
    /// A row asks for its hidden state, and there are no plans for that.
    #[error("the engine was loaded without plans for hidden states (EngineOptions::hidden)")]
    NoHidden,
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
    /// A row's position has no page, or is past the context if the model has no pages.
    #[error("position {position} is outside the sequence's room for {reserved} positions")]
    NotReserved {
        /// The row's position.
        position: usize,
        /// Positions that the sequence has pages for; without pages, the context.
        reserved: usize,
    },
    /// A row's page is shared with another sequence.
    #[error("position {position} is on a page that another sequence shares; reserve it first")]
    SharedPage {
        /// The row's position.
        position: usize,
    },
    /// A row does not continue its sequence, which has recurrent state.
    #[error("a row is at position {position}, but the recurrent state continues at {expected}")]
    NotNext {
        /// The row's position.
        position: usize,
        /// The position that follows what the sequence holds.
        expected: usize,
    },
    /// A sequence with recurrent state cannot have this length, because the state was not kept.
    #[error("the recurrent state of length {len} was not kept; the nearest shorter length that was is {nearest}")]
    NoState {
        /// The length.
        len: usize,
        /// The longest shorter length that the sequence can have.
        nearest: usize,
    },
    /// More drafts than recurrent state has room for.
    #[error("a sequence has {drafts} drafts, but its recurrent state has room for {room}")]
    Drafts {
        /// Drafts of a sequence.
        drafts: usize,
        /// Drafts that a step may have.
        room: usize,
    },
    /// All slots are in use.
    #[error("all {slots} slots of recurrent state are in use")]
    SlotsFull {
        /// Slots in the pool.
        slots: u32,
    },
    /// The layers of the graph have KV pages of different sizes.
    #[error("the graph has KV pages of {} and of {} positions; all layers must have the same", sizes[0], sizes[1])]
    PageSizes {
        /// Two sizes in positions.
        sizes: [u32; 2],
    },
    /// The sequence's state belongs to another engine.
    #[error("the sequence belongs to another engine, where it has {pages} pages")]
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
