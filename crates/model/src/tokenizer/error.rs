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
    /// A list that is shorter or longer than the list of tokens.
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
    /// A merge that is no pair, or whose parts or result are no tokens.
    #[error("merge {index} ({text:?}) is not a pair of tokens that make a token")]
    Merge {
        /// Its position in the list.
        index: usize,
        /// Its text.
        text: String,
    },
    /// A special token id outside the vocabulary.
    #[error("{key} is {got}, but there are {tokens} tokens")]
    SpecialId {
        /// The metadata key.
        key: String,
        /// The id found.
        got: u32,
        /// The number of tokens.
        tokens: usize,
    },
    /// The model asks for a token at the start or end of a text but does not have one.
    #[error("{flag} is set, but {id_key} is missing")]
    NoSpecial {
        /// The metadata key that asks.
        flag: &'static str,
        /// The metadata key that should name the token.
        id_key: &'static str,
    },
    /// The tokenizer library refused.
    #[error("the tokenizer failed: {message}")]
    Library {
        /// What it says.
        message: String,
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
