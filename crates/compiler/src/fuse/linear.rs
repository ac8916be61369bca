//! Fuses a projection with its norm, bias and residual.

use super::cluster::Cluster;
use super::matcher::{Matcher, Nodes, Projection};
use aio_ir::{NodeId, Op, ValueId};
use aio_plan::kinds::linear;
use aio_plan::{LinearSpec, TaskKind};

pub(super) fn linear(m: &Matcher<'_>, id: NodeId) -> Option<Cluster> {
    let node = m.graph.node(id);
    match node.op {
        Op::Add => {
            let (a, b) = (node.input(0), node.input(1));
            residual(m, id, a, b).or_else(|| residual(m, id, b, a)).or_else(|| with_bias(m, id))
        }
        Op::Matmul => last_product(m, id),
        _ => None,
    }
}

/// Matches `projection + other`, where `other` has the product's shape.
fn residual(m: &Matcher<'_>, id: NodeId, product: ValueId, other: ValueId) -> Option<Cluster> {
    let mut nodes = Nodes::new();
    nodes.push(id);
    let p = m.projection(product, &mut nodes)?;
    let fits = m.graph.ty(product) == m.graph.ty(other) && !m.is_weight(other);
    fits.then(|| finish(m, id, p, Some(other), nodes))
}

/// Matches `matmul + bias` as the last node. The sum may have any number of uses.
fn with_bias(m: &Matcher<'_>, id: NodeId) -> Option<Cluster> {
    let add = m.graph.node(id);
    let (a, b) = (add.input(0), add.input(1));
    let (product, bias) = if m.is_weight(b) { (a, b) } else { (b, a) };
    let vector = m.is_weight(bias) && m.graph.ty(bias).shape.rank() == 1;
    let full = m.graph.ty(bias).shape.last() == m.graph.ty(add.results[0]).shape.last();
    let mut nodes = Nodes::new();
    nodes.push(id);
    let p = m.plain(product, &mut nodes).filter(|_| vector && full)?;
    Some(finish(m, id, Projection { bias: Some(bias), ..p }, None, nodes))
}

/// Matches a product as the last node.
fn last_product(m: &Matcher<'_>, id: NodeId) -> Option<Cluster> {
    let node = m.graph.node(id);
    let dense = node.optional(2).is_none() && m.is_weight(node.input(1));
    let p = Projection { x: node.input(0), w: node.input(1), bias: None };
    let mut nodes = Nodes::new();
    nodes.push(id);
    dense.then(|| finish(m, id, p, None, nodes))
}

fn finish(m: &Matcher<'_>, id: NodeId, p: Projection, residual: Option<ValueId>, mut nodes: Nodes) -> Cluster {
    let norm = m.norm(p.x, 1, &mut nodes);
    let kind = TaskKind::Linear(LinearSpec { norm_eps: norm.as_ref().map(|n| n.eps) });
    let x = norm.as_ref().map_or(p.x, |n| n.x);
    let operands = linear::Operands { x: Some(x), norm: norm.map(|n| n.weight), w: Some(p.w), bias: p.bias, residual };
    Cluster { kind, nodes: nodes.to_vec(), operands: operands.into_list(), results: m.graph.node(id).results.to_vec() }
}
