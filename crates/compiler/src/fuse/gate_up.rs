//! Norm, gate and up projections and the gated activation become one task.

use super::{Cluster, Matcher, Nodes};
use aio_ir::{NodeId, Op, ValueId};
use aio_plan::{Activation, GateUpSpec, TaskKind};

pub(super) fn gate_up(m: &Matcher<'_>, id: NodeId) -> Option<Cluster> {
    let mul = Some(m.graph.node(id)).filter(|n| n.op == Op::Mul)?;
    let (a, b) = (mul.input(0), mul.input(1));
    gated(m, id, a, b).or_else(|| gated(m, id, b, a))
}

fn gated(m: &Matcher<'_>, id: NodeId, gate: ValueId, up: ValueId) -> Option<Cluster> {
    let mut nodes = Nodes::new();
    nodes.push(id);
    let (inner, activation) = match m.inner(gate, Op::Silu, 1, &mut nodes) {
        Some(node) => (node.input(0), Activation::Silu),
        None => (m.inner(gate, Op::Gelu, 1, &mut nodes)?.input(0), Activation::Gelu),
    };
    let g = m.projection(inner, &mut nodes).filter(|p| p.bias.is_none())?;
    let u = m.projection(up, &mut nodes).filter(|p| p.bias.is_none() && p.x == g.x)?;
    let norm = m.norm(g.x, 2, &mut nodes)?;
    let operands = vec![Some(norm.x), Some(norm.weight), Some(g.w), Some(u.w)];
    let results = m.graph.node(id).results.to_vec();
    let kind = TaskKind::GateUp(GateUpSpec { norm_eps: norm.eps, activation });
    Some(Cluster { kind, nodes: nodes.to_vec(), operands, results })
}
