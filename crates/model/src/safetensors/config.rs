//! `config.json`: the hyper-parameters, as GGUF metadata.

use super::SafetensorsError;
use crate::gguf::write::GgufWriter;
use serde::Deserialize;
use std::path::Path;

/// Architectures whose configuration and tensors are known. GGUF uses the same names.
const ARCHITECTURES: [&str; 3] = ["llama", "qwen2", "qwen3"];

/// One id or several.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Ids {
    One(u32),
    Many(Vec<u32>),
}

impl Ids {
    pub(super) fn list(&self) -> &[u32] {
        match self {
            Ids::One(id) => std::slice::from_ref(id),
            Ids::Many(ids) => ids,
        }
    }
}

/// The keys that are read. Others do not affect the result.
#[derive(Debug, Deserialize)]
pub(super) struct Config {
    model_type: String,
    pub vocab_size: u32,
    pub hidden_size: u32,
    intermediate_size: u32,
    num_hidden_layers: u32,
    num_attention_heads: u32,
    num_key_value_heads: Option<u32>,
    head_dim: Option<u32>,
    max_position_embeddings: u32,
    rms_norm_eps: f32,
    #[serde(default)]
    pub tie_word_embeddings: bool,
    pub bos_token_id: Option<Ids>,
    pub eos_token_id: Option<Ids>,
    rope_theta: Option<f32>,
    rope_scaling: Option<Rope>,
    /// Newer files have both of the above here.
    rope_parameters: Option<Rope>,
    hidden_act: Option<String>,
    #[serde(default)]
    use_sliding_window: bool,
    /// The kind of attention of each layer.
    #[serde(default)]
    layer_types: Vec<String>,
    is_causal: Option<bool>,
    partial_rotary_factor: Option<f32>,
    quantization_config: Option<serde_json::Value>,
}

/// Scaling of positions.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Rope {
    rope_type: Option<String>,
    #[serde(rename = "type")]
    old_type: Option<String>,
    rope_theta: Option<f32>,
    factor: Option<f32>,
    original_max_position_embeddings: Option<u32>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    attention_factor: Option<f32>,
    beta_fast: Option<f32>,
    beta_slow: Option<f32>,
    mscale: Option<f32>,
    mscale_all_dim: Option<f32>,
    truncate: Option<bool>,
}

impl Config {
    /// Rejects settings that would silently give another model.
    pub(super) fn check(&self, path: &Path) -> Result<(), SafetensorsError> {
        let rope = self.rope();
        let kind = rope.kind();
        let refused = [
            (!ARCHITECTURES.contains(&self.model_type.as_str()), format!("model_type {:?}", self.model_type)),
            (self.quantization_config.is_some(), "quantization_config".to_owned()),
            (self.hidden_act.as_deref().is_some_and(|a| a != "silu"), format!("hidden_act {:?}", self.hidden_act)),
            (self.use_sliding_window, "use_sliding_window".to_owned()),
            (self.layer_types.iter().any(|t| t != "full_attention"), format!("layer_types {:?}", self.layer_types)),
            (self.is_causal == Some(false), "is_causal false".to_owned()),
            (self.partial_rotary_factor.is_some_and(|f| f != 1.0), "partial_rotary_factor".to_owned()),
            (!["default", "linear", "yarn", "llama3"].contains(&kind), format!("rope_type {kind:?}")),
            (rope.mscale.or(rope.mscale_all_dim).is_some(), "mscale of rope_scaling".to_owned()),
            (rope.truncate == Some(false), "rope_scaling without truncate".to_owned()),
        ];
        if let Some((_, what)) = refused.into_iter().find(|(is, _)| *is) {
            return Err(SafetensorsError::Unsupported { path: path.to_path_buf(), what });
        }
        let value = |key, got: String, expected: &str| SafetensorsError::Value {
            path: path.to_path_buf(),
            key,
            got,
            expected: expected.to_owned(),
        };
        if self.num_attention_heads == 0 {
            return Err(value("num_attention_heads", "0".to_owned(), "positive"));
        }
        let (low, high) = rope.bands();
        if kind == "llama3" && low >= high {
            return Err(value("high_freq_factor", high.to_string(), &format!("more than low_freq_factor {low}")));
        }
        match rope.factor {
            Some(f) if f.is_finite() && f >= 1.0 => Ok(()),
            None if kind == "default" => Ok(()),
            other => Err(value("factor of rope_scaling", format!("{other:?}"), "1 or more")),
        }
    }

    fn rope(&self) -> Rope {
        self.rope_scaling.clone().or_else(|| self.rope_parameters.clone()).unwrap_or_default()
    }

    fn rope_theta(&self) -> f32 {
        let inner = self.rope_parameters.as_ref().and_then(|r| r.rope_theta);
        self.rope_theta.or(inner).or(self.rope().rope_theta).unwrap_or(10_000.0)
    }

    fn head_dim(&self) -> u32 {
        self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads)
    }

    /// Writes the hyper-parameters.
    pub(super) fn describe(&self, w: &mut GgufWriter) {
        let architecture = self.model_type.as_str();
        let key = |name: &str| format!("{architecture}.{name}");
        w.set("general.architecture", architecture);
        let numbers = [
            ("block_count", self.num_hidden_layers),
            ("context_length", self.max_position_embeddings),
            ("embedding_length", self.hidden_size),
            ("feed_forward_length", self.intermediate_size),
            ("attention.head_count", self.num_attention_heads),
            ("attention.head_count_kv", self.num_key_value_heads.unwrap_or(self.num_attention_heads)),
            ("attention.key_length", self.head_dim()),
            ("attention.value_length", self.head_dim()),
            ("rope.dimension_count", self.head_dim()),
        ];
        for (name, value) in numbers {
            w.set(&key(name), value);
        }
        w.set(&key("attention.layer_norm_rms_epsilon"), self.rms_norm_eps);
        w.set(&key("rope.freq_base"), self.rope_theta()).set("aio.rope.halves", true);
        let rope = self.rope();
        let (Some(factor), "linear" | "yarn") = (rope.factor, rope.kind()) else { return };
        w.set(&key("rope.scaling.type"), rope.kind()).set(&key("rope.scaling.factor"), factor);
        let trained = rope.original_max_position_embeddings.unwrap_or(self.max_position_embeddings);
        w.set(&key("rope.scaling.original_context_length"), trained);
        let numbers = [
            // Here the magnitude is the complete value; in GGUF it is a factor on YaRN's own.
            ("attn_factor", rope.attention_factor.map(|a| a / (1.0 + 0.1 * factor.ln()))),
            ("yarn_beta_fast", rope.beta_fast),
            ("yarn_beta_slow", rope.beta_slow),
        ];
        for (name, value) in numbers.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            w.set(&key(&format!("rope.scaling.{name}")), value);
        }
    }

    /// Llama 3's divisors of the rotary frequencies, which GGUF files store as `rope_freqs.weight`.
    pub(super) fn rope_factors(&self) -> Option<Vec<f32>> {
        let rope = self.rope();
        if rope.kind() != "llama3" {
            return None;
        }
        let factor = f64::from(rope.factor?);
        let trained = f64::from(rope.original_max_position_embeddings.unwrap_or(self.max_position_embeddings));
        let (low, high) = rope.bands();
        let half = self.head_dim() / 2;
        let divisor = |i: u32| {
            let frequency = f64::from(self.rope_theta()).powf(-f64::from(i) / f64::from(half));
            let rotations = trained * frequency / std::f64::consts::TAU;
            let between = ((rotations - low) / (high - low)).clamp(0.0, 1.0);
            (1.0 / ((1.0 - between) / factor + between)) as f32
        };
        Some((0..half).map(divisor).collect())
    }
}

impl Rope {
    fn kind(&self) -> &str {
        self.rope_type.as_deref().or(self.old_type.as_deref()).unwrap_or("default")
    }

    /// Rotations over the trained context below which a frequency is divided, and above which it is kept.
    fn bands(&self) -> (f64, f64) {
        (self.low_freq_factor.unwrap_or(1.0), self.high_freq_factor.unwrap_or(4.0))
    }
}
