//! Ops on states: `page_write`, `attend` in a form for any shape, `commit`.

use super::single::{Node, Single};
use super::tensor::{Indices, OpTensor};
use crate::bounds::{Bounds, Scratch};
use crate::kernels::attend::{KvLayer, PAGE_POSITIONS};
use crate::pool::Worker;
use crate::step::StepView;
use aio_ir::Op;

/// Page table, row sequences and positions.
struct PagedRows {
    op: Op,
    table: OpTensor,
    row_seq: OpTensor,
    positions: OpTensor,
}

impl PagedRows {
    /// Operands from `at` on.
    fn new(node: &Node<'_>, at: usize) -> PagedRows {
        let [table, row_seq, positions] = [0, 1, 2].map(|i| node.input(at + i).clone());
        PagedRows { op: node.node.op, table, row_seq, positions }
    }

    fn in_step<'s>(&self, step: &'s StepView<'_>, pages: usize) -> StepPagedRows<'s> {
        let [seqs, stride] = [0, 1].map(|d| self.table.extents(step)[d]);
        // SAFETY: earlier tasks or the caller wrote them.
        let [table, row_seq, positions] =
            [&self.table, &self.row_seq, &self.positions].map(|t| unsafe { t.indices(step) });
        StepPagedRows { step, op: self.op, table, row_seq, positions, seqs, stride, pages }
    }
}

/// The same within a step; every index is checked where it is used.
struct StepPagedRows<'s> {
    step: &'s StepView<'s>,
    op: Op,
    table: Indices<'s>,
    row_seq: Indices<'s>,
    positions: Indices<'s>,
    seqs: usize,
    stride: usize,
    pages: usize,
}

impl StepPagedRows<'_> {
    fn position(&self, row: usize) -> usize {
        self.positions.get(row) as usize
    }

    /// The page of a row's sequence that holds a position.
    fn page(&self, row: usize, position: usize) -> Option<u32> {
        let (fault, op) = (self.step.fault, self.op);
        let seq = fault.check(op, "sequence", self.row_seq.get(row), self.seqs)?;
        let index = fault.check(op, "page of the sequence", (position / PAGE_POSITIONS) as i64, self.stride)?;
        let page = fault.check(op, "page", self.table.get(seq * self.stride + index), self.pages)?;
        Some(page as u32)
    }
}

fn layer(step: &StepView<'_>, kv: &OpTensor) -> (KvLayer, usize) {
    let size = kv.extents(step);
    (step.kv_layer(step.place(kv.place), size[2], size[4]), size[0])
}

/// `page_write`: each thread owns heads, so rows at the same position are written in order.
pub(crate) struct PageWrite {
    kv: OpTensor,
    k: OpTensor,
    v: OpTensor,
    places: PagedRows,
}

impl PageWrite {
    pub(crate) fn new(node: &Node<'_>) -> PageWrite {
        let [kv, k, v] = [0, 1, 2].map(|i| node.input(i).clone());
        PageWrite { kv, k, v, places: PagedRows::new(node, 3) }
    }
}

impl Single for PageWrite {
    fn run(&self, step: &StepView<'_>, worker: Worker<'_>) {
        let (kv, pages) = layer(step, &self.kv);
        let (heads, n, rows) = (kv.kv_heads, kv.head_dim, self.k.extents(step)[0]);
        let places = self.places.in_step(step, pages);
        // SAFETY: earlier tasks or the caller wrote both.
        let (k, v) = unsafe { (self.k.f32s(step), self.v.f32s(step)) };
        for head in worker.share(heads) {
            for row in 0..rows {
                let position = places.position(row);
                let Some(page) = places.page(row, position) else { return };
                let at = (row * heads + head) * n;
                // SAFETY: the page was checked; heads are shared out.
                unsafe {
                    kv.write_key(page, position % PAGE_POSITIONS, head, &k[at..at + n]);
                    kv.write_value(page, position % PAGE_POSITIONS, head, &v[at..at + n]);
                }
            }
        }
    }
}

/// `attend` for shapes the paged kernel does not support: one row and head at a time, position by position.
pub(crate) struct Attend {
    scale: f64,
    window: usize,
    soft_cap: f64,
    q: OpTensor,
    kv: OpTensor,
    places: PagedRows,
    sinks: Option<OpTensor>,
    out: OpTensor,
}

impl Attend {
    pub(crate) fn new(node: &Node<'_>) -> Attend {
        let n = node.node;
        Attend {
            scale: f64::from(n.f32("scale")),
            window: n.int("window") as usize,
            soft_cap: f64::from(n.f32("soft_cap")),
            q: node.input(0).clone(),
            kv: node.input(1).clone(),
            places: PagedRows::new(node, 2),
            sinks: node.inputs.get(5).cloned().flatten(),
            out: node.outs[0].clone(),
        }
    }

    fn score(&self, q: &[f32], key: impl Iterator<Item = half::f16>) -> f64 {
        let dot: f64 = q.iter().zip(key).map(|(&q, k)| f64::from(q) * k.to_f64()).sum();
        let score = dot * self.scale;
        if self.soft_cap > 0.0 { self.soft_cap * (score / self.soft_cap).tanh() } else { score }
    }

    /// Sums a row's weighted values. Returns the sum of the weights, or `None` if a page is missing.
    fn add_up(&self, at: &HeadAt<'_>, q: &[f32], sink: Option<f64>, sum: &mut [f64]) -> Option<f64> {
        let (mut top, mut total) = (sink.unwrap_or(f64::NEG_INFINITY), if sink.is_some() { 1.0 } else { 0.0 });
        let position = at.places.position(at.row);
        let first = if self.window == 0 { 0 } else { (position + 1).saturating_sub(self.window) };
        sum.fill(0.0);
        for p in first..=position {
            let page = at.places.page(at.row, p)?;
            // SAFETY: the page was checked, and states are not written while a task reads them.
            let (key, value) = unsafe {
                let offset = p % PAGE_POSITIONS;
                (at.kv.key(page, offset, at.kv_head), at.kv.value(page, offset, at.kv_head))
            };
            let score = self.score(q, key);
            let new = top.max(score);
            let (keep, weight) = (if new == top { 1.0 } else { (top - new).exp() }, (score - new).exp());
            (top, total) = (new, total * keep + weight);
            for (sum, v) in sum.iter_mut().zip(value) {
                *sum = *sum * keep + weight * v.to_f64();
            }
        }
        Some(total)
    }
}

/// One row and key-value head.
struct HeadAt<'a> {
    places: &'a StepPagedRows<'a>,
    kv: KvLayer,
    row: usize,
    kv_head: usize,
}

impl Single for Attend {
    fn scratch(&self, _: &Bounds) -> Scratch {
        let n = self.q.shape.last().known().unwrap_or(0) as usize;
        Scratch { private: n * size_of::<f64>(), ..Scratch::default() }
    }

    fn run(&self, step: &StepView<'_>, worker: Worker<'_>) {
        let size = self.q.extents(step);
        let (heads, n) = (size[1], size[2]);
        let (kv, pages) = layer(step, &self.kv);
        let places = self.places.in_step(step, pages);
        // SAFETY: earlier tasks or the caller wrote both.
        let (q, sinks) = unsafe { (self.q.f32s(step), self.sinks.as_ref().and_then(|s| s.values::<f32>(step))) };
        // SAFETY: this thread's private memory, as much as `scratch` asked for.
        let sum = unsafe { std::slice::from_raw_parts_mut(step.private(worker.tid).cast::<f64>(), n) };
        for i in worker.share(size[0] * heads) {
            let at = HeadAt { places: &places, kv, row: i / heads, kv_head: i % heads / (heads / kv.kv_heads) };
            let sink = sinks.map(|s| f64::from(s[i % heads]));
            let Some(total) = self.add_up(&at, &q[i * n..][..n], sink, sum) else { return };
            // SAFETY: heads of the result are shared out.
            let out = unsafe { self.out.part::<f32>(step, i * n..(i + 1) * n) };
            for (out, sum) in out.iter_mut().zip(&*sum) {
                *out = (sum / total) as f32;
            }
        }
    }
}

/// `commit`: committed lengths grow in place.
pub(crate) struct Commit {
    lens: OpTensor,
    accepted: OpTensor,
}

impl Commit {
    pub(crate) fn new(node: &Node<'_>) -> Commit {
        Commit { lens: node.input(0).clone(), accepted: node.input(1).clone() }
    }
}

impl Single for Commit {
    fn run(&self, step: &StepView<'_>, worker: Worker<'_>) {
        // SAFETY: an earlier task or the caller wrote them.
        let accepted = unsafe { self.accepted.values::<u32>(step) }.unwrap_or(&[]);
        let mine = worker.share(accepted.len());
        // SAFETY: words of the state are shared out.
        let lens = unsafe { self.lens.part::<u32>(step, mine.clone()) };
        for (len, accepted) in lens.iter_mut().zip(&accepted[mine]) {
            *len = len.wrapping_add(*accepted);
        }
    }
}
