//! Clusters: nodes that become one task.

use aio_ir::{Def, Graph, NodeId, ValueId};
use aio_plan::TaskKind;
use aio_plan::body::{self, BodyError, Declared};
use smallvec::SmallVec;

/// Nodes that become one task.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    /// The task's kind.
    pub kind: TaskKind,
    /// Its nodes, oldest first.
    pub nodes: Vec<NodeId>,
    /// Its operands in the kind's order.
    pub operands: Vec<Option<ValueId>>,
    /// Its results in the kind's order, replaced states last.
    pub results: Vec<ValueId>,
}

impl Cluster {
    /// Its operands as a body declares them.
    fn declared(&self, graph: &Graph) -> Vec<Option<Declared>> {
        let updates = |n: &NodeId| graph.node(*n).op.spec().updates.map(|operand| graph.node(*n).input(operand));
        let replaced: SmallVec<[ValueId; 1]> = self.nodes.iter().filter_map(updates).collect();
        let declare = |value: ValueId| {
            let def = match graph.value(value).def {
                _ if replaced.contains(&value) => Def::State,
                Def::Node { .. } | Def::State => Def::Input { optional: false },
                def => def,
            };
            Declared { def, ty: graph.ty(value).clone() }
        };
        self.operands.iter().map(|o| o.map(declare)).collect()
    }

    /// Builds the body of its kind from its operands.
    ///
    /// # Errors
    /// [`BodyError`] if a pattern matched operands that the kind does not take.
    pub(crate) fn body(&self, graph: &Graph) -> Result<Graph, BodyError> {
        let declared = self.declared(graph);
        match self.kind {
            TaskKind::Op(op) => body::single(op, &declared, &graph.node(self.nodes[0]).attrs),
            kind => body::fused(&kind, &declared),
        }
    }

    /// The kind's body, if it has the same results as the nodes.
    pub(super) fn sound_body(&self, graph: &Graph) -> Option<Graph> {
        let results = self.results.iter().map(|&v| graph.ty(v));
        self.body(graph).ok().filter(|body| body.roots().map(|v| body.ty(v)).eq(results))
    }
}
