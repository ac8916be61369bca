//! Fusion: gathers nodes into clusters, one task each, of kinds that the target has kernels for.
//!
//! Each pattern has a file. A pattern starts at its last node and walks back through values with no other use, so a
//! cluster's dataflow never leaves and re-enters it. A node that no pattern takes becomes a task. Reshapes become
//! views, except those of states.

mod attend;
mod cluster;
mod experts;
mod gate_up;
mod head;
mod linear;
mod matcher;
mod qkv;

pub(crate) use cluster::Cluster;
pub(crate) use matcher::Miss;

use crate::CompileError;
use aio_ir::{Def, Graph, Node, NodeId, Op, ValueId};
use aio_plan::{Bucket, KindName, Limits, Target, TaskKind};
use matcher::Matcher;

/// Whether a node only renames its operand's bytes. A state changes in place, so a reshaped state must be a copy.
pub(crate) fn is_view(graph: &Graph, node: &Node) -> bool {
    let of_state = |value: ValueId| match graph.value(value).def {
        Def::State => true,
        Def::Node { node, result } => result == 0 && graph.node(node).op.spec().updates.is_some(),
        _ => false,
    };
    node.op == Op::Reshape && !of_state(node.input(0))
}

/// Makes clusters of all nodes except views, and lists larger clusters that were missed. With `fuse` off, each node is
/// a cluster.
///
/// # Errors
/// [`CompileError::Unsupported`] if the target lacks an op that no pattern took, or the node exceeds its limits.
pub(crate) fn fuse(
    graph: &Graph,
    target: &Target,
    bucket: Bucket,
    fuse: bool,
) -> Result<(Vec<Cluster>, Vec<Miss>), CompileError> {
    let mut m = Matcher::new(graph, target, bucket);
    let mut clusters = Vec::new();
    if fuse {
        m.apply(|m, id| m.explained(id, KindName::Qkv, qkv::qkv), &mut clusters);
        m.apply(|m, id| Ok(attend::attend(m, id)), &mut clusters);
        m.apply(|m, id| m.explained(id, KindName::Experts, experts::experts), &mut clusters);
        m.apply(|m, id| m.explained(id, KindName::GateUp, gate_up::gate_up), &mut clusters);
        m.apply(|m, id| Ok(head::head(m, id)), &mut clusters);
        m.apply(|m, id| Ok(linear::linear(m, id)), &mut clusters);
    }
    for (id, node) in graph.nodes() {
        if !m.is_taken(id) && !is_view(graph, node) {
            clusters.push(single(target, graph, bucket, id)?);
        }
    }
    Ok((clusters, m.into_misses()))
}

fn single(target: &Target, graph: &Graph, bucket: Bucket, id: NodeId) -> Result<Cluster, CompileError> {
    let node = graph.node(id);
    let fail =
        |reason: String| CompileError::Unsupported { target: target.name.clone(), op: node.op.mnemonic(), reason };
    let support = target.support(KindName::Op(node.op)).ok_or_else(|| fail("it has no kernel".to_owned()))?;
    let weights = node.used().filter(|&v| graph.ty(v).dtype.is_quantized()).map(|v| graph.ty(v).dtype);
    for dtype in weights {
        if !support.weights.contains(&dtype) {
            return Err(fail(format!("no kernel takes {dtype}")));
        }
    }
    let mut operands = node.inputs.to_vec();
    operands.resize(node.op.spec().operands.len(), None);
    let mut results = node.results.to_vec();
    if node.op.spec().updates.is_some() {
        // In a task, an updated state comes last.
        results.rotate_left(1);
    }
    let cluster = Cluster { kind: TaskKind::Op(node.op), nodes: vec![id], operands, results };
    // Bodies of single nodes are many, and most kernels have no limits.
    let limited = support.limits != Limits::default();
    let body = limited.then(|| cluster.sound_body(graph)).flatten();
    match body.and_then(|body| support.limits.misfit(&body, &bucket)) {
        Some(reason) => Err(fail(reason)),
        None => Ok(cluster),
    }
}
