//! The numbers of each fused kind, in the form that kernels use.
//!
//! A task's body is built from them ([`crate::body`]), so they add nothing to the body.

use crate::rope::RopeSpec;
use aio_ir::{Graph, Node, Op};
use serde::{Deserialize, Serialize};

/// Numbers of [`TaskKind::Qkv`](crate::TaskKind::Qkv).
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
    /// Epsilon of the query and key norms, if the model has them.
    pub qk_norm_eps: Option<f32>,
    /// Rotation of queries and keys.
    pub rope: RopeSpec,
}

/// Numbers of [`TaskKind::Attend`](crate::TaskKind::Attend).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttendSpec {
    /// Query heads.
    pub heads: u32,
    /// Key and value heads.
    pub kv_heads: u32,
    /// Elements of a head.
    pub head_dim: u32,
    /// Factor applied to the scores.
    pub scale: f32,
    /// Positions that a row sees, including its own; 0 for all.
    pub window: u32,
    /// Scores become `cap * tanh(score / cap)`; 0 for none.
    pub soft_cap: f32,
}

impl AttendSpec {
    /// The numbers of an `attend` node. `None` if head counts or sizes are not constants, or a number exceeds 32 bits.
    pub fn from_node(graph: &Graph, node: &Node) -> Option<AttendSpec> {
        const KV: usize = Op::Attend.place("kv");
        let size = |operand: usize, axis: usize| {
            let dim = graph.ty(node.input(operand)).shape.dims().get(axis).copied();
            dim.and_then(|d| d.known()).and_then(|d| u32::try_from(d).ok())
        };
        Some(AttendSpec {
            heads: size(0, 1)?,
            kv_heads: size(KV, 2)?,
            head_dim: size(0, 2)?,
            scale: node.f32("scale"),
            window: u32::try_from(node.int("window")).ok()?,
            soft_cap: node.f32("soft_cap"),
        })
    }
}

/// Numbers of [`TaskKind::Linear`](crate::TaskKind::Linear).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinearSpec {
    /// Epsilon of the norm before the product, if there is one.
    pub norm_eps: Option<f32>,
}

/// The function applied to the gate before it multiplies the up projection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// The tanh form of GELU.
    Gelu,
}

/// Numbers of [`TaskKind::GateUp`](crate::TaskKind::GateUp).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GateUpSpec {
    /// Epsilon of the norm before the projections.
    pub norm_eps: f32,
    /// The function applied to the gate.
    pub activation: Activation,
}

/// How a router's scores become the weights of the experts that it picks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Routing {
    /// Softmax over all experts.
    Softmax,
    /// Softmax over all experts, then divided by the sum over the picked ones.
    Normalised,
    /// Softmax over the scores of the picked ones.
    SoftmaxOfPicked,
}

/// Numbers of [`TaskKind::Experts`](crate::TaskKind::Experts).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExpertsSpec {
    /// Epsilon of the norm before router and projections.
    pub norm_eps: f32,
    /// Experts of each row.
    pub picked: u32,
    /// How they are weighed.
    pub routing: Routing,
    /// The function applied to the gates.
    pub activation: Activation,
}

/// Numbers of [`TaskKind::Head`](crate::TaskKind::Head).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeadSpec {
    /// Epsilon of the norm before the projection.
    pub norm_eps: f32,
    /// Whether the result is the arg-max (one u32 per row) instead of the logits.
    pub argmax: bool,
}
