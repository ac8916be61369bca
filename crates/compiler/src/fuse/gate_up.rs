//! Fuses norm, gate and up projections, and the gated activation.

use super::cluster::Cluster;
use super::matcher::{Matcher, Nodes};
use aio_ir::{NodeId, Op, ValueId};
use aio_plan::kinds::gate_up;
use aio_plan::{Activation, GateUpSpec, TaskKind};

pub(super) fn gate_up(m: &Matcher<'_>, id: NodeId) -> Option<Result<Cluster, &'static str>> {
    let mul = Some(m.graph.node(id)).filter(|n| n.op == Op::Mul)?;
    let (a, b) = (mul.input(0), mul.input(1));
    let activated = |v| m.node(v, Op::Silu).or_else(|| m.node(v, Op::Gelu)).is_some();
    Some(if activated(a) { gated(m, id, a, b) } else { gated(m, id, b, a) })
}

fn gated(m: &Matcher<'_>, id: NodeId, gate: ValueId, up: ValueId) -> Result<Cluster, &'static str> {
    let mut nodes = Nodes::new();
    nodes.push(id);
    let (inner, activation) = match m.inner(gate, Op::Silu, 1, &mut nodes) {
        Some(node) => (node.input(0), Activation::Silu),
        None => {
            let gelu = m.inner(gate, Op::Gelu, 1, &mut nodes);
            (gelu.ok_or("no factor is a silu or gelu that nothing else uses")?.input(0), Activation::Gelu)
        }
    };
    let g = m.projection(inner, &mut nodes).ok_or("the gate is not a product with a weight that nothing else uses")?;
    let u =
        m.projection(up, &mut nodes).ok_or("the other factor is not a product with a weight that nothing else uses")?;
    if g.bias.or(u.bias).is_some() {
        return Err("a projection has a bias");
    }
    if u.x != g.x {
        return Err("the projections have different inputs");
    }
    let norm = m.norm(g.x, 2, &mut nodes).ok_or("their input is not a norm with a weight that nothing else uses")?;
    let operands = gate_up::Operands { x: Some(norm.x), norm: Some(norm.weight), gate: Some(g.w), up: Some(u.w) };
    let results = m.graph.node(id).results.to_vec();
    let kind = TaskKind::GateUp(GateUpSpec { norm_eps: norm.eps, activation });
    Ok(Cluster { kind, nodes: nodes.to_vec(), operands: operands.into_list(), results })
}
