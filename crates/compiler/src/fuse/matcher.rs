//! The graph while patterns take nodes from it, with the backward steps that patterns share.

use super::cluster::Cluster;
use aio_ir::{Def, Graph, Node, NodeId, Op, ValueId};
use aio_plan::{Bucket, KindName, KindSupport, Target};
use smallvec::SmallVec;
use std::borrow::Cow;

/// Why a pattern that ends in `node` did not match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Miss {
    /// The pattern's last node.
    pub node: NodeId,
    /// The kind it would have become.
    pub kind: KindName,
    /// The first condition that fails.
    pub reason: Cow<'static, str>,
}

pub(super) type Nodes = SmallVec<[NodeId; 16]>;
pub(super) type Pattern = fn(&Matcher<'_>, NodeId) -> Result<Option<Cluster>, Miss>;
/// A pattern that explains its failures; `None` for a node that it cannot end in.
pub(super) type Explaining = fn(&Matcher<'_>, NodeId) -> Option<Result<Cluster, &'static str>>;

/// The graph while patterns take nodes from it.
pub(super) struct Matcher<'g> {
    pub(super) graph: &'g Graph,
    target: &'g Target,
    bucket: Bucket,
    uses: Vec<u32>,
    taken: Vec<bool>,
    misses: Vec<Miss>,
}

impl<'g> Matcher<'g> {
    pub(super) fn new(graph: &'g Graph, target: &'g Target, bucket: Bucket) -> Matcher<'g> {
        let taken = vec![false; graph.nodes().len()];
        Matcher { graph, target, bucket, uses: graph.use_counts(), taken, misses: Vec::new() }
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
            if let Some(mut cluster) = found.filter(|c| self.misfit(c).is_none()) {
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
            Some(Err(reason)) => Err(miss(reason.into())),
            Some(Ok(cluster)) => match self.misfit(&cluster) {
                Some(reason) => Err(miss(reason)),
                None => Ok(Some(cluster)),
            },
        }
    }

    /// Why the target has no kernel for a cluster; `None` if it has one.
    fn misfit(&self, cluster: &Cluster) -> Option<Cow<'static, str>> {
        let Some(support) = self.target.support(cluster.kind.name()).filter(|s| self.takes_weights(s, cluster)) else {
            return Some("the target has no such kernel for these weights".into());
        };
        let Some(body) = cluster.sound_body(self.graph) else {
            return Some("an operand has a type or shape that no kernel of the kind takes".into());
        };
        support.limits.misfit(&body, &self.bucket).map(Cow::from)
    }

    /// Whether the kernels take the types of a cluster's weight matrices.
    fn takes_weights(&self, support: &KindSupport, cluster: &Cluster) -> bool {
        let matrices = cluster.operands.iter().flatten().map(|&v| (self.graph.value(v), self.graph.ty(v)));
        let mut matrices = matrices.filter(|(v, ty)| v.def == Def::Weight && ty.shape.rank() >= 2);
        matrices.all(|(_, ty)| support.weights.contains(&ty.dtype))
    }

    /// Number of uses of a value.
    pub(super) fn uses(&self, value: ValueId) -> u32 {
        self.uses[value.index()]
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
