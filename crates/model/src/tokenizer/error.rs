//! Why a tokenizer cannot be built or a text not be encoded.

use crate::gguf::GgufError;

/// A fault of a model's tokenizer, or of its use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// A key is missing or of the wrong type.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A kind of tokenizer that aio does not have.
    #[error("tokenizer.ggml.model is {got:?}; \"gpt2\" and \"llama\" are supported")]
    Model {
        /// The kind found.
        got: String,
    },
    /// A pre-tokenizer that aio does not know. A near one would give wrong ids silently.
    #[error("tokenizer.ggml.pre is {got:?}, which is not supported")]
    Pre {
        /// The name found.
        got: String,
    },
    /// A list that is shorter than the list of tokens.
    #[error("{key} has {got} entries, but there are {tokens} tokens")]
    Length {
        /// The metadata key.
        key: &'static str,
        /// Its length.
        got: usize,
        /// The number of tokens.
        tokens: usize,
    },
    /// More tokens than 31-bit ids, or none at all.
    #[error("{got} tokens cannot be a vocabulary")]
    Count {
        /// The number found.
        got: usize,
    },
    /// Two tokens with one text.
    #[error("tokens {first} and {second} are both {text:?}")]
    DuplicateToken {
        /// The text.
        text: String,
        /// The first id.
        first: u32,
        /// The second id.
        second: u32,
    },
    /// A merge that is not two parts with a space between.
    #[error("merge {index} ({text:?}) is not a pair")]
    Merge {
        /// Its position in the list.
        index: usize,
        /// Its text.
        text: String,
    },
    /// Tokens that must never be generated, which aio does not honour.
    #[error("{key} lists {count} tokens that must not be generated, which is not supported")]
    Suppressed {
        /// The metadata key.
        key: &'static str,
        /// How many there are.
        count: usize,
    },
    /// An expression of a pre-tokenizer that cannot be compiled.
    #[error("the pre-tokenizer cannot be compiled: {message}")]
    Split {
        /// What the library says.
        message: String,
    },
    /// A text that the vocabulary cannot spell.
    #[error("the vocabulary has no token for the byte 0x{byte:02x} of {text:?}, and no unknown token")]
    NoToken {
        /// The byte.
        byte: u8,
        /// The start of the word that it is in.
        text: String,
    },
    /// An id outside the vocabulary.
    #[error("token id {id} is outside the vocabulary of {tokens}")]
    TokenId {
        /// The id.
        id: u32,
        /// The number of tokens.
        tokens: usize,
    },
}
