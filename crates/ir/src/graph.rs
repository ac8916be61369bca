//! The graph: SSA values, nodes in order, named inputs, weights, states and outputs.
//!
//! Values and nodes are stored in flat tables and refer to each other by id. A node may only use values older than its
//! results, so the tables are always in a valid order of evaluation. Analyses that need edges call [`Graph::dataflow`].
//! Built by [`Builder`], by the text parser and by compiler passes.

use crate::attr::Attr;
use crate::cost::{Cost, CostArgs, Load};
use crate::ids::{NodeId, ValueId};
use crate::infer::{Args, InferError, Types};
use crate::op::Op;
use crate::shape::TensorType;
use petgraph::graph::DiGraph;
use smallvec::SmallVec;

/// The source of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Def {
    /// Bound by each step; an optional one may be left unbound.
    Input {
        /// Whether a step may leave it out.
        optional: bool,
    },
    /// Constant as long as the model is loaded.
    Weight,
    /// Kept by the device between steps. [`Graph::finals`] names its final value.
    State,
    /// A node's result.
    Node {
        /// The node.
        node: NodeId,
        /// Index of the result.
        result: u32,
    },
}

/// A typed SSA value.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Element type and shape.
    pub ty: TensorType,
    /// The source of the value.
    pub def: Def,
    /// Name of an input, weight or state; empty for a node's result.
    pub name: String,
}

/// One application of an op.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The op.
    pub op: Op,
    /// Operands in the op's order; `None` for an absent optional one. Trailing absences are kept.
    pub inputs: SmallVec<[Option<ValueId>; 4]>,
    /// Attributes in the op's order, defaults filled in.
    pub attrs: SmallVec<[Attr; 2]>,
    /// Results in the op's order.
    pub results: SmallVec<[ValueId; 2]>,
}

impl Node {
    /// The attribute with this name.
    ///
    /// # Panics
    /// If the op has no such attribute, which is a bug in the caller.
    pub fn attr(&self, name: &str) -> &Attr {
        let index = self.op.spec().attr_index(name).expect("the op table has the attribute");
        &self.attrs[index]
    }

    /// The value of a numeric attribute.
    pub fn f32(&self, name: &str) -> f32 {
        match self.attr(name) {
            Attr::F32(v) => *v,
            other => unreachable!("V004: `{name}` is {other}, not a number"),
        }
    }

    /// The value of an integer attribute.
    pub fn int(&self, name: &str) -> i64 {
        match self.attr(name) {
            Attr::Int(v) => *v,
            other => unreachable!("V004: `{name}` is {other}, not an integer"),
        }
    }

    /// The value of a word attribute.
    pub fn word(&self, name: &str) -> &'static str {
        match self.attr(name) {
            Attr::Word(w) => w,
            other => unreachable!("V004: `{name}` is {other}, not a word"),
        }
    }

    /// A required operand.
    pub fn input(&self, i: usize) -> ValueId {
        self.inputs[i].expect("V003: required operands are present")
    }

    /// The required operand with this name.
    ///
    /// # Panics
    /// If the op has no such operand, or the node lacks it.
    pub fn operand(&self, name: &str) -> ValueId {
        self.input(self.op.place(name))
    }

    /// The operand at an index, if present.
    pub fn optional(&self, i: usize) -> Option<ValueId> {
        self.inputs.get(i).copied().flatten()
    }

    /// The operands that are present.
    pub fn used(&self) -> impl Iterator<Item = ValueId> + '_ {
        self.inputs.iter().flatten().copied()
    }
}

/// A named result of the graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// Its name among the outputs.
    pub name: String,
    /// The value.
    pub value: ValueId,
}

/// The value of a state after the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Final {
    /// The state.
    pub state: ValueId,
    /// Its new value.
    pub value: ValueId,
}

/// A dataflow graph. See the module docs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// Name, printed on the second line of the text form.
    pub name: String,
    pub(crate) values: Vec<Value>,
    pub(crate) nodes: Vec<Node>,
    /// Results by name.
    pub outputs: Vec<Output>,
    /// New values of the states that the graph changes.
    pub finals: Vec<Final>,
}

impl Graph {
    /// The value with this id.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.index()]
    }

    /// The type of a value.
    pub fn ty(&self, id: ValueId) -> &TensorType {
        &self.values[id.index()].ty
    }

    /// The node with this id.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// All values in order of definition.
    pub fn values(&self) -> impl ExactSizeIterator<Item = (ValueId, &Value)> {
        self.values.iter().enumerate().map(|(i, v)| (ValueId::new(i), v))
    }

    /// All nodes in order of evaluation.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = (NodeId, &Node)> {
        self.nodes.iter().enumerate().map(|(i, n)| (NodeId::new(i), n))
    }

    /// The node that defines a value, if any.
    pub fn def_node(&self, id: ValueId) -> Option<(NodeId, &Node)> {
        match self.value(id).def {
            Def::Node { node, .. } => Some((node, self.node(node))),
            _ => None,
        }
    }

    /// Values that must be computed: outputs and final states.
    pub fn roots(&self) -> impl Iterator<Item = ValueId> + '_ {
        self.outputs.iter().map(|o| o.value).chain(self.finals.iter().map(|f| f.value))
    }

    /// The input, weight or state with this name.
    pub fn find(&self, name: &str) -> Option<ValueId> {
        self.values().find(|(_, v)| !matches!(v.def, Def::Node { .. }) && v.name == name).map(|(id, _)| id)
    }

    /// The nodes that an output or final depends on, by index, and how often these nodes and the roots use each value. No
    /// device evaluates the other nodes.
    pub fn live_nodes(&self) -> (Vec<bool>, Vec<u32>) {
        let (mut live, mut uses) = (vec![false; self.nodes.len()], vec![0; self.values.len()]);
        self.roots().for_each(|root| uses[root.index()] += 1);
        // Operands are older than their users.
        for (node, live) in self.nodes.iter().zip(&mut live).rev() {
            *live = node.results.iter().any(|result| uses[result.index()] > 0);
            if *live {
                node.used().for_each(|operand| uses[operand.index()] += 1);
            }
        }
        (live, uses)
    }

    /// The number of uses of each value by operands and roots.
    pub fn use_counts(&self) -> Vec<u32> {
        let mut counts = vec![0; self.values.len()];
        for id in self.nodes.iter().flat_map(Node::used).chain(self.roots()) {
            counts[id.index()] += 1;
        }
        counts
    }

    /// Nodes and the values that flow between them, as a petgraph for reachability and order.
    /// Node weights are ids, in table order: `NodeIndex::new(i)` is `n{i}`.
    pub fn dataflow(&self) -> DiGraph<NodeId, ValueId> {
        let mut flow = DiGraph::with_capacity(self.nodes.len(), self.nodes.len() * 2);
        for (id, _) in self.nodes() {
            flow.add_node(id);
        }
        for (id, node) in self.nodes() {
            for value in node.used() {
                if let Def::Node { node: from, .. } = self.value(value).def {
                    flow.add_edge((from.index() as u32).into(), (id.index() as u32).into(), value);
                }
            }
        }
        flow
    }

    /// Bytes and flops of a node in a step with this load.
    pub fn cost(&self, node: &Node, load: Load) -> Cost {
        let inputs: SmallVec<[_; 8]> = node.inputs.iter().map(|i| i.map(|i| self.ty(i))).collect();
        let results: SmallVec<[_; 2]> = node.results.iter().map(|&r| self.ty(r)).collect();
        (node.op.spec().cost)(&CostArgs { inputs: &inputs, results: &results, load })
    }

    /// Result types of an op applied to operands of this graph, by its shape rule.
    pub(crate) fn infer(&self, op: Op, inputs: &[Option<ValueId>], attrs: &[Attr]) -> Result<Types, InferError> {
        let types: SmallVec<[_; 8]> = inputs.iter().map(|i| i.map(|i| self.ty(i))).collect();
        (op.spec().infer)(&Args { op, inputs: &types, attrs })
    }

    /// Declares an input, weight or state.
    pub(crate) fn declare(&mut self, def: Def, name: &str, ty: TensorType) -> ValueId {
        let id = ValueId::new(self.values.len());
        self.values.push(Value { ty, def, name: name.to_owned() });
        id
    }

    /// Appends a node with the given result types.
    pub(crate) fn push(&mut self, op: Op, inputs: &[Option<ValueId>], attrs: &[Attr], types: Types) -> NodeId {
        let id = NodeId::new(self.nodes.len());
        let first = self.values.len();
        let results = (0..types.len()).map(|i| ValueId::new(first + i)).collect();
        for (i, ty) in types.into_iter().enumerate() {
            let def = Def::Node { node: id, result: i as u32 };
            self.values.push(Value { ty, def, name: String::new() });
        }
        let mut inputs: SmallVec<[_; 4]> = inputs.into();
        inputs.resize(op.spec().operands.len().max(inputs.len()), None);
        self.nodes.push(Node { op, inputs, attrs: attrs.into(), results });
        id
    }
}

/// Why [`Builder::op`] rejects an application.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BuildError {
    /// Too few or too many operands, or a required one is absent.
    #[error("`{op}` needs the operands {expected}, given: {got}")]
    Operands {
        /// The op's keyword.
        op: &'static str,
        /// The operands it takes.
        expected: String,
        /// Number of operands given.
        got: usize,
    },
    /// The attribute does not exist or has another kind of value.
    #[error("`{op}` has no attribute `{name}` that could be {got}")]
    Attribute {
        /// The op's keyword.
        op: &'static str,
        /// The attribute's name.
        name: String,
        /// The value given.
        got: Attr,
    },
    /// A required attribute is missing.
    #[error("`{op}` needs the attribute `{name}`")]
    Missing {
        /// The op's keyword.
        op: &'static str,
        /// The attribute's name.
        name: &'static str,
    },
    /// The operands' types do not satisfy the shape rule.
    #[error("`{op}`: {source}")]
    Infer {
        /// The op's keyword.
        op: &'static str,
        /// The mismatch.
        source: InferError,
    },
}

/// Arranges named attributes in table order, with defaults.
pub(crate) fn fill_attrs(op: Op, given: &[(&str, Attr)]) -> Result<SmallVec<[Attr; 2]>, BuildError> {
    let spec = op.spec();
    let mut attrs: SmallVec<[Option<Attr>; 8]> = spec.default_attrs().collect();
    for (name, value) in given {
        let index = spec.attr_index(name).filter(|&i| spec.attrs[i].kind.admits(value));
        let index = index.ok_or_else(|| BuildError::Attribute {
            op: spec.mnemonic,
            name: (*name).to_owned(),
            got: value.clone(),
        })?;
        attrs[index] = Some(value.clone());
    }
    let named = attrs.into_iter().zip(spec.attrs);
    named.map(|(v, a)| v.ok_or(BuildError::Missing { op: spec.mnemonic, name: a.name })).collect()
}

/// Checks that attributes are complete, in table order and of the right kinds.
pub(crate) fn check_attrs(op: Op, attrs: &[Attr]) -> Result<(), BuildError> {
    let spec = op.spec();
    for (i, a) in spec.attrs.iter().enumerate() {
        let value = attrs.get(i).ok_or(BuildError::Missing { op: spec.mnemonic, name: a.name })?;
        if !a.kind.admits(value) {
            return Err(BuildError::Attribute { op: spec.mnemonic, name: a.name.to_owned(), got: value.clone() });
        }
    }
    match attrs.get(spec.attrs.len()) {
        Some(extra) => Err(BuildError::Attribute { op: spec.mnemonic, name: String::new(), got: extra.clone() }),
        None => Ok(()),
    }
}

/// Checks the number of operands and that required ones are present.
pub(crate) fn check_operands(op: Op, inputs: &[Option<ValueId>]) -> Result<(), BuildError> {
    let operands = op.spec().operands;
    let present = |i: usize| inputs.get(i).copied().flatten().is_some();
    let ok = inputs.len() <= operands.len() && operands.iter().enumerate().all(|(i, o)| o.optional || present(i));
    if ok {
        return Ok(());
    }
    let names = operands.iter().map(|o| if o.optional { format!("[{}]", o.name) } else { o.name.to_owned() });
    let expected = format!("({})", names.collect::<Vec<_>>().join(", "));
    // An operand written as absent counts as not given.
    let given = inputs.iter().flatten().count();
    let got = if inputs.len() > operands.len() { inputs.len() } else { given };
    Err(BuildError::Operands { op: op.mnemonic(), expected, got })
}

/// Builds a graph node by node. Result types come from the shape rules.
///
/// ```
/// use aio_ir::{Builder, DType, Op, Shape, TensorType};
/// let mut b = Builder::new("twice");
/// let x = b.input("x", TensorType::f32(Shape::consts(&[2, 3])));
/// let y = b.op(Op::Add, &[x, x], &[]).unwrap();
/// b.output("y", y);
/// assert_eq!(aio_ir::verify(&b.finish()).unwrap().graph().outputs.len(), 1);
/// ```
#[derive(Debug, Default)]
pub struct Builder {
    graph: Graph,
}

impl From<Graph> for Builder {
    /// Continues building a graph.
    fn from(graph: Graph) -> Builder {
        Builder { graph }
    }
}

impl Builder {
    /// An empty graph with this name.
    pub fn new(name: &str) -> Builder {
        Builder { graph: Graph { name: name.to_owned(), ..Graph::default() } }
    }

    /// The graph so far.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Declares a value that each step binds.
    pub fn input(&mut self, name: &str, ty: TensorType) -> ValueId {
        self.graph.declare(Def::Input { optional: false }, name, ty)
    }

    /// Declares a value that a step may bind.
    pub fn optional_input(&mut self, name: &str, ty: TensorType) -> ValueId {
        self.graph.declare(Def::Input { optional: true }, name, ty)
    }

    /// Declares a weight.
    pub fn weight(&mut self, name: &str, ty: TensorType) -> ValueId {
        self.graph.declare(Def::Weight, name, ty)
    }

    /// Declares a state.
    pub fn state(&mut self, name: &str, ty: TensorType) -> ValueId {
        self.graph.declare(Def::State, name, ty)
    }

    /// Declares an input, weight or state, for example copied from another graph.
    ///
    /// # Panics
    /// If `def` is a node's result, which only [`Builder::apply`] makes.
    pub fn declare(&mut self, def: Def, name: &str, ty: TensorType) -> ValueId {
        assert!(!matches!(def, Def::Node { .. }), "node results are not declared");
        self.graph.declare(def, name, ty)
    }

    /// Applies an op with one result.
    pub fn op(&mut self, op: Op, inputs: &[ValueId], attrs: &[(&str, Attr)]) -> Result<ValueId, BuildError> {
        let inputs: SmallVec<[_; 8]> = inputs.iter().map(|&v| Some(v)).collect();
        let node = self.apply(op, &inputs, attrs)?;
        Ok(self.graph.node(node).results[0])
    }

    /// Applies an op with optional operands or several results.
    pub fn apply(&mut self, op: Op, inputs: &[Option<ValueId>], attrs: &[(&str, Attr)]) -> Result<NodeId, BuildError> {
        let attrs = fill_attrs(op, attrs)?;
        self.apply_filled(op, inputs, &attrs)
    }

    /// Applies an op with complete attributes in table order, for example those of another node.
    pub fn apply_filled(&mut self, op: Op, inputs: &[Option<ValueId>], attrs: &[Attr]) -> Result<NodeId, BuildError> {
        check_operands(op, inputs)?;
        check_attrs(op, attrs)?;
        let types = self.graph.infer(op, inputs, attrs);
        let types = types.map_err(|source| BuildError::Infer { op: op.mnemonic(), source })?;
        Ok(self.graph.push(op, inputs, attrs, types))
    }

    /// Adds a named result.
    pub fn output(&mut self, name: &str, value: ValueId) {
        self.graph.outputs.push(Output { name: name.to_owned(), value });
    }

    /// Sets the value of a state after the step.
    pub fn final_state(&mut self, state: ValueId, value: ValueId) {
        self.graph.finals.push(Final { state, value });
    }

    /// Returns the graph.
    pub fn finish(self) -> Graph {
        self.graph
    }
}
