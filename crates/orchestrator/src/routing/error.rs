//! What can be wrong with policies and quality tables, with the place in the text.

use crate::place::position;

/// Why a policy cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The text is no policy, or no quality table.
    #[error("line {line}, column {column}: {message}")]
    Form {
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// It names a variant that there is not.
    #[error("policy `{policy}` names variant `{name}`; there are {variants}")]
    Variant {
        /// The policy.
        policy: String,
        /// The name.
        name: String,
        /// The variants, comma-separated.
        variants: String,
    },
    /// There is no built-in policy of this name.
    #[error("there is no policy `{name}`; there are {known}")]
    Unknown {
        /// The name.
        name: String,
        /// Built-in policies, comma-separated.
        known: String,
    },
}

impl PolicyError {
    /// A mistake at an offset of a text, in bytes.
    pub(super) fn at(text: &str, offset: usize, message: String) -> PolicyError {
        let (line, column) = position(text, offset);
        PolicyError::Form { line, column, message }
    }

    /// A mistake that the parser found.
    pub(super) fn form(text: &str, error: &toml::de::Error) -> PolicyError {
        let offset = error.span().map_or(0, |span| span.start);
        PolicyError::at(text, offset, error.message().replace('\n', " "))
    }
}
