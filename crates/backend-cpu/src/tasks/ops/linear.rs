//! Unfused `matmul`: with a packed weight like the fused projections, otherwise a plain loop.

use super::elements::PIECE;
use super::single::{Cx, Node, Single};
use super::tensor::OpTensor;
use crate::bounds::{Bounds, Scratch};
use crate::kernels::matmul::{MatmulArgs, Output, Weights};
use crate::pack::groups_of;
use crate::pool::Worker;
use crate::step::StepView;
use crate::tasks::acts::Acts;
use crate::tasks::linear::packed;
use crate::tensor_loc::TensorLoc;
use aio_ir::{DType, Op, quant};
use aio_plan::{Layout, Loc};

/// The kernel for a node's operands.
pub(crate) fn matmul(cx: &Cx<'_>, node: &Node<'_>) -> Box<dyn Single> {
    let (x, w, out) = (node.input(0).clone(), node.input(1).clone(), node.outs[0].clone());
    if let TensorLoc::Planned(loc @ Loc::Weight(id)) = w.place {
        let weight = &cx.resident.weights[id.index()];
        if weight.layout == Layout::Packed {
            let rows = out.extents_at(&cx.plan.bucket.bounds()).rows();
            if let Some(experts) = node.inputs.get(2).cloned().flatten() {
                return Box::new(Experts { acts: Acts::new(None, [weight]), x, w: loc, experts, out });
            }
            return Box::new(Packed { acts: Acts::new(None, [weight]), rows, x, w: loc, out });
        }
    }
    let experts = node.inputs.get(2).cloned().flatten();
    Box::new(Plain { x, w, experts, out })
}

/// A product with a packed weight.
struct Packed {
    acts: Acts,
    /// Rows at the bucket's bounds.
    rows: usize,
    x: OpTensor,
    w: Loc,
    out: OpTensor,
}

impl Single for Packed {
    fn scratch(&self, bounds: &Bounds) -> Scratch {
        self.acts.scratch(bounds, self.rows)
    }

    fn run(&self, step: &StepView<'_>, worker: Worker<'_>) {
        let (rows, w) = (self.out.extents(step).rows(), step.weight(self.w));
        // SAFETY: an earlier task wrote all rows of x.
        let x = unsafe { self.x.f32s(step) };
        let prepared = self.acts.prepare(step, worker, rows, &|row| &x[row * w.cols..][..w.cols]);
        let groups = worker.share(groups_of(w.rows));
        let output = Output { start: step.place(self.out.place).cast(), stride: w.rows };
        let (weights, input) = (packed(w), prepared.input(w));
        let args = MatmulArgs { weights, input, rows, groups, bias: None, residual: None, output };
        // SAFETY: the result has `rows` rows of `w.rows` floats, and its columns are shared out by groups.
        unsafe { step.kernels.matmul(&args) };
    }
}

/// A product with one of several packed matrices for each row. Rows are few while experts pay, so each thread prepares
/// every row and multiplies it with its share of the matrix's groups.
struct Experts {
    acts: Acts,
    x: OpTensor,
    w: Loc,
    experts: OpTensor,
    out: OpTensor,
}

impl Single for Experts {
    fn scratch(&self, bounds: &Bounds) -> Scratch {
        self.acts.scratch(bounds, 1)
    }

    fn run(&self, step: &StepView<'_>, worker: Worker<'_>) {
        let (rows, w) = (self.out.extents(step).rows(), step.weight(self.w));
        // SAFETY: earlier tasks or the caller wrote both.
        let (x, experts) = unsafe { (self.x.f32s(step), self.experts.indices(step)) };
        let matrix_len = w.bytes.len() / w.matrices.max(1);
        let groups = worker.share(groups_of(w.rows));
        for row in 0..rows {
            let expert = step.fault.check(Op::Matmul, "expert", experts.get(row), w.matrices);
            let Some(expert) = expert else { continue };
            let prepared = self.acts.prepare(step, worker, 1, &|_| &x[row * w.cols..][..w.cols]);
            let packed = &w.bytes[expert * matrix_len..][..matrix_len];
            let weights = Weights { dtype: w.dtype, rows: w.rows, cols: w.cols, packed };
            let start = step.place(self.out.place).cast::<f32>().wrapping_add(row * w.rows);
            let output = Output { start, stride: w.rows };
            let (input, groups) = (prepared.input(w), groups.clone());
            let args = MatmulArgs { weights, input, rows: 1, groups, bias: None, residual: None, output };
            // SAFETY: the result has `rows` rows of `w.rows` floats, and its columns are shared out by groups.
            unsafe { step.kernels.matmul(&args) };
        }
    }
}

/// A product of any two tensors, optionally with a separate matrix for each row.
struct Plain {
    x: OpTensor,
    w: OpTensor,
    experts: Option<OpTensor>,
    out: OpTensor,
}

impl Plain {
    /// The matrix for a row of x, by its first row.
    fn first_row(&self, step: &StepView<'_>, row: usize, columns: usize, matrices: usize) -> usize {
        // SAFETY: an earlier task or the caller wrote them.
        let experts = self.experts.as_ref().map(|e| unsafe { e.indices(step) }).filter(|e| e.len() > row);
        let expert = experts.and_then(|e| step.fault.check(Op::Matmul, "expert", e.get(row), matrices));
        expert.unwrap_or(0) * columns
    }
}

impl Single for Plain {
    fn run(&self, step: &StepView<'_>, worker: Worker<'_>) {
        let (out, k) = (self.out.extents(step), self.x.extents(step).last());
        let (rows, n, matrices) = (out.rows(), out.last(), self.w.extents(step)[0]);
        // SAFETY: earlier tasks or the caller wrote the operands.
        let (x, w) = unsafe { (self.x.f32s(step), self.w.bytes(step).unwrap_or(&[])) };
        let row_bytes = k / self.w.dtype.block_elems() * self.w.dtype.block_bytes();
        for column in worker.share(n) {
            for i in 0..rows {
                let row = self.first_row(step, i, n, matrices) + column;
                let sum = dot(&x[i * k..][..k], self.w.dtype, &w[row * row_bytes..][..row_bytes]);
                // SAFETY: columns of the result are shared out.
                unsafe { self.out.part(step, i * n + column..i * n + column + 1).copy_from_slice(&[sum]) };
            }
        }
    }
}

/// A row of x times a stored row of a matrix, piece by piece.
fn dot(x: &[f32], dtype: DType, row: &[u8]) -> f32 {
    if x.is_empty() {
        // In Rust an empty sum is -0.
        return 0.0;
    }
    if dtype == DType::F32 {
        return sum_of_products(x, bytemuck::cast_slice(row));
    }
    // A piece is whole blocks of every type.
    let bytes = PIECE / dtype.block_elems() * dtype.block_bytes();
    let mut decoded = [0.0; PIECE];
    let piece = |(x, row): (&[f32], &[u8])| {
        let decoded = &mut decoded[..x.len()];
        quant::dequantize(dtype, row, decoded).expect("V013: rows are whole blocks");
        sum_of_products(x, decoded)
    };
    x.chunks(PIECE).zip(row.chunks(bytes)).map(piece).sum()
}

/// Sixteen parallel sums, joined in order.
fn sum_of_products(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    let mut sums = [0.0f32; 16];
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

const _: () =
    assert!(PIECE.is_multiple_of(DType::Q4K.block_elems()) && PIECE.is_multiple_of(DType::Q4_0.block_elems()));
