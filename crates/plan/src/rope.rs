//! Rotary position embedding (RoPE): its numbers, the attributes they come from, and the frequencies.
//!
//! Part of [`QkvSpec`](crate::QkvSpec). Back ends and the oracle take frequencies from here, so that they agree.

use aio_ir::{Attr, Node};
use serde::{Deserialize, Serialize};

/// Which elements form a rotated pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RopePairs {
    /// Elements 2i and 2i + 1.
    Adjacent,
    /// Elements i and i + dims / 2.
    Halves,
}

/// How positions beyond the trained context are scaled.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum RopeScaling {
    /// No scaling.
    None,
    /// All angles are divided by the factor.
    Linear {
        /// The factor.
        factor: f32,
    },
    /// High frequencies as trained, low ones divided by the factor, with a ramp in between (YaRN, arXiv 2309.00071).
    Yarn {
        /// The factor.
        factor: f32,
        /// Context length in training.
        original_context: u32,
        /// Extra factor on the magnitude.
        attn_factor: f32,
        /// Rotations at or above which a frequency counts as high.
        beta_fast: f32,
        /// Rotations below which a frequency counts as low.
        beta_slow: f32,
    },
}

/// Rotary position embedding.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RopeSpec {
    /// Which elements form a pair.
    pub pairs: RopePairs,
    /// Rotated elements of each head.
    pub dims: u32,
    /// Base of the frequencies.
    pub base: f32,
    /// Context extension.
    pub scaling: RopeScaling,
}

impl RopeSpec {
    /// The numbers of a `rope` node.
    pub fn from_node(node: &Node) -> RopeSpec {
        let pairs = if node.word("pairs") == "adjacent" { RopePairs::Adjacent } else { RopePairs::Halves };
        let factor = node.f32("factor");
        let scaling = match node.word("scaling") {
            "linear" => RopeScaling::Linear { factor },
            "yarn" => RopeScaling::Yarn {
                factor,
                original_context: node.int("original_context") as u32,
                attn_factor: node.f32("attn_factor"),
                beta_fast: node.f32("beta_fast"),
                beta_slow: node.f32("beta_slow"),
            },
            _ => RopeScaling::None,
        };
        RopeSpec { pairs, dims: node.int("dims") as u32, base: node.f32("base"), scaling }
    }

    /// The attributes of the `rope` node with these numbers.
    pub fn attrs(&self) -> Vec<(&'static str, Attr)> {
        let pairs = match self.pairs {
            RopePairs::Adjacent => "adjacent",
            RopePairs::Halves => "halves",
        };
        let mut attrs =
            vec![("pairs", Attr::Word(pairs)), ("dims", Attr::Int(self.dims.into())), ("base", Attr::F32(self.base))];
        match self.scaling {
            RopeScaling::None => {}
            RopeScaling::Linear { factor } => {
                attrs.extend([("scaling", Attr::Word("linear")), ("factor", Attr::F32(factor))]);
            }
            RopeScaling::Yarn { factor, original_context, attn_factor, beta_fast, beta_slow } => attrs.extend([
                ("scaling", Attr::Word("yarn")),
                ("factor", Attr::F32(factor)),
                ("original_context", Attr::Int(original_context.into())),
                ("attn_factor", Attr::F32(attn_factor)),
                ("beta_fast", Attr::F32(beta_fast)),
                ("beta_slow", Attr::F32(beta_slow)),
            ]),
        }
        attrs
    }

    /// The angle per position of each pair `i` in `0..dims / 2`, and the magnitude of the rotation. `factors` divide
    /// the frequencies (Llama 3.1's `rope_freqs`). Every back end takes its table from here, so that they agree.
    pub fn frequencies(&self, factors: Option<&[f32]>) -> (Vec<f32>, f32) {
        let half = self.dims as usize / 2;
        let raw = |i: usize| {
            let base = f64::from(self.base).powf(-2.0 * i as f64 / f64::from(self.dims));
            base / factors.map_or(1.0, |f| f64::from(f[i]))
        };
        match self.scaling {
            RopeScaling::None => ((0..half).map(|i| raw(i) as f32).collect(), 1.0),
            RopeScaling::Linear { factor } => ((0..half).map(|i| (raw(i) / f64::from(factor)) as f32).collect(), 1.0),
            RopeScaling::Yarn { factor, original_context, attn_factor, beta_fast, beta_slow } => {
                let ramp = YarnRamp::new(self, original_context, beta_fast, beta_slow);
                let blend = |i: usize| {
                    let keep = ramp.keep(i);
                    (raw(i) * keep + raw(i) / f64::from(factor) * (1.0 - keep)) as f32
                };
                let magnitude = attn_factor * (1.0 + 0.1 * factor.ln());
                ((0..half).map(blend).collect(), magnitude)
            }
        }
    }
}

/// The share of a frequency that YaRN leaves as trained: 1 for high frequencies, 0 for low ones.
struct YarnRamp {
    low: f64,
    high: f64,
}

impl YarnRamp {
    fn new(rope: &RopeSpec, context: u32, beta_fast: f32, beta_slow: f32) -> YarnRamp {
        // The pair that makes `rotations` turns over the trained context.
        let pair = |rotations: f32| {
            let turns = f64::from(context) / (f64::from(rotations) * std::f64::consts::TAU);
            f64::from(rope.dims) * turns.ln() / (2.0 * f64::from(rope.base).ln())
        };
        let last = f64::from(rope.dims) - 1.0;
        YarnRamp { low: pair(beta_fast).floor().max(0.0), high: pair(beta_slow).ceil().min(last) }
    }

    fn keep(&self, i: usize) -> f64 {
        let along = (i as f64 - self.low) / (self.high - self.low).max(0.001);
        1.0 - along.clamp(0.0, 1.0)
    }
}
