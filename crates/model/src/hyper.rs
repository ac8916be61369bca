//! The hyper-parameters of a model, read from its GGUF metadata and tensor table.
//!
//! [`HyperParams`] is the whole context of a graph template (`graphs/<arch>.graph.jinja`), so its
//! field names are part of that interface. Defaults for keys that files may leave out are those
//! of llama.cpp b11434. Made by [`crate::Model::open`]; read by the engine and by templates.

use serde::{Serialize, Serializer};

use crate::gguf::{Gguf, GgufError, Value, ValueType};

/// Why a file's hyper-parameters cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HyperError {
    /// A key is missing or of the wrong type.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A value outside what a model can have.
    #[error("{key} is {got}, but must be {expected}")]
    Value {
        /// The metadata key.
        key: String,
        /// What it says.
        got: String,
        /// What it may say.
        expected: String,
    },
    /// The file uses something of its architecture that aio does not have.
    #[error("the model uses {what} ({key} is {got}), which is not supported")]
    Unsupported {
        /// The feature, in words.
        what: &'static str,
        /// The metadata key that shows it.
        key: String,
        /// Its value.
        got: String,
    },
    /// The token embedding has another shape than the metadata say.
    #[error("tensor token_embd.weight has dimensions {got:?}, but [{embedding_length}, {vocab_size}] are needed")]
    Embedding {
        /// Its dimensions, innermost first.
        got: Vec<u64>,
        /// The metadata's embedding length.
        embedding_length: u32,
        /// The number of tokens.
        vocab_size: u32,
    },
}

/// How rotary positions are stretched beyond the trained context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RopeScalingType {
    /// Not at all.
    None,
    /// Positions are divided by the factor.
    Linear,
    /// YaRN: by parts, with a magnitude correction.
    Yarn,
}

/// Rotary scaling parameters.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RopeScaling {
    /// The method.
    #[serde(rename = "type")]
    pub ty: RopeScalingType,
    /// By how much positions are stretched; 1 for none.
    #[serde(serialize_with = "short_f32")]
    pub factor: f32,
    /// Positions the model was first trained on.
    pub original_context_length: u32,
    /// A further factor on the magnitude of rotated values.
    #[serde(serialize_with = "short_f32")]
    pub attn_factor: f32,
    /// Weight of YaRN's extrapolation part: 1 for YaRN and 0 otherwise unless the file says more.
    #[serde(serialize_with = "short_f32")]
    pub yarn_ext_factor: f32,
    /// YaRN's own magnitude factor, before its logarithmic correction.
    #[serde(serialize_with = "short_f32")]
    pub yarn_attn_factor: f32,
    /// YaRN's fast-rotation bound, in rotations over the original context.
    #[serde(serialize_with = "short_f32")]
    pub yarn_beta_fast: f32,
    /// YaRN's slow-rotation bound, in rotations over the original context.
    #[serde(serialize_with = "short_f32")]
    pub yarn_beta_slow: f32,
    /// YaRN's logarithmic multiplier (DeepSeek); 0 where the file has none.
    #[serde(serialize_with = "short_f32")]
    pub yarn_log_multiplier: f32,
}

/// Everything a graph template may ask about a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HyperParams {
    /// `general.architecture`.
    pub architecture: String,
    /// `general.name`, or empty.
    pub name: String,
    /// Transformer layers.
    pub block_count: u32,
    /// Positions the model was trained on.
    pub context_length: u32,
    /// Width of the residual stream.
    pub embedding_length: u32,
    /// Width of the feed-forward layer.
    pub feed_forward_length: u32,
    /// Query heads.
    pub head_count: u32,
    /// Key and value heads; divides `head_count`.
    pub head_count_kv: u32,
    /// Width of a key (and query) head.
    pub key_length: u32,
    /// Width of a value head.
    pub value_length: u32,
    /// Epsilon of the RMS norms.
    #[serde(serialize_with = "short_f32")]
    pub rms_epsilon: f32,
    /// Base of the rotary frequencies.
    #[serde(serialize_with = "short_f32")]
    pub rope_freq_base: f32,
    /// Leading elements of a head that are rotated.
    pub rope_dimension_count: u32,
    /// Rotary scaling.
    pub rope_scaling: RopeScaling,
    /// Whether `rope_freqs.weight` divides the rotary frequencies.
    pub rope_freqs: bool,
    /// Whether rotated pairs lie half a head apart even where the architecture's GGUF files have them side by side: so in
    /// weights that were never converted to GGUF (the key `aio.rope.halves`).
    pub rope_halves: bool,
    /// Tokens in the vocabulary; rows of the embedding.
    pub vocab_size: u32,
    /// Whether the output projection is the embedding itself (no `output.weight`).
    pub tied_embeddings: bool,
    /// Whether `attn_q.bias` exists.
    pub attn_q_bias: bool,
    /// Whether `attn_k.bias` exists.
    pub attn_k_bias: bool,
    /// Whether `attn_v.bias` exists.
    pub attn_v_bias: bool,
    /// Whether `attn_output.bias` exists.
    pub attn_output_bias: bool,
    /// Whether queries and keys are normed per head (`attn_q_norm.weight`).
    pub attn_qk_norm: bool,
    /// Whether `ffn_gate.bias`, `ffn_up.bias` or `ffn_down.bias` exists.
    pub ffn_bias: bool,
}

impl HyperParams {
    /// Reads the parameters of a model. Whether there is a graph template for its architecture is another question:
    /// see [`crate::template::Templates::of_architecture`].
    ///
    /// # Errors
    /// [`HyperError`] names the key at fault.
    pub fn from_gguf(gguf: &Gguf) -> Result<HyperParams, HyperError> {
        let architecture = gguf.need_str("general.architecture")?.to_owned();
        let keys = Keys { gguf, architecture: &architecture };
        keys.refuse_unsupported()?;
        let block_count = keys.positive("block_count")?;
        let embedding_length = keys.positive("embedding_length")?;
        let head_count = keys.positive("attention.head_count")?;
        let head = embedding_length / head_count;
        let key_length = keys.positive_or("attention.key_length", head)?;
        let context_length = keys.positive("context_length")?;
        let any = |suffix: &str| gguf.tensors().iter().any(|t| is_block_tensor(&t.name, suffix));
        let params = HyperParams {
            name: gguf.get_str("general.name")?.unwrap_or_default().to_owned(),
            block_count,
            context_length,
            embedding_length,
            feed_forward_length: keys.positive("feed_forward_length")?,
            head_count,
            head_count_kv: keys.positive_or("attention.head_count_kv", head_count)?,
            key_length,
            value_length: keys.positive_or("attention.value_length", head)?,
            rms_epsilon: gguf.need_f32(&keys.key("attention.layer_norm_rms_epsilon"))?,
            rope_freq_base: keys.f32_or("rope.freq_base", 10_000.0)?,
            rope_dimension_count: keys.positive_or("rope.dimension_count", key_length)?,
            rope_scaling: keys.rope_scaling(context_length)?,
            rope_freqs: gguf.tensor("rope_freqs.weight").is_some(),
            rope_halves: gguf.get_bool("aio.rope.halves")?.unwrap_or(false),
            vocab_size: vocab_size(gguf)?,
            tied_embeddings: gguf.tensor("output.weight").is_none(),
            attn_q_bias: any("attn_q.bias"),
            attn_k_bias: any("attn_k.bias"),
            attn_v_bias: any("attn_v.bias"),
            attn_output_bias: any("attn_output.bias"),
            attn_qk_norm: any("attn_q_norm.weight"),
            ffn_bias: ["ffn_gate.bias", "ffn_up.bias", "ffn_down.bias"].iter().any(|s| any(s)),
            architecture: architecture.clone(),
        };
        params.check(&keys)?;
        Ok(params)
    }

    fn check(&self, keys: &Keys<'_>) -> Result<(), HyperError> {
        let most_blocks = keys.gguf.tensors().len() as u64;
        if u64::from(self.block_count) > most_blocks {
            let expected = format!("at most {most_blocks}, the number of tensors");
            return Err(keys.value("block_count", self.block_count, expected));
        }
        if !self.head_count.is_multiple_of(self.head_count_kv) {
            let expected = format!("a divisor of the {} query heads", self.head_count);
            return Err(keys.value("attention.head_count_kv", self.head_count_kv, expected));
        }
        let rotated = self.rope_dimension_count;
        if rotated > self.key_length || !rotated.is_multiple_of(2) {
            let expected = format!("even and at most the head width {}", self.key_length);
            return Err(keys.value("rope.dimension_count", rotated, expected));
        }
        for (name, value) in
            [("attention.layer_norm_rms_epsilon", self.rms_epsilon), ("rope.freq_base", self.rope_freq_base)]
        {
            if !(value.is_finite() && value > 0.0) {
                return Err(keys.value(name, value, "a positive number".to_owned()));
            }
        }
        let embedding = keys.gguf.tensor("token_embd.weight").map(|t| t.dims.clone()).unwrap_or_default();
        if embedding != [u64::from(self.embedding_length), u64::from(self.vocab_size)] {
            let (embedding_length, vocab_size) = (self.embedding_length, self.vocab_size);
            return Err(HyperError::Embedding { got: embedding, embedding_length, vocab_size });
        }
        Ok(())
    }
}

/// Whether `name` is `blk.<number>.<suffix>`.
fn is_block_tensor(name: &str, suffix: &str) -> bool {
    let rest = name.strip_prefix("blk.").and_then(|r| r.strip_suffix(suffix));
    rest.and_then(|r| r.strip_suffix('.')).is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
}

/// Tokens: rows of the embedding, which must agree with the token list where there is one.
fn vocab_size(gguf: &Gguf) -> Result<u32, HyperError> {
    let name = "token_embd.weight";
    let embedding = gguf.tensor(name).ok_or_else(|| GgufError::MissingTensor { name: name.to_owned() })?;
    if let Some(tokens) = gguf.get_array("tokenizer.ggml.tokens", &[ValueType::Str])? {
        return u32::try_from(tokens.len()).map_err(|_| HyperError::Value {
            key: "tokenizer.ggml.tokens".to_owned(),
            got: format!("{} tokens long", tokens.len()),
            expected: "shorter".to_owned(),
        });
    }
    let rows = embedding.dims.get(1).copied().unwrap_or(0);
    u32::try_from(rows).ok().filter(|&n| n > 0).ok_or_else(|| HyperError::Value {
        key: "the row count of token_embd.weight".to_owned(),
        got: rows.to_string(),
        expected: "a positive 32-bit number".to_owned(),
    })
}

/// Reads keys of one architecture: `block_count` means `llama.block_count`.
struct Keys<'a> {
    gguf: &'a Gguf,
    architecture: &'a str,
}

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    fn value(&self, name: &str, got: impl ToString, expected: String) -> HyperError {
        HyperError::Value { key: self.key(name), got: got.to_string(), expected }
    }

    fn nonzero(&self, name: &str, value: u32) -> Result<u32, HyperError> {
        if value == 0 { Err(self.value(name, 0, "positive".to_owned())) } else { Ok(value) }
    }

    fn positive(&self, name: &str) -> Result<u32, HyperError> {
        self.nonzero(name, self.gguf.need_u32(&self.key(name))?)
    }

    fn positive_or(&self, name: &str, default: u32) -> Result<u32, HyperError> {
        self.nonzero(name, self.gguf.get_u32(&self.key(name))?.unwrap_or(default))
    }

    fn f32_or(&self, name: &str, default: f32) -> Result<f32, HyperError> {
        let value = self.gguf.get_f32(&self.key(name))?.unwrap_or(default);
        if value.is_finite() { Ok(value) } else { Err(self.value(name, value, "a finite number".to_owned())) }
    }

    fn refuse_unsupported(&self) -> Result<(), HyperError> {
        let key = self.key("expert_count");
        match self.gguf.get(&key).as_ref().and_then(Value::as_int) {
            None | Some(0) => Ok(()),
            Some(got) => Err(HyperError::Unsupported { what: "a mixture of experts", key, got: got.to_string() }),
        }
    }

    fn rope_scaling(&self, context_length: u32) -> Result<RopeScaling, HyperError> {
        let named = self.gguf.get_str(&self.key("rope.scaling.type"))?;
        let factor = match self.gguf.get_f32(&self.key("rope.scaling.factor"))? {
            Some(f) => f,
            // The key's name in old files.
            None => self.f32_or("rope.scale_linear", 1.0)?,
        };
        // llama.cpp reads a factor of 0 as "not set".
        let factor = if factor == 0.0 { 1.0 } else { factor };
        if !(factor.is_finite() && factor > 0.0) {
            return Err(self.value("rope.scaling.factor", factor, "a positive number".to_owned()));
        }
        let ty = match named {
            Some("none") => RopeScalingType::None,
            Some("yarn") => RopeScalingType::Yarn,
            // A file that names no type and has a factor means linear.
            Some("linear") | None if factor != 1.0 => RopeScalingType::Linear,
            Some("linear") | None => RopeScalingType::None,
            Some(other) => {
                return Err(self.value("rope.scaling.type", other, "none, linear or yarn".to_owned()));
            }
        };
        let original = self.positive_or("rope.scaling.original_context_length", context_length)?;
        let ext = if ty == RopeScalingType::Yarn { 1.0 } else { 0.0 };
        Ok(RopeScaling {
            ty,
            factor: if ty == RopeScalingType::None { 1.0 } else { factor },
            original_context_length: original,
            attn_factor: self.f32_or("rope.scaling.attn_factor", 1.0)?,
            yarn_ext_factor: self.f32_or("rope.scaling.yarn_ext_factor", ext)?,
            yarn_attn_factor: self.f32_or("rope.scaling.yarn_attn_factor", 1.0)?,
            yarn_beta_fast: self.f32_or("rope.scaling.yarn_beta_fast", 32.0)?,
            yarn_beta_slow: self.f32_or("rope.scaling.yarn_beta_slow", 1.0)?,
            yarn_log_multiplier: self.f32_or("rope.scaling.yarn_log_multiplier", 0.0)?,
        })
    }
}

/// Writes an f32 as the f64 with the same shortest decimal form, so that a template prints
/// `0.00001` and not `0.000009999999747378752`. Reading that text as f32 gives the same number.
fn short_f32<S: Serializer>(value: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(value.to_string().parse().unwrap_or(f64::from(*value)))
}
