//! Reports of what fused, and what could have fused but did not.

use crate::fuse::{Cluster, Miss};
use aio_ir::{Graph, Group, NodeId, Op, ValueId};
use aio_plan::KindName;
use std::collections::BTreeMap;
use std::fmt;

/// The fuser's decisions for one plan. Tests compare it with checked-in baselines in both directions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FusionReport {
    /// Number of nodes in the graph, excluding views.
    pub nodes: usize,
    /// Number of tasks by kind.
    pub tasks: BTreeMap<&'static str, usize>,
    /// Nodes left alone here that belong to groups which fuse elsewhere, printed.
    pub alone: Vec<String>,
    /// Projections that became `linear` although they lead to the end of a `qkv` or `gate_up` pattern, printed with the
    /// reason.
    pub missed: Vec<String>,
}

impl FusionReport {
    pub(crate) fn new(graph: &Graph, clusters: &[Cluster], misses: &[Miss]) -> FusionReport {
        let mut tasks = BTreeMap::new();
        let (mut alone, mut missed) = (Vec::new(), Vec::new());
        for cluster in clusters {
            if cluster.kind.name() == KindName::Linear
                && let Some(miss) = cluster.results.iter().find_map(|&v| leads_to(graph, v, misses))
            {
                let last = cluster.nodes[cluster.nodes.len() - 1];
                let line = aio_ir::text::print_node(graph, last);
                missed.push(format!("{line}, no part of {}: {}", miss.kind.name(), miss.reason));
            }
            *tasks.entry(cluster.kind.name().name()).or_insert(0) += 1;
            if let KindName::Op(op) = cluster.kind.name()
                && matches!(
                    op.spec().group,
                    Group::Linear | Group::Norm | Group::Elementwise | Group::Position | Group::Cache
                )
            {
                alone.push(aio_ir::text::print_node(graph, cluster.nodes[0]));
            }
        }
        let nodes = graph.nodes().filter(|(_, n)| n.op != Op::Reshape).count();
        FusionReport { nodes, tasks, alone, missed }
    }

    /// Total number of tasks.
    pub fn task_count(&self) -> usize {
        self.tasks.values().sum()
    }
}

/// The miss whose last node uses the projection through nodes that the larger task would have included.
fn leads_to<'m>(graph: &Graph, projection: ValueId, misses: &'m [Miss]) -> Option<&'m Miss> {
    if misses.is_empty() {
        return None;
    }
    let mut reached = vec![projection];
    let mut at = 0;
    while let Some(&value) = reached.get(at) {
        at += 1;
        for (id, node) in graph.nodes().filter(|(_, n)| n.used().any(|v| v == value)) {
            if let Some(miss) = misses.iter().find(|m| m.node == id && takes(graph, id, value)) {
                return Some(miss);
            }
            let unary = node.op.spec().group == Group::Elementwise && node.inputs.len() == 1;
            if unary || matches!(node.op, Op::Reshape | Op::RmsNorm | Op::Rope | Op::PageWrite) {
                reached.extend(&node.results);
            }
        }
    }
    None
}

/// Whether a task ending in this node would have included the producer of `operand`: any factor of a product, but only
/// query and KV pages of an attention.
fn takes(graph: &Graph, node: NodeId, operand: ValueId) -> bool {
    let node = graph.node(node);
    node.op != Op::Attend || node.inputs[..2].contains(&Some(operand))
}

impl fmt::Display for FusionReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} nodes -> {} tasks", self.nodes, self.task_count())?;
        for (kind, count) in &self.tasks {
            writeln!(f, "  {kind:<14} {count}")?;
        }
        for node in &self.alone {
            writeln!(f, "  not fused: {node}")?;
        }
        for projection in &self.missed {
            writeln!(f, "  could have: {projection}")?;
        }
        Ok(())
    }
}
