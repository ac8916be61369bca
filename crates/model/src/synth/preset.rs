//! Shapes of real models, to be filled with random weights.
//!
//! Fields are public so that a test can take a preset and make it small.

/// The shape of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Preset {
    /// The preset's name, also `general.name` of the file.
    pub name: String,
    /// `general.architecture`; decides biases and norms.
    pub architecture: String,
    /// Transformer layers.
    pub block_count: u32,
    /// Width of the residual stream.
    pub embedding_length: u32,
    /// Width of the feed-forward layer.
    pub feed_forward_length: u32,
    /// Query heads.
    pub head_count: u32,
    /// Key and value heads.
    pub head_count_kv: u32,
    /// Width of a head.
    pub head_length: u32,
    /// Tokens; at least [`super::MIN_VOCAB`].
    pub vocab_size: u32,
    /// Positions.
    pub context_length: u32,
    /// Epsilon of the RMS norms.
    pub rms_epsilon: f32,
    /// Base of the rotary frequencies.
    pub rope_freq_base: f32,
    /// Whether the output projection is the embedding.
    pub tied_embeddings: bool,
    /// Whether the file has `rope_freqs.weight` as Llama 3 has it.
    pub rope_freqs: bool,
}

/// Layers, embedding, feed-forward, heads, kv heads, head width, vocabulary, context.
type Shape = [u32; 8];

fn preset(name: &str, architecture: &str, shape: Shape, epsilon: f32, base: f32, tied: bool) -> Preset {
    let [block_count, embedding_length, feed_forward_length, heads @ .., vocab_size, context_length] = shape;
    let [head_count, head_count_kv, head_length] = heads;
    Preset {
        name: name.to_owned(),
        architecture: architecture.to_owned(),
        block_count,
        embedding_length,
        feed_forward_length,
        head_count,
        head_count_kv,
        head_length,
        vocab_size,
        context_length,
        rms_epsilon: epsilon,
        rope_freq_base: base,
        tied_embeddings: tied,
        rope_freqs: name.starts_with("llama-"),
    }
}

/// All presets.
pub fn presets() -> Vec<Preset> {
    vec![
        preset("smollm2-135m", "llama", [30, 576, 1536, 9, 3, 64, 49_152, 8192], 1e-5, 1e5, true),
        preset("llama-1b", "llama", [16, 2048, 8192, 32, 8, 64, 128_256, 131_072], 1e-5, 5e5, true),
        preset("qwen2-0.5b", "qwen2", [24, 896, 4864, 14, 2, 64, 151_936, 32_768], 1e-6, 1e6, true),
        preset("qwen3-0.6b", "qwen3", [28, 1024, 3072, 16, 8, 128, 151_936, 40_960], 1e-6, 1e6, true),
        preset("qwen3-8b", "qwen3", [36, 4096, 12_288, 32, 8, 128, 151_936, 40_960], 1e-6, 1e6, false),
        preset("pangu-1b", "pangu-embedded", [26, 1536, 6144, 12, 6, 128, 153_376, 32_768], 1e-5, 4e6, true),
        preset("pangu-7b", "pangu-embedded", [34, 4096, 12_800, 32, 8, 128, 153_376, 32_768], 1e-5, 1.6e7, false),
    ]
}

impl Preset {
    /// The preset of this name.
    pub fn find(name: &str) -> Option<Preset> {
        presets().into_iter().find(|p| p.name == name)
    }

    /// The preset as a model of two layers and little width whose rows are whole blocks of every
    /// quantised type.
    pub fn tiny(&self) -> Preset {
        Preset {
            block_count: 2,
            embedding_length: 256,
            feed_forward_length: 512,
            head_count: 4,
            head_count_kv: 2,
            head_length: 64,
            vocab_size: 512,
            context_length: 512,
            ..self.clone()
        }
    }

    /// Which projections have biases: query, key and value; output.
    pub(super) fn biases(&self) -> (bool, bool) {
        match self.architecture.as_str() {
            "qwen2" => (true, false),
            "pangu-embedded" => (true, true),
            _ => (false, false),
        }
    }

    pub(super) fn qk_norm(&self) -> bool {
        self.architecture == "qwen3"
    }
}
