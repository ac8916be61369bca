//! What a file says that aio cannot follow to the letter but can do without, and what it does instead.
//!
//! The one channel for such things: data in the library ([`crate::Model::warnings`]), lines on stderr in the command
//! line. What would change the result beyond that is an error.

use std::fmt;

/// Something odd in a model's metadata, as llama.cpp b11434 would warn of too.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// A text that is not UTF-8; it is shown with replacement characters.
    NotUtf8 {
        /// The key, or which entry of a list.
        what: String,
    },
    /// A special token's id outside the vocabulary; the key counts as missing.
    SpecialId {
        /// The metadata key.
        key: String,
        /// The id found.
        got: u32,
        /// The number of tokens.
        tokens: usize,
    },
    /// A special token that a SentencePiece model does not name; the usual one is taken.
    AssumedId {
        /// The metadata key that should name it.
        key: String,
        /// The id taken.
        id: u32,
        /// Its text.
        text: String,
    },
    /// The file wants a token at an end of each text and does not have one; none is added.
    NotAdded {
        /// The metadata key that asks.
        flag: &'static str,
        /// The metadata key that should name the token.
        id_key: &'static str,
    },
    /// A list with an entry for each token that has more; the others mean nothing.
    Longer {
        /// The metadata key.
        key: &'static str,
        /// Its length.
        got: usize,
        /// The number of tokens.
        tokens: usize,
    },
    /// Tokens without a text; they never come out of a text.
    EmptyTokens {
        /// How many there are.
        count: usize,
        /// The first one's id.
        first: usize,
    },
    /// The file names no pre-tokenizer.
    NoPre {
        /// The one that is taken.
        assumed: &'static str,
    },
    /// Merges whose result is no token; such text is encoded byte by byte.
    Merges {
        /// How many there are.
        count: usize,
        /// The first one's place in the list.
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
