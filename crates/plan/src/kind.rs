//! Kinds of tasks: what a back end maps to kernels, with the numbers a kernel needs.
//!
//! Each kind fixes the order of its operands and results (stated on the variant), so a kernel finds its operands by
//! place; an absent one is [`Slot::Absent`](crate::Slot::Absent). What a kind computes is what its task's body says:
//! the numbers here are those from which [`crate::body`] builds it, in the form that kernels want.

use crate::kinds::Class;
use aio_ir::{Attr, Node, Op};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// A kind without its numbers: the key of support tables and reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KindName {
    /// See [`TaskKind::Qkv`].
    Qkv,
    /// See [`TaskKind::Attend`].
    Attend,
    /// See [`TaskKind::Linear`].
    Linear,
    /// See [`TaskKind::GateUp`].
    GateUp,
    /// See [`TaskKind::Head`].
    Head,
    /// See [`TaskKind::Op`].
    Op(Op),
}

impl KindName {
    /// The name in plans and tables.
    pub fn name(self) -> &'static str {
        match self {
            KindName::Qkv => "qkv",
            KindName::Attend => "attend_pages",
            KindName::Linear => "linear",
            KindName::GateUp => "gate_up",
            KindName::Head => "head",
            KindName::Op(op) => op.mnemonic(),
        }
    }

    /// Whether the operand at a place is a matrix that products or look-ups take: the weights that may lie in a back
    /// end's own layout. All other operands lie as in the file.
    pub fn is_matrix(self, place: usize) -> bool {
        match self {
            KindName::Op(Op::Matmul) => place == 1,
            KindName::Op(Op::Embed) => place == 0,
            _ => self.spec().and_then(|s| s.operands.get(place)).is_some_and(|o| o.class == Class::Matrix),
        }
    }
}

/// Where the members of a rotated pair lie.
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
    /// Not at all.
    None,
    /// All angles divided by the factor.
    Linear {
        /// The factor.
        factor: f32,
    },
    /// High frequencies as trained, low ones divided, a ramp between (YaRN, arXiv 2309.00071).
    Yarn {
        /// The factor.
        factor: f32,
        /// Context length in training.
        original_context: u32,
        /// Extra factor on the magnitude.
        attn_factor: f32,
        /// Rotations from which a frequency counts as high.
        beta_fast: f32,
        /// Rotations below which a frequency counts as low.
        beta_slow: f32,
    },
}

/// Rotary position embedding.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RopeSpec {
    /// Where pairs lie.
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

    /// The attributes of the `rope` node that these numbers stand for.
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

    /// Angle per position of pair `i`, for `i` in `0..dims / 2`, and the magnitude of the rotation. The factors divide
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

/// The share of a frequency that YaRN leaves as trained: 1 for high ones, 0 for low ones.
struct YarnRamp {
    low: f64,
    high: f64,
}

impl YarnRamp {
    fn new(rope: &RopeSpec, context: u32, beta_fast: f32, beta_slow: f32) -> YarnRamp {
        // The pair that turns `rotations` times over the trained context.
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

/// Numbers of [`TaskKind::Qkv`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct QkvSpec {
    /// Epsilon of the norm before the projections.
    pub norm_eps: f32,
    /// Query heads.
    pub heads: u32,
    /// Key and value heads.
    pub kv_heads: u32,
    /// Elements of a head.
    pub head_dim: u32,
    /// Epsilon of the norms of query and key heads, where the model has them.
    pub qk_norm_eps: Option<f32>,
    /// Rotation of queries and keys.
    pub rope: RopeSpec,
}

/// Numbers of [`TaskKind::Attend`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttendSpec {
    /// Query heads.
    pub heads: u32,
    /// Key and value heads.
    pub kv_heads: u32,
    /// Elements of a head.
    pub head_dim: u32,
    /// Factor on the scores.
    pub scale: f32,
    /// Positions that a row sees, its own included; 0 for all.
    pub window: u32,
    /// `cap * tanh(score / cap)`; 0 for none.
    pub soft_cap: f32,
}

/// Numbers of [`TaskKind::Linear`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinearSpec {
    /// Epsilon of a norm before the product, if there is one.
    pub norm_eps: Option<f32>,
}

/// What multiplies the up projection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// The tanh form of GELU.
    Gelu,
}

/// Numbers of [`TaskKind::GateUp`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GateUpSpec {
    /// Epsilon of the norm before the projections.
    pub norm_eps: f32,
    /// Applied to the gate.
    pub activation: Activation,
}

/// Numbers of [`TaskKind::Head`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeadSpec {
    /// Epsilon of the norm before the projection.
    pub norm_eps: f32,
    /// Whether the result is the arg-max (u32 a row) instead of the logits.
    pub argmax: bool,
}

/// What a task computes, with a kernel's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum TaskKind {
    /// Norm, query, key and value projections with biases, head norms, rotation, page write.
    /// Operands: x, norm weight, wq, wk, wv, bq?, bk?, bv?, q norm?, k norm?, positions, frequency factors?, kv, page
    /// table, row sequences. Results: q f32\[rows, heads, head size\], kv.
    Qkv(QkvSpec),
    /// Attention over pages. Operands: q, kv, page table, row sequences, positions, sinks?. Results: f32 like q.
    Attend(AttendSpec),
    /// `norm(x) * w + bias + residual`. Operands: x, norm weight?, w, bias?, residual?. Results: f32\[rows, n\].
    Linear(LinearSpec),
    /// `act(norm(x) * wg) * (norm(x) * wu)`. Operands: x, norm weight, wg, wu. Results: f32\[rows, n\].
    GateUp(GateUpSpec),
    /// The last norm and the projection onto the vocabulary for the output rows. Operands: x, row index, norm weight,
    /// w. Results: f32\[outs, vocabulary\], or u32\[outs\] with `argmax`.
    Head(HeadSpec),
    /// One node as it is. Operands and results are the op's.
    Op(#[serde(with = "crate::artefact::wire::op")] Op),
}

impl TaskKind {
    /// Which operands may be absent, in the kind's order.
    pub fn optional_operands(&self) -> SmallVec<[bool; 16]> {
        match (self, self.name().spec()) {
            (_, Some(spec)) => spec.operands.iter().map(|o| o.optional).collect(),
            (TaskKind::Op(op), None) => op.spec().operands.iter().map(|o| o.optional).collect(),
            (_, None) => SmallVec::new(),
        }
    }

    /// How many results the kind has.
    pub fn result_count(&self) -> usize {
        match (self, self.name().spec()) {
            (_, Some(spec)) => spec.results,
            (TaskKind::Op(op), None) => op.spec().results.len(),
            (_, None) => 0,
        }
    }

    /// The kind alone.
    pub fn name(&self) -> KindName {
        match self {
            TaskKind::Qkv(_) => KindName::Qkv,
            TaskKind::Attend(_) => KindName::Attend,
            TaskKind::Linear(_) => KindName::Linear,
            TaskKind::GateUp(_) => KindName::GateUp,
            TaskKind::Head(_) => KindName::Head,
            TaskKind::Op(op) => KindName::Op(*op),
        }
    }
}
