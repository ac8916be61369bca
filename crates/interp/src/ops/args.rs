//! Arguments and results of an op's implementation.

use crate::error::{At, EvalError};
use crate::tensor::Tensor;
use aio_ir::{Dims, Graph, Node};
use std::sync::Arc;

/// The results of a node.
pub(crate) type Results<'w> = Result<Vec<Tensor<'w>>, EvalError>;

/// Arguments of an op: its node, operand tensors and result shapes.
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

    /// Checks that an index is below `len`.
    pub(crate) fn checked(&self, what: &'static str, index: i64, len: usize) -> Result<usize, EvalError> {
        let at = || At::new(self.node.results[0], self.node.op);
        let found = usize::try_from(index).ok().filter(|&i| i < len);
        found.ok_or_else(|| EvalError::Index { at: at(), what, index, len })
    }

    /// The resolved shape of result `i`.
    pub(crate) fn shape(&self, i: usize) -> Vec<usize> {
        let ty = self.graph.ty(self.node.results[i]);
        ty.shape.resolve(self.dims).iter().map(|&d| d as usize).collect()
    }
}
