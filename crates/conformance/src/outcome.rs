//! What may come of a conformance case: it passes, the device has no kernel for it, or something is wrong. Made by the driver.

use aio_backend::DeviceError;
use aio_compiler::CompileError;
use aio_ir::text::ParseError;
use aio_ir::{DType, VerifyErrors};
use std::fmt;

/// What a device makes of a case.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Every error is within the bound.
    Pass {
        /// The largest normalised mean square error.
        nmse: f64,
    },
    /// One is not, or something failed.
    Fail(Fault),
    /// The device has no kernel for it.
    Unsupported {
        /// The kind of task, or the op.
        kind: &'static str,
        /// What exactly is missing.
        reason: String,
    },
}

impl Outcome {
    /// The word in support tables.
    pub fn name(&self) -> &'static str {
        match self {
            Outcome::Pass { .. } => "pass",
            Outcome::Fail(_) => "fail",
            Outcome::Unsupported { .. } => "unsupported",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Pass { nmse } => write!(f, "pass, error {nmse:e}"),
            Outcome::Fail(fault) => write!(f, "fail, {fault}"),
            Outcome::Unsupported { kind, reason } => write!(f, "unsupported, {kind}: {reason}"),
        }
    }
}

/// Why a case failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Fault {
    /// The case's graph cannot be parsed.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The case's graph breaks a rule.
    #[error(transparent)]
    Verify(#[from] VerifyErrors),
    /// The compiler refuses it, for another reason than the device.
    #[error(transparent)]
    Compile(CompileError),
    /// The oracle does not run the case.
    #[error("the oracle refuses it: {0}")]
    Oracle(String),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Numbers differ by more than the case admits.
    #[error("{place}: error {nmse:e} is over {bound:e}")]
    Error {
        /// Where.
        place: Place,
        /// Normalised mean square error.
        nmse: f64,
        /// The largest one admitted.
        bound: f64,
    },
    /// A result differs that must be the same.
    #[error("{place}: {difference}")]
    Differs {
        /// Where.
        place: Place,
        /// How.
        difference: Difference,
    },
}

/// Which result of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// An output of a step.
    Step(usize),
    /// A state after the last step.
    State,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Step(index) => write!(f, "step {index}"),
            Place::State => f.write_str("state"),
        }
    }
}

/// How a result differs that has no error to measure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// Bytes of a tensor that is not of floats, from the first that differs.
    #[error("{dtype} are {got:?}, expected {want:?}")]
    Bytes {
        /// Element type.
        dtype: DType,
        /// The device's.
        got: Vec<u8>,
        /// The oracle's.
        want: Vec<u8>,
    },
    /// Tokens.
    #[error("tokens {got:?}, expected {want:?}")]
    Tokens {
        /// The device's.
        got: Vec<u32>,
        /// The oracle's.
        want: Vec<u32>,
    },
    /// A token of a row whose logits have none.
    #[error("token {token} of a row that has none")]
    TokenOfNone {
        /// The token.
        token: u32,
    },
    /// A token outside the vocabulary.
    #[error("token {token} does not exist")]
    NoSuchToken {
        /// The token.
        token: u32,
    },
    /// The case's graph has no logits to look the token up in.
    #[error("logits are not f32")]
    NoLogits,
}
