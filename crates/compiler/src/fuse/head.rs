//! Fuses the gather of output rows, the last norm, the vocabulary projection and the arg-max.

use super::cluster::Cluster;
use super::matcher::{Matcher, Nodes};
use aio_ir::{NodeId, Op, ValueId};
use aio_plan::kinds::head;
use aio_plan::{HeadSpec, TaskKind};

pub(super) fn head(m: &Matcher<'_>, id: NodeId) -> Option<Cluster> {
    let node = m.graph.node(id);
    let mut nodes = Nodes::new();
    nodes.push(id);
    let (logits, argmax) = match node.op {
        Op::Argmax => {
            let logits = node.input(0);
            m.inner(logits, Op::Matmul, 1, &mut nodes)?;
            (logits, true)
        }
        Op::Matmul => (node.results[0], false),
        _ => return None,
    };
    let (x, w) = product(m, logits)?;
    let norm = m.norm(x, 1, &mut nodes)?;
    let gather = m.inner(norm.x, Op::Gather, 1, &mut nodes)?;
    let operands = head::Operands {
        x: Some(gather.operand("x")),
        out_rows: Some(gather.operand("index")),
        norm: Some(norm.weight),
        w: Some(w),
    };
    let kind = TaskKind::Head(HeadSpec { norm_eps: norm.eps, argmax });
    Some(Cluster { kind, nodes: nodes.to_vec(), operands: operands.into_list(), results: node.results.to_vec() })
}

fn product(m: &Matcher<'_>, logits: ValueId) -> Option<(ValueId, ValueId)> {
    let (_, node) = m.node(logits, Op::Matmul)?;
    let dense = node.optional(2).is_none() && m.is_weight(node.input(1));
    dense.then(|| (node.input(0), node.input(1)))
}
