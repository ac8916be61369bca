//! Ops that make or move elements: `fill`, `iota`, `slice`, `concat`, `reshape`, `transpose`, `broadcast`.

use super::elements::{PIECE, saturate, store_floats, store_ints};
use super::single::{Node, Single};
use super::tensor::{Extents, MAX_RANK, OpTensor};
use super::walk::{Piece, Walk, row_major};
use crate::pool::Worker;
use crate::step::StepView;
use aio_ir::{Attr, Op};

/// `fill` and `iota`.
pub(crate) struct Source {
    /// The number; `None` for the index in the last dimension.
    value: Option<f32>,
    out: OpTensor,
}

impl Source {
    pub(crate) fn new(node: &Node<'_>) -> Source {
        let value = (node.node.op == Op::Fill).then(|| node.node.f32("value"));
        Source { value, out: node.outs[0].clone() }
    }
}

impl Single for Source {
    fn run(&self, step: &StepView<'_>, worker: Worker<'_>) {
        let size = self.out.extents(step);
        let (n, dtype) = (size.last().max(1), self.out.dtype);
        let width = dtype.block_bytes();
        let number = |at: usize| self.value.map_or((at % n) as f64, f64::from);
        let range = worker.share(size.elems());
        for first in range.clone().step_by(PIECE) {
            let end = (first + PIECE).min(range.end);
            // SAFETY: elements of the result are shared out.
            let out = unsafe { self.out.part::<u8>(step, first * width..end * width) };
            if dtype.is_float() {
                let values: [f32; PIECE] = std::array::from_fn(|i| number(first + i) as f32);
                store_floats(dtype, &values[..end - first], out);
            } else {
                let values: [i64; PIECE] = std::array::from_fn(|i| saturate(dtype, number(first + i)));
                store_ints(dtype, &values[..end - first], out);
            }
        }
    }
}

/// The layout of a copy's elements in its operand.
#[derive(Clone, Debug)]
enum View {
    /// As in the result.
    Same,
    /// From an index of a dimension on.
    From { axis: usize, start: usize },
    /// Result dimension `i` is the operand's `perm[i]`.
    Permuted(Vec<usize>),
    /// Dimensions of 1 are repeated.
    Repeated,
}

/// `slice`, `reshape`, `transpose` and `broadcast`.
pub(crate) struct Copy {
    view: View,
    x: OpTensor,
    out: OpTensor,
}

impl Copy {
    pub(crate) fn new(node: &Node<'_>) -> Copy {
        let view = match (node.node.op, node.node.attrs.first()) {
            (Op::Slice, _) => {
                View::From { axis: node.node.int("axis") as usize, start: node.node.int("start") as usize }
            }
            (Op::Transpose, Some(Attr::Ints(perm))) => View::Permuted(perm.iter().map(|&p| p as usize).collect()),
            (Op::Broadcast, _) => View::Repeated,
            _ => View::Same,
        };
        Copy { view, x: node.input(0).clone(), out: node.outs[0].clone() }
    }

    fn walk(&self, x: &Extents, out: &Extents) -> Walk<1> {
        let steps = row_major(x);
        match &self.view {
            View::Same => Walk::new(out, [row_major(out)], [0]),
            View::From { axis, start } => Walk::new(out, [steps], [start * steps[*axis]]),
            View::Permuted(perm) => {
                let mut permuted = [0; MAX_RANK];
                for (to, &from) in permuted.iter_mut().zip(perm) {
                    *to = steps[from];
                }
                Walk::new(out, [permuted], [0])
            }
            View::Repeated => Walk::broadcast(out, [x]),
        }
    }
}

impl Single for Copy {
    fn run(&self, step: &StepView<'_>, worker: Worker<'_>) {
        let (from, to) = (self.x.extents(step), self.out.extents(step));
        let walk = self.walk(&from, &to);
        let [stride] = walk.strides();
        // SAFETY: an earlier task or the caller wrote x.
        let x = unsafe { self.x.bytes(step) }.unwrap_or(&[]);
        let width = self.x.dtype.block_bytes();
        walk.pieces(worker.share(to.elems()), |Piece { at, len, from: [from] }| {
            // SAFETY: elements of the result are shared out.
            let out = unsafe { self.out.part::<u8>(step, at * width..(at + len) * width) };
            if stride == 1 {
                return out.copy_from_slice(&x[from * width..(from + len) * width]);
            }
            for (i, out) in out.chunks_exact_mut(width).enumerate() {
                out.copy_from_slice(&x[(from + i * stride) * width..][..width]);
            }
        });
    }
}

/// `concat`: chunks of a and b in turn.
pub(crate) struct Concat {
    axis: usize,
    a: OpTensor,
    b: OpTensor,
    out: OpTensor,
}

impl Concat {
    pub(crate) fn new(node: &Node<'_>) -> Concat {
        let axis = node.node.int("axis") as usize;
        Concat { axis, a: node.input(0).clone(), b: node.input(1).clone(), out: node.outs[0].clone() }
    }
}

impl Single for Concat {
    fn run(&self, step: &StepView<'_>, worker: Worker<'_>) {
        let size = self.a.extents(step);
        let chunk = |t: &OpTensor| t.extents(step)[self.axis..].iter().product::<usize>() * t.dtype.block_bytes();
        let (a_len, b_len) = (chunk(&self.a), chunk(&self.b));
        // SAFETY: earlier tasks or the caller wrote both.
        let (a, b) = unsafe { (self.a.bytes(step).unwrap_or(&[]), self.b.bytes(step).unwrap_or(&[])) };
        for i in worker.share(size[..self.axis].iter().product()) {
            let at = i * (a_len + b_len);
            // SAFETY: chunks of the result are shared out.
            let out = unsafe { self.out.part::<u8>(step, at..at + a_len + b_len) };
            let (to_a, to_b) = out.split_at_mut(a_len);
            to_a.copy_from_slice(&a[i * a_len..][..a_len]);
            to_b.copy_from_slice(&b[i * b_len..][..b_len]);
        }
    }
}
