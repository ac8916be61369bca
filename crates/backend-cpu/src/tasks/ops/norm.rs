//! Ops over the last dimension, one row at a time: norms, softmax, running sums.

use super::elements::{load_floats, load_ints, store_floats, store_ints};
use super::single::{Node, Single};
use super::tensor::OpTensor;
use crate::kernels::rows::NormArgs;
use crate::pool::Worker;
use crate::step::StepView;
use aio_ir::Op;

/// `rms_norm`, `layer_norm` and `softmax`.
pub(crate) struct RowNorm {
    op: Op,
    eps: f32,
    x: OpTensor,
    weight: Option<OpTensor>,
    bias: Option<OpTensor>,
    out: OpTensor,
}

impl RowNorm {
    pub(crate) fn new(node: &Node<'_>) -> RowNorm {
        let op = node.node.op;
        let eps = if op == Op::Softmax { 0.0 } else { node.node.f32("eps") };
        let optional = |i: usize| node.inputs.get(i).cloned().flatten();
        RowNorm { op, eps, x: node.input(0).clone(), weight: optional(1), bias: optional(2), out: node.outs[0].clone() }
    }
}

impl Single for RowNorm {
    fn run(&self, step: &StepView<'_>, worker: Worker<'_>) {
        let size = self.x.extents(step);
        let n = size.last();
        // SAFETY: earlier tasks wrote the operands.
        let x = unsafe { self.x.f32s(step) };
        // SAFETY: as above.
        let vector = |t: &Option<OpTensor>| t.as_ref().and_then(|t| unsafe { t.values::<f32>(step) });
        let (weight, bias) = (vector(&self.weight), vector(&self.bias));
        for row in worker.share(size.rows()) {
            let x = &x[row * n..][..n];
            // SAFETY: rows of the result are shared out.
            let out = unsafe { self.out.part::<f32>(step, row * n..(row + 1) * n) };
            match (self.op, weight) {
                (Op::RmsNorm, Some(weight)) => step.kernels.norm(NormArgs { x, weight, eps: self.eps, out }),
                (Op::RmsNorm, None) => {
                    let square = x.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>() / n as f64;
                    scale(x, 0.0, square + f64::from(self.eps), out);
                }
                (Op::LayerNorm, _) => {
                    let centre = x.iter().map(|&v| f64::from(v)).sum::<f64>() / n as f64;
                    let variance = x.iter().map(|&v| (f64::from(v) - centre).powi(2)).sum::<f64>() / n as f64;
                    scale(x, centre, variance + f64::from(self.eps), out);
                    shift(out, weight, bias);
                }
                _ => softmax(x, out),
            }
        }
    }
}

/// `(x - centre) / sqrt(square)`.
fn scale(x: &[f32], centre: f64, square: f64, out: &mut [f32]) {
    let factor = 1.0 / square.sqrt();
    for (x, out) in x.iter().zip(out) {
        *out = ((f64::from(*x) - centre) * factor) as f32;
    }
}

fn shift(out: &mut [f32], weight: Option<&[f32]>, bias: Option<&[f32]>) {
    for (i, out) in out.iter_mut().enumerate() {
        *out = *out * weight.map_or(1.0, |w| w[i]) + bias.map_or(0.0, |b| b[i]);
    }
}

fn softmax(x: &[f32], out: &mut [f32]) {
    let top = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut total = 0.0f64;
    for (x, out) in x.iter().zip(out.iter_mut()) {
        *out = (x - top).exp();
        total += f64::from(*out);
    }
    for out in out {
        *out = (f64::from(*out) / total) as f32;
    }
}

/// `cumsum` of any plain type.
pub(crate) struct Cumsum {
    x: OpTensor,
    out: OpTensor,
}

impl Cumsum {
    pub(crate) fn new(node: &Node<'_>) -> Cumsum {
        Cumsum { x: node.input(0).clone(), out: node.outs[0].clone() }
    }
}

impl Single for Cumsum {
    fn run(&self, step: &StepView<'_>, worker: Worker<'_>) {
        let size = self.x.extents(step);
        let (n, dtype) = (size.last(), self.x.dtype);
        let width = dtype.block_bytes();
        // SAFETY: an earlier task or the caller wrote x.
        let x = unsafe { self.x.bytes(step) }.unwrap_or(&[]);
        for row in worker.share(size.rows()) {
            // SAFETY: rows of the result are shared out.
            let out = unsafe { self.out.part::<u8>(step, row * n * width..(row + 1) * n * width) };
            let (mut float, mut int): (Option<f32>, i64) = (None, 0);
            for (i, out) in out.chunks_exact_mut(width).enumerate() {
                if dtype.is_float() {
                    let mut v = [0.0];
                    load_floats(dtype, x, row * n + i, 0, &mut v);
                    // The first element is copied: 0 + -0 would lose its sign.
                    let sum = *float.insert(float.map_or(v[0], |s| s + v[0]));
                    store_floats(dtype, &[sum], out);
                } else {
                    let mut v = [0];
                    load_ints(dtype, x, row * n + i, 0, &mut v);
                    int = int.wrapping_add(v[0]);
                    store_ints(dtype, &[int], out);
                }
            }
        }
    }
}
