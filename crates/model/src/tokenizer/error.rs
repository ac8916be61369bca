//! Errors of building a tokenizer or encoding a text.

use crate::gguf::GgufError;

/// An error of a model's tokenizer or its use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// A key is missing or has the wrong type.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// An unsupported kind of tokenizer.
    #[error("tokenizer.ggml.model is {got:?}; \"gpt2\" and \"llama\" are supported")]
    Model {
        /// The kind found.
        got: String,
    },
    /// An unknown pre-tokenizer. A similar one would silently give wrong ids.
    #[error("tokenizer.ggml.pre is {got:?}, which is not supported")]
    Pre {
        /// The name found.
        got: String,
    },
    /// A list is shorter than the list of tokens.
    #[error("{key} has {got} entries, but there are {tokens} tokens")]
    Length {
        /// The metadata key.
        key: &'static str,
        /// Its length.
        got: usize,
        /// The number of tokens.
        tokens: usize,
    },
    /// There are no tokens, or more than 31-bit ids allow.
    #[error("{got} tokens cannot be a vocabulary")]
    Count {
        /// The number found.
        got: usize,
    },
    /// Two tokens have the same text.
    #[error("tokens {first} and {second} are both {text:?}")]
    DuplicateToken {
        /// The text.
        text: String,
        /// The first id.
        first: u32,
        /// The second id.
        second: u32,
    },
    /// A merge is not two parts separated by a space.
    #[error("merge {index} ({text:?}) is not a pair")]
    Merge {
        /// Its position in the list.
        index: usize,
        /// Its text.
        text: String,
    },
    /// The file lists tokens that must never be generated, which aio does not support.
    #[error("{key} lists {count} tokens that must not be generated, which is not supported")]
    Suppressed {
        /// The metadata key.
        key: &'static str,
        /// Number of such tokens.
        count: usize,
    },
    /// An expression of a pre-tokenizer does not compile.
    #[error("the pre-tokenizer cannot be compiled: {message}")]
    Split {
        /// The library's message.
        message: String,
    },
    /// The vocabulary cannot encode a text.
    #[error("the vocabulary has no token for the byte 0x{byte:02x} of {text:?}, and no unknown token")]
    NoToken {
        /// The byte.
        byte: u8,
        /// The start of the word that contains it.
        text: String,
    },
    /// An id is outside the vocabulary.
    #[error("token id {id} is outside the vocabulary of {tokens}")]
    TokenId {
        /// The id.
        id: u32,
        /// The number of tokens.
        tokens: usize,
    },
}
