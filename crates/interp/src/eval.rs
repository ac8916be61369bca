//! Evaluates a graph node by node.

use crate::error::{At, EvalError, MAX_ELEMS};
use crate::ops::{self, OpArgs};
use crate::tensor::Tensor;
use aio_ir::infer::full_axis;
use aio_ir::{Def, Dims, Graph, Node, Value, ValueId, Verified};
use std::sync::Arc;

/// Evaluates a graph. `bind` returns a tensor for each declared value, or `None` for an unbound optional input. Returns
/// the tensors of outputs, then of finals, in order. A node that no output or final depends on is not evaluated,
/// because no plan contains it; its operands cannot fail a step.
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
    let (live, mut uses) = graph.live_nodes();
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
    // A state that the node replaces is moved out, so that it is updated in place instead of copied.
    let updated = node.op.spec().updates.map(|i| node.input(i));
    let owned = updated.and_then(|id| values[id.index()].take());
    let inputs: Vec<_> = node.inputs.iter().map(|i| i.and_then(|id| values[id.index()].clone())).collect();
    if updated.is_none() {
        check_sizes(graph, node, dims)?;
    }
    let args = OpArgs { graph, node, inputs: &inputs, dims };
    check_axis(&args)?;
    let results = ops::apply(&args, owned.map(Arc::unwrap_or_clone))?;
    for (&id, tensor) in node.results.iter().zip(results) {
        values[id.index()] = Some(Arc::new(tensor));
    }
    Ok(())
}

/// Rejects an axis without elements if the op needs some. All sizes are numbers here.
fn check_axis(a: &OpArgs<'_, '_>) -> Result<(), EvalError> {
    let Some(Some(first)) = a.inputs.first() else { return Ok(()) };
    let axis = full_axis(a.node.op, &a.node.attrs, first.shape.len());
    match axis.filter(|found| first.shape[found.axis] == 0) {
        Some(axis) => Err(EvalError::EmptyAxis { at: At::new(a.node.results[0], a.node.op), axis }),
        None => Ok(()),
    }
}

/// Rejects results that are too large. A replaced state already exists.
fn check_sizes(graph: &Graph, node: &Node, dims: &Dims) -> Result<(), EvalError> {
    let fits = |&&id: &&ValueId| graph.ty(id).shape.elems(dims).is_some_and(|n| n <= MAX_ELEMS);
    match node.results.iter().find(|id| !fits(id)) {
        Some(&value) => Err(EvalError::TooLarge { at: At::new(value, node.op), ty: graph.ty(value).to_string() }),
        None => Ok(()),
    }
}

/// Drops operands that have no further use.
fn release(node: &Node, uses: &mut [u32], values: &mut [Option<Arc<Tensor<'_>>>]) {
    for id in node.used() {
        uses[id.index()] -= 1;
        if uses[id.index()] == 0 {
            values[id.index()] = None;
        }
    }
}
