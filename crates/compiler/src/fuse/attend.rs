//! Attention over pages: a node alone, with its numbers at hand.

use super::{Cluster, Matcher};
use aio_ir::{NodeId, Op};
use aio_plan::{AttendSpec, TaskKind};

pub(super) fn attend(m: &Matcher<'_>, id: NodeId) -> Option<Cluster> {
    let node = Some(m.graph.node(id)).filter(|n| n.op == Op::Attend)?;
    let known = |operand: usize, dim: usize| m.graph.ty(node.input(operand)).shape.dims()[dim].known();
    let spec = AttendSpec {
        heads: known(0, 1)? as u32,
        kv_heads: known(1, 2)? as u32,
        head_dim: known(0, 2)? as u32,
        scale: node.f32("scale"),
        window: u32::try_from(node.int("window")).ok()?,
        soft_cap: node.f32("soft_cap"),
    };
    let (operands, results) = (node.inputs.to_vec(), node.results.to_vec());
    Some(Cluster { kind: TaskKind::Attend(spec), nodes: vec![id], operands, results })
}
