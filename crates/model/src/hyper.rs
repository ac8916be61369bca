//! The few hyper-parameters that aio's own code needs, from a model's GGUF metadata.
//!
//! Graph templates read everything else themselves (see [`crate::facts`]), so that a new architecture needs no code.
//! Created by [`crate::Model::open`], read by the engine.

use crate::gguf::{Gguf, GgufError, ValueType};

/// Why a file's hyper-parameters cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HyperError {
    /// A key is missing or has the wrong type.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A value is out of range.
    #[error("{key} is {got}, but must be {expected}")]
    Value {
        /// The metadata key.
        key: String,
        /// Its value.
        got: String,
        /// The values allowed.
        expected: String,
    },
    /// The file uses a feature that aio does not support.
    #[error("the model uses {what} ({key:?} is {got}), which is not supported")]
    Unsupported {
        /// Description of the feature.
        what: &'static str,
        /// The metadata key that shows it.
        key: String,
        /// Its value.
        got: String,
    },
    /// A key of the architecture is read neither by the graph template nor by aio.
    #[error("nothing reads the key {key:?} ({got}), so the model would not be what the file says")]
    Unread {
        /// The metadata key.
        key: String,
        /// Its value.
        got: String,
    },
    /// A graph template asked for a list of the tokenizer.
    #[error("a graph template cannot read {key}: it is a list of the tokenizer, on which no graph depends")]
    LeftOut {
        /// The metadata key.
        key: String,
    },
    /// The number of rows of the token embedding differs from the number of tokens.
    #[error("tensor token_embd.weight has dimensions {got:?}, but {vocab_size} rows are needed, one for each token")]
    Embedding {
        /// Its dimensions, innermost first.
        got: Vec<u64>,
        /// The number of tokens.
        vocab_size: u32,
    },
}

/// What the engine needs to know of a model besides its graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HyperParams {
    /// `general.architecture`.
    pub architecture: String,
    /// `general.name`, or empty.
    pub name: String,
    /// Context length in training, in positions.
    pub context_length: u32,
    /// Tokens in the vocabulary, which are the rows of the embedding.
    pub vocab_size: u32,
}

impl HyperParams {
    /// Reads the parameters of a model. A graph template for its architecture need not exist; see
    /// [`crate::template::Templates::of_architecture`].
    ///
    /// # Errors
    /// [`HyperError`] names the key at fault.
    pub fn from_gguf(gguf: &Gguf) -> Result<HyperParams, HyperError> {
        let architecture = gguf.need_str("general.architecture")?.to_owned();
        let key = format!("{architecture}.context_length");
        let context_length = gguf.need_u32(&key)?;
        if context_length == 0 {
            return Err(HyperError::Value { key, got: "0".to_owned(), expected: "positive".to_owned() });
        }
        let name = gguf.get_text("general.name")?.unwrap_or_default().into_owned();
        Ok(HyperParams { name, context_length, vocab_size: vocab_size(gguf)?, architecture })
    }
}

/// The number of tokens: rows of the embedding, which must match the token list if there is one.
fn vocab_size(gguf: &Gguf) -> Result<u32, HyperError> {
    let name = "token_embd.weight";
    let embedding = gguf.tensor(name).ok_or_else(|| GgufError::MissingTensor { name: name.to_owned() })?;
    let rows = embedding.dims.get(1).copied().unwrap_or(0);
    if let Some(tokens) = gguf.get_array("tokenizer.ggml.tokens", &[ValueType::Str])? {
        let vocab_size = u32::try_from(tokens.len()).map_err(|_| HyperError::Value {
            key: "tokenizer.ggml.tokens".to_owned(),
            got: format!("{} tokens long", tokens.len()),
            expected: "shorter".to_owned(),
        })?;
        if rows != u64::from(vocab_size) || embedding.dims.len() != 2 {
            return Err(HyperError::Embedding { got: embedding.dims.clone(), vocab_size });
        }
        return Ok(vocab_size);
    }
    u32::try_from(rows).ok().filter(|&n| n > 0).ok_or_else(|| HyperError::Value {
        key: "the row count of token_embd.weight".to_owned(),
        got: rows.to_string(),
        expected: "a positive 32-bit number".to_owned(),
    })
}
