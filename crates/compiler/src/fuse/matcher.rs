//! The graph while patterns take nodes from it, with the backward steps that patterns share.

use super::cluster::Cluster;
use aio_ir::{Def, Graph, Node, NodeId, Op, ValueId};
use aio_plan::{KindName, Target};
use smallvec::SmallVec;

/// Why a pattern that ends in `node` did not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Miss {
    /// The pattern's last node.
    pub node: NodeId,
    /// The kind it would have become.
    pub kind: KindName,
    /// The first condition that fails.
    pub reason: &'static str,
}

pub(super) type Nodes = SmallVec<[NodeId; 16]>;
pub(super) type Pattern = fn(&Matcher<'_>, NodeId) -> Result<Option<Cluster>, Miss>;
/// A pattern that explains its failures; `None` for a node that it cannot end in.
pub(super) type Explaining = fn(&Matcher<'_>, NodeId) -> Option<Result<Cluster, &'static str>>;

/// The graph while patterns take nodes from it.
pub(super) struct Matcher<'g> {
    pub(super) graph: &'g Graph,
    target: &'g Target,
    uses: Vec<u32>,
    taken: Vec<bool>,
    misses: Vec<Miss>,
}

impl<'g> Matcher<'g> {
    pub(super) fn new(graph: &'g Graph, target: &'g Target) -> Matcher<'g> {
        let taken = vec![false; graph.nodes().len()];
        Matcher { graph, target, uses: graph.use_counts(), taken, misses: Vec::new() }
    }

    pub(super) fn is_taken(&self, node: NodeId) -> bool {
        self.taken[node.index()]
    }

    /// The larger clusters that were missed.
    pub(super) fn into_misses(self) -> Vec<Miss> {
        self.misses
    }

    /// Tries a pattern at every node, newest first.
    pub(super) fn apply(&mut self, pattern: Pattern, clusters: &mut Vec<Cluster>) {
        for index in (0..self.taken.len()).rev() {
            if self.taken[index] {
                continue;
            }
            let found = pattern(self, NodeId::new(index)).unwrap_or_else(|miss| {
                self.misses.push(miss);
                None
            });
            if let Some(mut cluster) = found.filter(|c| self.supported(c) && c.is_sound(self.graph)) {
                cluster.nodes.sort_unstable();
                for node in &cluster.nodes {
                    self.taken[node.index()] = true;
                }
                clusters.push(cluster);
            }
        }
    }

    pub(super) fn explained(&self, node: NodeId, kind: KindName, pattern: Explaining) -> Result<Option<Cluster>, Miss> {
        let miss = |reason| Miss { node, kind, reason };
        match pattern(self, node) {
            None => Ok(None),
            Some(Err(reason)) => Err(miss(reason)),
            Some(Ok(cluster)) if !self.supported(&cluster) => {
                Err(miss("the target has no such kernel for these weights"))
            }
            Some(Ok(cluster)) if !cluster.is_sound(self.graph) => {
                Err(miss("an operand has a type or shape that no kernel of the kind takes"))
            }
            Some(Ok(cluster)) => Ok(Some(cluster)),
        }
    }

    /// Whether the target has a kernel for a cluster's kind and its weight matrix types.
    pub(super) fn supported(&self, cluster: &Cluster) -> bool {
        let Some(support) = self.target.support(cluster.kind.name()) else { return false };
        let matrices = cluster.operands.iter().flatten().map(|&v| (self.graph.value(v), self.graph.ty(v)));
        let mut matrices = matrices.filter(|(v, ty)| v.def == Def::Weight && ty.shape.rank() == 2);
        matrices.all(|(_, ty)| support.weights.contains(&ty.dtype))
    }

    /// The node that defines a value, if it applies this op and is not taken.
    pub(super) fn node(&self, value: ValueId, op: Op) -> Option<(NodeId, &'g Node)> {
        self.graph.def_node(value).filter(|(id, n)| n.op == op && !self.taken[id.index()])
    }

    /// Like [`Matcher::node`], for a value with exactly `uses` uses, all inside the cluster. Adds the node to `nodes`.
    pub(super) fn inner(&self, value: ValueId, op: Op, uses: u32, nodes: &mut Nodes) -> Option<&'g Node> {
        let (id, node) = self.node(value, op).filter(|_| self.uses[value.index()] == uses)?;
        nodes.push(id);
        Some(node)
    }

    /// The value before any reshapes that nothing else uses.
    pub(super) fn unreshaped(&self, mut value: ValueId, nodes: &mut Nodes) -> ValueId {
        while let Some(node) = self.inner(value, Op::Reshape, 1, nodes) {
            value = node.input(0);
        }
        value
    }

    pub(super) fn is_weight(&self, value: ValueId) -> bool {
        self.graph.value(value).def == Def::Weight
    }

    /// Matches `matmul(x, w)` with an optional bias vector, where nothing else uses the product.
    pub(super) fn projection(&self, value: ValueId, nodes: &mut Nodes) -> Option<Projection> {
        let mark = nodes.len();
        let found = self.biased(value, nodes).or_else(|| {
            nodes.truncate(mark);
            self.plain(value, nodes)
        });
        if found.is_none() {
            nodes.truncate(mark);
        }
        found
    }

    pub(super) fn plain(&self, value: ValueId, nodes: &mut Nodes) -> Option<Projection> {
        let node = self.inner(value, Op::Matmul, 1, nodes)?;
        let (x, w) = (node.input(0), node.input(1));
        let dense = node.optional(2).is_none() && self.is_weight(w);
        dense.then_some(Projection { x, w, bias: None })
    }

    pub(super) fn biased(&self, value: ValueId, nodes: &mut Nodes) -> Option<Projection> {
        let node = self.inner(value, Op::Add, 1, nodes)?;
        let (a, b) = (node.input(0), node.input(1));
        let (product, bias) = if self.is_weight(b) { (a, b) } else { (b, a) };
        let vector = self.is_weight(bias) && self.graph.ty(bias).shape.rank() == 1;
        let plain = self.plain(product, nodes).filter(|_| vector)?;
        let full = self.graph.ty(bias).shape.last() == self.graph.ty(value).shape.last();
        full.then_some(Projection { bias: Some(bias), ..plain })
    }

    /// Matches `rms_norm(x, w)` whose result has `uses` uses, all inside the cluster.
    pub(super) fn norm(&self, value: ValueId, uses: u32, nodes: &mut Nodes) -> Option<Norm> {
        let (id, node) = self.node(value, Op::RmsNorm).filter(|_| self.uses[value.index()] == uses)?;
        let weight = node.optional(1).filter(|&w| self.is_weight(w))?;
        nodes.push(id);
        Some(Norm { x: node.input(0), weight, eps: node.f32("eps") })
    }
}

/// A matched `matmul(x, w) + bias`.
pub(super) struct Projection {
    pub(super) x: ValueId,
    pub(super) w: ValueId,
    pub(super) bias: Option<ValueId>,
}

/// A matched `rms_norm(x, weight)`.
pub(super) struct Norm {
    pub(super) x: ValueId,
    pub(super) weight: ValueId,
    pub(super) eps: f32,
}
