//! Fusion: gathers nodes into clusters, one task each, of kinds that the target has kernels for.
//!
//! Each pattern is a file. A pattern starts at its last node and walks back through values that nothing else uses, so
//! a cluster never leaves and re-enters. What no pattern takes becomes a task of its own; reshapes become views, but for
//! those of states.

mod attend;
mod gate_up;
mod head;
mod linear;
mod qkv;

use crate::CompileError;
use aio_ir::{Def, Graph, Node, NodeId, Op, ValueId};
use aio_plan::body::{self, BodyError, Declared};
use aio_plan::{KindName, Target, TaskKind};
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
    /// Its results in the kind's order; replaced states last.
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

    /// What it computes: the body of its kind on its operands.
    ///
    /// # Errors
    /// [`BodyError`] if a pattern took operands that the kind does not.
    pub(crate) fn body(&self, graph: &Graph) -> Result<Graph, BodyError> {
        let declared = self.declared(graph);
        match self.kind {
            TaskKind::Op(op) => body::single(op, &declared, &graph.node(self.nodes[0]).attrs),
            kind => body::fused(&kind, &declared),
        }
    }

    /// Whether the kind's body has the results that the nodes have.
    fn is_sound(&self, graph: &Graph) -> bool {
        let results = self.results.iter().map(|&v| graph.ty(v));
        self.body(graph).is_ok_and(|body| body.roots().map(|v| body.ty(v)).eq(results))
    }
}

/// Whether a node only names its operand's bytes anew. A state's bytes change under its name, so a reshaped state is a
/// copy.
pub(crate) fn is_view(graph: &Graph, node: &Node) -> bool {
    let of_state = |value: ValueId| match graph.value(value).def {
        Def::State => true,
        Def::Node { node, result } => result == 0 && graph.node(node).op.spec().updates.is_some(),
        _ => false,
    };
    node.op == Op::Reshape && !of_state(node.input(0))
}

/// Why a pattern does not take the nodes that end in `node`, although that node is where such a pattern ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Miss {
    /// The pattern's last node.
    pub node: NodeId,
    /// The kind that it would have been.
    pub kind: KindName,
    /// The first thing that does not fit.
    pub reason: &'static str,
}

/// Clusters for every node but views, and the places where larger ones were missed. With `fuse` off, each node is a
/// cluster.
///
/// # Errors
/// [`CompileError::Unsupported`] if the target lacks an op that no pattern took.
pub(crate) fn fuse(graph: &Graph, target: &Target, fuse: bool) -> Result<(Vec<Cluster>, Vec<Miss>), CompileError> {
    let taken = vec![false; graph.nodes().len()];
    let mut m = Matcher { graph, target, uses: graph.use_counts(), taken, misses: Vec::new() };
    let mut clusters = Vec::new();
    if fuse {
        m.apply(|m, id| m.explained(id, KindName::Qkv, qkv::qkv), &mut clusters);
        m.apply(|m, id| Ok(attend::attend(m, id)), &mut clusters);
        m.apply(|m, id| m.explained(id, KindName::GateUp, gate_up::gate_up), &mut clusters);
        m.apply(|m, id| Ok(head::head(m, id)), &mut clusters);
        m.apply(|m, id| Ok(linear::linear(m, id)), &mut clusters);
    }
    for (id, node) in graph.nodes() {
        if !m.taken[id.index()] && !is_view(graph, node) {
            clusters.push(single(target, graph, id, node)?);
        }
    }
    Ok((clusters, m.misses))
}

fn single(target: &Target, graph: &Graph, id: NodeId, node: &Node) -> Result<Cluster, CompileError> {
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
    Ok(Cluster { kind: TaskKind::Op(node.op), nodes: vec![id], operands, results: node.results.to_vec() })
}

type Nodes = SmallVec<[NodeId; 16]>;
type Pattern = fn(&Matcher<'_>, NodeId) -> Result<Option<Cluster>, Miss>;
/// A pattern that gives the reason where it does not fit; `None` where a node is not one that it ends in.
type Explaining = fn(&Matcher<'_>, NodeId) -> Option<Result<Cluster, &'static str>>;

/// The graph while patterns take nodes from it.
pub(crate) struct Matcher<'g> {
    graph: &'g Graph,
    target: &'g Target,
    uses: Vec<u32>,
    taken: Vec<bool>,
    misses: Vec<Miss>,
}

impl<'g> Matcher<'g> {
    /// Tries a pattern at every node, newest first.
    fn apply(&mut self, pattern: Pattern, clusters: &mut Vec<Cluster>) {
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

    fn explained(&self, node: NodeId, kind: KindName, pattern: Explaining) -> Result<Option<Cluster>, Miss> {
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

    /// Whether the target has a kernel for a cluster's kind and the types of its weight matrices.
    fn supported(&self, cluster: &Cluster) -> bool {
        let Some(support) = self.target.support(cluster.kind.name()) else { return false };
        let matrices = cluster.operands.iter().flatten().map(|&v| (self.graph.value(v), self.graph.ty(v)));
        let mut matrices = matrices.filter(|(v, ty)| v.def == Def::Weight && ty.shape.rank() == 2);
        matrices.all(|(_, ty)| support.weights.contains(&ty.dtype))
    }

    /// The free node that defines a value, if it applies this op.
    fn node(&self, value: ValueId, op: Op) -> Option<(NodeId, &'g Node)> {
        self.graph.def_node(value).filter(|(id, n)| n.op == op && !self.taken[id.index()])
    }

    /// Like [`Matcher::node`] for a value that is used `uses` times, all inside the cluster; notes the node.
    fn inner(&self, value: ValueId, op: Op, uses: u32, nodes: &mut Nodes) -> Option<&'g Node> {
        let (id, node) = self.node(value, op).filter(|_| self.uses[value.index()] == uses)?;
        nodes.push(id);
        Some(node)
    }

    /// The value behind reshapes that nothing else uses.
    fn unreshaped(&self, mut value: ValueId, nodes: &mut Nodes) -> ValueId {
        while let Some(node) = self.inner(value, Op::Reshape, 1, nodes) {
            value = node.input(0);
        }
        value
    }

    fn is_weight(&self, value: ValueId) -> bool {
        self.graph.value(value).def == Def::Weight
    }

    /// `matmul(x, w)`, perhaps plus a bias vector, where nothing else uses the product.
    fn projection(&self, value: ValueId, nodes: &mut Nodes) -> Option<Projection> {
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

    fn plain(&self, value: ValueId, nodes: &mut Nodes) -> Option<Projection> {
        let node = self.inner(value, Op::Matmul, 1, nodes)?;
        let (x, w) = (node.input(0), node.input(1));
        let dense = node.optional(2).is_none() && self.is_weight(w);
        dense.then_some(Projection { x, w, bias: None })
    }

    fn biased(&self, value: ValueId, nodes: &mut Nodes) -> Option<Projection> {
        let node = self.inner(value, Op::Add, 1, nodes)?;
        let (a, b) = (node.input(0), node.input(1));
        let (product, bias) = if self.is_weight(b) { (a, b) } else { (b, a) };
        let vector = self.is_weight(bias) && self.graph.ty(bias).shape.rank() == 1;
        let plain = self.plain(product, nodes).filter(|_| vector)?;
        let full = self.graph.ty(bias).shape.last() == self.graph.ty(value).shape.last();
        full.then_some(Projection { bias: Some(bias), ..plain })
    }

    /// `rms_norm(x, w)` whose result is used `uses` times, all inside the cluster.
    fn norm(&self, value: ValueId, uses: u32, nodes: &mut Nodes) -> Option<Norm> {
        let (id, node) = self.node(value, Op::RmsNorm).filter(|_| self.uses[value.index()] == uses)?;
        let weight = node.optional(1).filter(|&w| self.is_weight(w))?;
        nodes.push(id);
        Some(Norm { x: node.input(0), weight, eps: node.f32("eps") })
    }
}

/// A matched `matmul(x, w) + bias`.
struct Projection {
    x: ValueId,
    w: ValueId,
    bias: Option<ValueId>,
}

/// A matched `rms_norm(x, weight)`.
struct Norm {
    x: ValueId,
    weight: ValueId,
    eps: f32,
}
