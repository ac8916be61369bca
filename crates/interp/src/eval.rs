//! Runs a graph node by node.

use crate::ops;
use crate::tensor::Tensor;
use aio_ir::{Def, Dims, Graph, Node, Op, Value, ValueId, Verified};
use std::fmt;
use std::sync::Arc;

/// The node that an error is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    /// Its first result, or the one that is meant.
    pub value: ValueId,
    /// What that is called; its number, unless who has a text of the graph says otherwise.
    pub name: String,
    /// The node's op.
    pub op: Op,
}

impl At {
    fn new(value: ValueId, op: Op) -> At {
        At { value, name: value.to_string(), op }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.name, self.op.mnemonic())
    }
}

/// Why a graph could not be run.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EvalError {
    /// An input, weight or state has no value, or one of another type or size.
    #[error("`{name}` : {ty} is not bound to a tensor of that type")]
    Unbound {
        /// Its name.
        name: String,
        /// Its type.
        ty: String,
    },
    /// An index (token, row, page, position) points outside its tensor.
    #[error("{at}: {what} {index} is not below {len}")]
    Index {
        /// The node that has the index.
        at: At,
        /// What kind of index.
        what: &'static str,
        /// Its value.
        index: i64,
        /// The tensor's size.
        len: usize,
    },
    /// A result is larger than an oracle should compute.
    #[error("{at}: {ty} has more than {max} elements", max = MAX_ELEMS)]
    TooLarge {
        /// The value.
        at: At,
        /// Its type.
        ty: String,
    },
}

impl EvalError {
    /// The node that the error is about.
    pub fn at(&mut self) -> Option<&mut At> {
        match self {
            EvalError::Unbound { .. } => None,
            EvalError::Index { at, .. } | EvalError::TooLarge { at, .. } => Some(at),
        }
    }
}

/// Elements of a result at most: the oracle is for small tensors, and memory that cannot be had aborts a process.
const MAX_ELEMS: u64 = 1 << 28;

/// What an op's meaning sees: its node, operand tensors and result shapes.
pub(crate) struct OpArgs<'a, 'w> {
    pub graph: &'a Graph,
    pub node: &'a Node,
    pub inputs: &'a [Option<Arc<Tensor<'w>>>],
    pub dims: &'a Dims,
}

impl<'a, 'w> OpArgs<'a, 'w> {
    pub(crate) fn input(&self, i: usize) -> &'a Tensor<'w> {
        self.inputs[i].as_deref().expect("V003: required operands are present")
    }

    pub(crate) fn optional(&self, i: usize) -> Option<&'a Tensor<'w>> {
        self.inputs.get(i)?.as_deref()
    }

    /// An index that must be below `len`.
    pub(crate) fn checked(&self, what: &'static str, index: i64, len: usize) -> Result<usize, EvalError> {
        let at = || At::new(self.node.results[0], self.node.op);
        let found = usize::try_from(index).ok().filter(|&i| i < len);
        found.ok_or_else(|| EvalError::Index { at: at(), what, index, len })
    }

    /// Numbers for the shape of result `i`.
    pub(crate) fn shape(&self, i: usize) -> Vec<usize> {
        let ty = self.graph.ty(self.node.results[i]);
        ty.shape.resolve(self.dims).iter().map(|&d| d as usize).collect()
    }
}

/// Runs a graph; `bind` gives a tensor for each declared value, or `None` for an optional input that is not bound.
/// Returns the tensors of outputs and then of finals, in order. A node that no output or final depends on is not
/// evaluated, as no plan has it, so its operands cannot fail a step.
///
/// # Errors
/// [`EvalError`] if a binding is missing or an index is out of range.
pub fn evaluate<'w>(
    graph: Verified<'_>,
    dims: &Dims,
    mut bind: impl FnMut(ValueId, &Value) -> Option<Tensor<'w>>,
) -> Result<Vec<Tensor<'w>>, EvalError> {
    let graph = graph.graph();
    let mut values: Vec<Option<Arc<Tensor<'w>>>> = vec![None; graph.values().len()];
    let (live, mut uses) = live_nodes(graph);
    for (id, value) in graph.values() {
        match value.def {
            Def::Node { node, result: 0 } if live[node.index()] => {
                let node = graph.node(node);
                run(graph, node, dims, &mut values)?;
                release(node, &mut uses, &mut values);
            }
            Def::Node { .. } => {}
            def => values[id.index()] = declared(value, def, dims, bind(id, value))?.map(Arc::new),
        }
    }
    let take = |id: ValueId| values[id.index()].as_deref().cloned().expect("roots are kept");
    Ok(graph.roots().map(take).collect())
}

/// Which nodes an output or final depends on, and how often these and the roots use each value.
fn live_nodes(graph: &Graph) -> (Vec<bool>, Vec<u32>) {
    let mut uses = vec![0; graph.values().len()];
    graph.roots().for_each(|root| uses[root.index()] += 1);
    let mut live = vec![false; graph.nodes().len()];
    // Operands are older than their users.
    let nodes: Vec<_> = graph.nodes().collect();
    for (id, node) in nodes.into_iter().rev() {
        live[id.index()] = node.results.iter().any(|result| uses[result.index()] > 0);
        if live[id.index()] {
            node.used().for_each(|operand| uses[operand.index()] += 1);
        }
    }
    (live, uses)
}

fn declared<'w>(
    value: &Value,
    def: Def,
    dims: &Dims,
    tensor: Option<Tensor<'w>>,
) -> Result<Option<Tensor<'w>>, EvalError> {
    let fits = match &tensor {
        None => def == (Def::Input { optional: true }),
        Some(t) => {
            let shape = value.ty.shape.resolve(dims);
            t.dtype == value.ty.dtype && t.shape.iter().map(|&d| d as u64).eq(shape.iter().copied())
        }
    };
    if fits {
        return Ok(tensor);
    }
    Err(EvalError::Unbound { name: value.name.clone(), ty: value.ty.to_string() })
}

fn run<'w>(graph: &Graph, node: &Node, dims: &Dims, values: &mut [Option<Arc<Tensor<'w>>>]) -> Result<(), EvalError> {
    // A state that the node replaces is moved out, so that it is updated in place and not copied.
    let updated = node.op.spec().updates.map(|i| node.input(i));
    let owned = updated.and_then(|id| values[id.index()].take());
    let inputs: Vec<_> = node.inputs.iter().map(|i| i.and_then(|id| values[id.index()].clone())).collect();
    if updated.is_none() {
        check_sizes(graph, node, dims)?;
    }
    let args = OpArgs { graph, node, inputs: &inputs, dims };
    let results = ops::apply(&args, owned.map(Arc::unwrap_or_clone))?;
    for (&id, tensor) in node.results.iter().zip(results) {
        values[id.index()] = Some(Arc::new(tensor));
    }
    Ok(())
}

/// Refuses results that are too large; a replaced state exists already.
fn check_sizes(graph: &Graph, node: &Node, dims: &Dims) -> Result<(), EvalError> {
    let fits = |&&id: &&ValueId| graph.ty(id).shape.elems(dims).is_some_and(|n| n <= MAX_ELEMS);
    match node.results.iter().find(|id| !fits(id)) {
        Some(&value) => Err(EvalError::TooLarge { at: At::new(value, node.op), ty: graph.ty(value).to_string() }),
        None => Ok(()),
    }
}

/// Drops operands that nothing uses any more.
fn release(node: &Node, uses: &mut [u32], values: &mut [Option<Arc<Tensor<'_>>>]) {
    for id in node.used() {
        uses[id.index()] -= 1;
        if uses[id.index()] == 0 {
            values[id.index()] = None;
        }
    }
}
