//! Ops that choose tokens: `argmax`, `top_k`, `verify`; `sample` is in its own module.

use super::single::{Node, Single};
use super::tensor::OpTensor;
use crate::bounds::{Bounds, Scratch};
use crate::pool::Worker;
use crate::step::StepView;
use aio_ir::Op;
use aio_ir::sampling::NO_TOKEN;
use std::cmp::Ordering;

/// `argmax` of the last dimension.
pub(crate) struct Argmax {
    x: OpTensor,
    out: OpTensor,
}

impl Argmax {
    pub(crate) fn new(node: &Node<'_>) -> Argmax {
        Argmax { x: node.input(0).clone(), out: node.outs[0].clone() }
    }
}

impl Single for Argmax {
    fn run(&self, step: &StepView<'_>, worker: Worker<'_>) {
        let size = self.x.extents(step);
        let (n, mine) = (size.last(), worker.share(size.rows()));
        // SAFETY: an earlier task or the caller wrote x; words of the result are shared out.
        let (x, out) = unsafe { (self.x.f32s(step), self.out.part::<u32>(step, mine.clone())) };
        for (row, out) in mine.zip(out) {
            *out = step.kernels.argmax(&x[row * n..][..n], 0).index;
        }
    }
}

/// `top_k` of the last dimension.
pub(crate) struct TopK {
    k: usize,
    x: OpTensor,
    values: OpTensor,
    indices: OpTensor,
}

impl TopK {
    pub(crate) fn new(node: &Node<'_>) -> TopK {
        let k = node.node.int("k") as usize;
        TopK { k, x: node.input(0).clone(), values: node.outs[0].clone(), indices: node.outs[1].clone() }
    }
}

impl Single for TopK {
    fn scratch(&self, _: &Bounds) -> Scratch {
        let n = self.x.shape.last().known().unwrap_or(0) as usize;
        Scratch { private: n * size_of::<u32>(), ..Scratch::default() }
    }

    fn run(&self, step: &StepView<'_>, worker: Worker<'_>) {
        let size = self.x.extents(step);
        let (n, k) = (size.last(), self.k);
        // SAFETY: an earlier task or the caller wrote x.
        let x = unsafe { self.x.f32s(step) };
        // SAFETY: this thread's private memory, as much as `scratch` asked for.
        let order = unsafe { std::slice::from_raw_parts_mut(step.private(worker.tid).cast::<u32>(), n) };
        for row in worker.share(size.rows()) {
            let x = &x[row * n..][..n];
            rank(x, k, order);
            let range = row * k..(row + 1) * k;
            // SAFETY: rows of both results are shared out.
            let (values, indices) =
                unsafe { (self.values.part::<f32>(step, range.clone()), self.indices.part::<u32>(step, range)) };
            for ((i, value), index) in order.iter().zip(values).zip(indices) {
                (*value, *index) = (x[*i as usize], *i);
            }
        }
    }
}

/// Sets the first `k` of `order` to the indices of the largest elements, lowest index first on ties. A NaN is larger than any
/// number.
fn rank(x: &[f32], k: usize, order: &mut [u32]) {
    for (i, order) in order.iter_mut().enumerate() {
        *order = i as u32;
    }
    let larger = |a: f32, b: f32| b.partial_cmp(&a).unwrap_or(Ordering::Equal).then(b.is_nan().cmp(&a.is_nan()));
    let before = |i: &u32, j: &u32| larger(x[*i as usize], x[*j as usize]).then(i.cmp(j));
    if k < order.len() {
        order.select_nth_unstable_by(k, before);
    }
    order[..k].sort_unstable_by(before);
}

/// `verify`: how many drafts each sequence keeps, and its next token.
pub(crate) struct Verify {
    sampled: OpTensor,
    drafts: OpTensor,
    spans: OpTensor,
    accepted: OpTensor,
    next: OpTensor,
}

impl Verify {
    pub(crate) fn new(node: &Node<'_>) -> Verify {
        let [sampled, drafts, spans] = [0, 1, 2].map(|i| node.input(i).clone());
        Verify { sampled, drafts, spans, accepted: node.outs[0].clone(), next: node.outs[1].clone() }
    }
}

impl Single for Verify {
    fn run(&self, step: &StepView<'_>, worker: Worker<'_>) {
        // SAFETY: earlier tasks or the caller wrote all operands.
        let [sampled, drafts, spans] =
            [&self.sampled, &self.drafts, &self.spans].map(|t| unsafe { t.values::<u32>(step) }.unwrap_or(&[]));
        let mine = worker.share(spans.len() / 2);
        // SAFETY: words of both results are shared out.
        let (accepted, next) =
            unsafe { (self.accepted.part::<u32>(step, mine.clone()), self.next.part::<u32>(step, mine.clone())) };
        for ((seq, accepted), next) in mine.zip(accepted).zip(next) {
            let check = |row: i64| step.fault.check(Op::Verify, "row", row, sampled.len());
            let (first, count) = (i64::from(spans[2 * seq]), i64::from(spans[2 * seq + 1]));
            let Some(mut row) = check(first) else { continue };
            let mut hits = 0;
            while hits < count {
                let Some(draft) = check(first + hits + 1) else { break };
                if drafts[draft] != sampled[row] || sampled[row] == NO_TOKEN {
                    break;
                }
                (row, hits) = (draft, hits + 1);
            }
            (*accepted, *next) = (hits as u32, sampled[row]);
        }
    }
}
