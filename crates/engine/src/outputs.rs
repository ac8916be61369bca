//! The outputs of a step, in a buffer of the caller's.
//!
//! The caller keeps the buffer, so outputs are neither copied nor bound to a lock of the engine, and a step of a size
//! seen before allocates nothing.

use crate::step::DraftOutcome;

/// A reusable buffer for the outputs of steps.
#[derive(Clone, Debug, Default)]
pub struct OutputBuffer {
    /// 32-bit words of each output: tokens or logits; or accepted drafts, next tokens and lengths.
    pub(crate) words: [Vec<u32>; 3],
}

/// The outputs of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outputs<'a> {
    /// The tokens of the rows that asked for one, in order.
    Tokens(&'a [u32]),
    /// Some row asked for logits: those of all rows with an output, in order, one value per token of the vocabulary.
    Logits(&'a [f32]),
    /// Some row asked for its hidden state: those of all rows with an output, in order, after the last norm.
    Hidden(&'a [f32]),
    /// The step verified drafts.
    Verified(DraftOutcome<'a>),
}

impl OutputBuffer {
    /// An empty buffer. It grows with the first steps.
    pub fn new() -> OutputBuffer {
        OutputBuffer::default()
    }
}

impl<'a> Outputs<'a> {
    /// The tokens; `None` for other outputs.
    pub fn tokens(self) -> Option<&'a [u32]> {
        if let Outputs::Tokens(tokens) = self { Some(tokens) } else { None }
    }

    /// The logits; `None` for other outputs.
    pub fn logits(self) -> Option<&'a [f32]> {
        if let Outputs::Logits(logits) = self { Some(logits) } else { None }
    }

    /// The hidden states; `None` for other outputs.
    pub fn hidden(self) -> Option<&'a [f32]> {
        if let Outputs::Hidden(states) = self { Some(states) } else { None }
    }

    /// The outcome of the drafts; `None` for other outputs.
    pub fn verified(self) -> Option<DraftOutcome<'a>> {
        if let Outputs::Verified(outcome) = self { Some(outcome) } else { None }
    }
}
