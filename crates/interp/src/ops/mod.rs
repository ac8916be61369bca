//! The meaning of each op, one file per group. [`apply`] dispatches by op.

mod args;
mod cache;
mod choose;
mod elementwise;
mod layout;
mod linear;
mod norm;
mod slots;

pub(crate) use args::OpArgs;

use crate::tensor::Tensor;
use aio_ir::Op;
use args::Results;

/// Computes the results of a node. `state` is the state that it replaces, if any.
pub(crate) fn apply<'w>(a: &OpArgs<'_, 'w>, state: Option<Tensor<'w>>) -> Results<'w> {
    use Op::*;
    match a.node.op {
        Fill | Iota | Embed | Gather | Scatter | Slice | Concat | Reshape | Transpose | Broadcast | Cast | Quantize
        | Dequantize => layout::apply(a),
        Matmul => linear::matmul(a),
        Add | Sub | Mul | Div | Min | Max | Compare | Select | Neg | Silu | Gelu | Relu | Tanh | Sigmoid | Exp
        | Log | Sqrt | Rsqrt | Sin | Cos => elementwise::apply(a),
        RmsNorm | LayerNorm | Softmax | Rope | Reduce | Cumsum => norm::apply(a),
        PageWrite | Attend | Commit => cache::apply(a, state),
        Conv | DeltaRule => slots::apply(a, state),
        Argmax | TopK | Sample | Verify => choose::apply(a),
    }
}
