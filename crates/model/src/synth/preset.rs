//! Shapes of real models, to be filled with random weights.
//!
//! They are data (`presets.json`), so that a new architecture needs no code here. Fields are public so that a test can
//! shrink a preset.

use serde::Deserialize;

/// The shape of a model.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// The preset's name, also the file's `general.name`.
    pub name: String,
    /// `general.architecture`.
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
    /// Vocabulary size, at least [`super::MIN_VOCAB`].
    pub vocab_size: u32,
    /// Context length in positions.
    pub context_length: u32,
    /// Epsilon of the RMS norms.
    pub rms_epsilon: f32,
    /// Base of the rotary frequencies.
    pub rope_freq_base: f32,
    /// Optional tensors in the file, each one of [`super::OPTIONAL`]. `attn_q.bias` stands for that of each layer.
    #[serde(default)]
    pub optional: Vec<String>,
}

/// All presets, in the order of `presets.json`.
pub fn presets() -> Vec<Preset> {
    serde_json::from_str(include_str!("presets.json")).expect("a test reads the same text")
}

impl Preset {
    /// The preset with this name.
    pub fn find(name: &str) -> Option<Preset> {
        presets().into_iter().find(|p| p.name == name)
    }

    /// The preset as a narrow model of two layers whose rows are whole blocks of every quantised type.
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

    /// Whether an optional tensor is present. `attn_q.bias` means that of each layer.
    pub fn has(&self, tensor: &str) -> bool {
        self.optional.iter().any(|name| name == tensor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_presets_are_well_formed_and_named_once() {
        let all = presets();
        let names: std::collections::HashSet<_> = all.iter().map(|p| p.name.as_str()).collect();
        assert!(all.len() >= 7 && names.len() == all.len());
        assert!(all.iter().all(|p| Preset::find(&p.name).as_ref() == Some(p)));
    }
}
