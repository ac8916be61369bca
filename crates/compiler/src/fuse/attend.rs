//! Attention over pages: the node alone, as a kind with its numbers.

use super::cluster::Cluster;
use super::matcher::Matcher;
use aio_ir::{NodeId, Op};
use aio_plan::{AttendSpec, TaskKind};

pub(super) fn attend(m: &Matcher<'_>, id: NodeId) -> Option<Cluster> {
    let node = Some(m.graph.node(id)).filter(|n| n.op == Op::Attend)?;
    let spec = AttendSpec::from_node(m.graph, node)?;
    let (operands, results) = (node.inputs.to_vec(), node.results.to_vec());
    Some(Cluster { kind: TaskKind::Attend(spec), nodes: vec![id], operands, results })
}
