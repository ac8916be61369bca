//! Errors of fleets and probes.

use aio_engine::EngineError;
use aio_model::tokenizer::TokenizerError;
use aio_orchestrator::routing::PolicyError;
use std::fmt;

/// Bytes, in gigabytes if there are many.
pub(crate) struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes @ 0..10_000_000 => write!(f, "{bytes} bytes"),
            bytes => write!(f, "{:.2} GB", bytes as f64 / 1e9),
        }
    }
}

/// An error of a fleet or a probe.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// An engine's error.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The tokenizer's error.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The policy's error.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// There are no variants.
    #[error("a fleet needs a variant")]
    NoVariant,
    /// Two variants have one name.
    #[error("two variants are named `{name}`")]
    SameName {
        /// The name.
        name: String,
    },
    /// Not even the smallest variant fits the budget.
    #[error("variant `{name}` needs {}, and the budget is {}", Size(*.need), Size(*.budget))]
    Budget {
        /// The variant.
        name: String,
        /// What it needs.
        need: u64,
        /// What there is.
        budget: u64,
    },
    /// A variant could not be loaded.
    #[error("variant `{name}` cannot be loaded: {reason}")]
    Load {
        /// The variant.
        name: String,
        /// Why.
        reason: String,
    },
    /// A request asks for a variant that the fleet does not have.
    #[error("there is no variant `{name}`; there are {known}")]
    NoSuchVariant {
        /// The name.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// No variant is loaded that has room for a request, or the one that it asks for has none.
    #[error("no variant has room for a request of {positions} positions: {why}")]
    NoRoom {
        /// Positions of its prompt and output.
        positions: u32,
        /// Each variant with its reason.
        why: String,
    },
    /// Two labels begin with the same token.
    #[error("labels `{first}` and `{other}` begin with the same token, so the probe cannot tell them apart")]
    Labels {
        /// A label.
        first: String,
        /// The other one.
        other: String,
    },
    /// The caller stopped it.
    #[error("stopped")]
    Stopped,
    /// A head or samples that cannot be used.
    #[error("{what}: {message}")]
    Data {
        /// What it is, such as `head`.
        what: &'static str,
        /// What is wrong.
        message: String,
    },
}
