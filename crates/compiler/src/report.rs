//! What fused and what could have but did not.

use crate::fuse::Cluster;
use aio_ir::{Graph, Group};
use aio_plan::KindName;
use std::collections::BTreeMap;
use std::fmt;

/// The fuser's decisions for one plan. Baselines of it are checked in and compared in both directions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FusionReport {
    /// Nodes of the graph, views not counted.
    pub nodes: usize,
    /// Tasks by kind.
    pub tasks: BTreeMap<&'static str, usize>,
    /// Nodes of groups that fuse elsewhere but stayed alone here, printed.
    pub alone: Vec<String>,
}

impl FusionReport {
    pub(crate) fn new(graph: &Graph, clusters: &[Cluster]) -> FusionReport {
        let mut tasks = BTreeMap::new();
        let mut alone = Vec::new();
        for cluster in clusters {
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
        let nodes = graph.nodes().filter(|(_, n)| n.op != aio_ir::Op::Reshape).count();
        FusionReport { nodes, tasks, alone }
    }

    /// Tasks in all.
    pub fn task_count(&self) -> usize {
        self.tasks.values().sum()
    }
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
        Ok(())
    }
}
