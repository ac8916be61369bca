//! Metadata that aio cannot follow exactly but can work around, and what it does instead.
//!
//! The one channel for such cases: data in the library ([`crate::Model::warnings`]), lines on stderr in the command
//! line. Anything that would change the result further is an error.

use std::fmt;

/// An oddity in a model's metadata that llama.cpp b11434 would warn about too.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// A text is not UTF-8. It is shown with replacement characters.
    NotUtf8 {
        /// The key, or the list entry.
        what: String,
    },
    /// A special token's id is outside the vocabulary. The key counts as missing.
    SpecialId {
        /// The metadata key.
        key: String,
        /// The id found.
        got: u32,
        /// The number of tokens.
        tokens: usize,
    },
    /// A SentencePiece model does not name a special token. The usual one is assumed.
    AssumedId {
        /// The metadata key that should name it.
        key: String,
        /// The id assumed.
        id: u32,
        /// Its text.
        text: String,
    },
    /// The file asks for a token at the start or end of each text but has no such token. None is added.
    NotAdded {
        /// The metadata key that asks for it.
        flag: &'static str,
        /// The metadata key that should name the token.
        id_key: &'static str,
    },
    /// A list with one entry per token has extra entries, which are ignored.
    Longer {
        /// The metadata key.
        key: &'static str,
        /// Its length.
        got: usize,
        /// The number of tokens.
        tokens: usize,
    },
    /// Some tokens have no text and never result from encoding.
    EmptyTokens {
        /// Number of such tokens.
        count: usize,
        /// Id of the first one.
        first: usize,
    },
    /// The file names no pre-tokenizer.
    NoPre {
        /// The one assumed.
        assumed: &'static str,
    },
    /// The results of some merges are not tokens. Such text is encoded byte by byte.
    Merges {
        /// Number of such merges.
        count: usize,
        /// Index of the first one in the list.
        first: usize,
        /// Its text.
        text: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::NotUtf8 { what } => write!(f, "{what} is not UTF-8; it is shown with replacement characters"),
            Warning::SpecialId { key, got, tokens } => {
                write!(f, "{key} is {got}, but there are {tokens} tokens; the key is taken as missing")
            }
            Warning::AssumedId { key, id, text } => write!(f, "{key} is missing; token {id} ({text:?}) is assumed"),
            Warning::NotAdded { flag, id_key } => {
                write!(f, "{flag} asks for a token that {id_key} does not name; none is added")
            }
            Warning::Longer { key, got, tokens } => {
                write!(f, "{key} has {got} entries, but there are {tokens} tokens; the others are left out")
            }
            Warning::EmptyTokens { count, first } => {
                write!(f, "{count} tokens have no text, the first is token {first}; no text gives them")
            }
            Warning::NoPre { assumed } => {
                write!(f, "tokenizer.ggml.pre is missing; {assumed:?} is assumed, which may cut words in other places")
            }
            Warning::Merges { count, first, text } => write!(
                f,
                "{count} of tokenizer.ggml.merges make no token, the first is merge {first} ({text:?}); their text is encoded byte by byte"
            ),
        }
    }
}
