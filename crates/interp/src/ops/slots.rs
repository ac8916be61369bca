//! Recurrent state in slots: causal convolution and the gated delta rule.
//!
//! Both ops treat a sequence alike: the state of the slot that it reads, its accepted pending rows, its certain rows, one
//! write, then the drafts. `aio_ir::slots` says which rows these are.

use super::args::{OpArgs, Results};
use crate::error::{At, EvalError};
use crate::tensor::{Data, Tensor};
use aio_ir::Op;
use aio_ir::slots::{ConvShape, DeltaShape, SlotUse, StepSlots};

pub(crate) fn apply<'w>(a: &OpArgs<'_, 'w>, state: Option<Tensor<'w>>) -> Results<'w> {
    let mut state = state.expect("an op on slots replaces its state");
    let Data::F32(slots) = &mut state.data else { unreachable!("V006: the state is f32") };
    let out = if a.node.op == Op::Conv { conv(a, slots)? } else { delta_rule(a, slots)? };
    Ok(vec![state, Tensor::f32(a.shape(1), out)])
}

/// What each sequence of the step does. Operands from `at` on are slots, row counts, row sequences.
fn uses(a: &OpArgs<'_, '_>, at: usize, room: usize) -> Result<Vec<SlotUse>, EvalError> {
    let [slots, slot_rows, row_seq] = [0, 1, 2].map(|i| words(a.input(at + i)));
    let step = StepSlots { row_seq: &row_seq, slots: &slots, slot_rows: &slot_rows };
    let pool = a.dims.slots as usize;
    step.uses(pool, room).map_err(|source| EvalError::Slots { at: At::new(a.node.results[0], a.node.op), source })
}

fn words(tensor: &Tensor<'_>) -> Vec<u32> {
    tensor.ints().iter().map(|&n| n as u32).collect()
}

fn conv(a: &OpArgs<'_, '_>, slots: &mut [f32]) -> Result<Vec<f32>, EvalError> {
    let ty = |i: usize| a.graph.ty(a.node.input(i));
    let ConvShape { channels, taps, room } = ConvShape::of(ty(0), ty(2)).expect("V006: the sizes fit");
    let (x, weight) = (a.input(1).floats(), a.input(2).floats());
    let bias = a.optional(6).map(Tensor::floats);
    let record = (taps - 1 + room) * channels;
    let mut out = vec![0.0; x.len()];
    for u in uses(a, 3, room)? {
        // The inputs before the first row, then the rows.
        let tail = u.read * record + u.accepted * channels;
        let mut seen = slots[tail..tail + (taps - 1) * channels].to_vec();
        seen.extend_from_slice(&x[u.rows.start * channels..u.rows.end * channels]);
        for (i, row) in u.rows.clone().enumerate() {
            for c in 0..channels {
                let products =
                    (0..taps).map(|t| f64::from(weight[c * taps + t]) * f64::from(seen[(i + t) * channels + c]));
                let start = bias.as_ref().map_or(0.0, |b| f64::from(b[c]));
                out[row * channels + c] = products.fold(start, |sum, product| sum + product) as f32;
            }
        }
        let kept = &seen[u.certain * channels..];
        slots[u.write * record..][..kept.len()].copy_from_slice(kept);
    }
    Ok(out)
}

/// What a row adds to the state of a head.
#[derive(Clone, Copy)]
struct Update<'a> {
    k: &'a [f32],
    v: &'a [f32],
    gate: f32,
    beta: f32,
}

impl<'a> Update<'a> {
    /// The update that a pending row holds.
    fn pending(row: &'a [f32], s: &DeltaShape) -> Update<'a> {
        let (k, rest) = row.split_at(s.key);
        let (v, rest) = rest.split_at(s.value);
        Update { k, v, gate: rest[0], beta: rest[1] }
    }

    fn store(&self, row: &mut [f32]) {
        let all = self.k.iter().chain(self.v).chain([&self.gate, &self.beta]);
        row.iter_mut().zip(all).for_each(|(to, from)| *to = *from);
    }

    /// Applies the update to a matrix `[key, value]`. Each element is rounded to f32 once.
    fn apply(&self, matrix: &mut [f32]) {
        let (width, gate, beta) = (self.v.len(), f64::from(self.gate), f64::from(self.beta));
        for (j, &v) in self.v.iter().enumerate() {
            let column = |i: usize| i * width + j;
            let found: f64 =
                self.k.iter().enumerate().map(|(i, &k)| gate * f64::from(matrix[column(i)]) * f64::from(k)).sum();
            let change = beta * (f64::from(v) - found);
            for (i, &k) in self.k.iter().enumerate() {
                let element = &mut matrix[column(i)];
                *element = (gate * f64::from(*element) + f64::from(k) * change) as f32;
            }
        }
    }
}

/// The operands of `delta_rule`.
struct DeltaRows<'a> {
    shape: DeltaShape,
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    gate: &'a [f32],
    beta: &'a [f32],
}

impl DeltaRows<'_> {
    /// Start of a row's query or key for a head.
    fn key(&self, row: usize, head: usize) -> usize {
        let s = &self.shape;
        (row * s.key_heads + head / (s.heads / s.key_heads)) * s.key
    }

    fn update(&self, row: usize, head: usize) -> Update<'_> {
        let (s, at) = (&self.shape, row * self.shape.heads + head);
        let k = &self.k[self.key(row, head)..][..s.key];
        Update { k, v: &self.v[at * s.value..][..s.value], gate: self.gate[at], beta: self.beta[at] }
    }

    /// Applies a row to the matrix and computes its result.
    fn step(&self, row: usize, head: usize, matrix: &mut [f32], out: &mut [f32]) {
        self.update(row, head).apply(matrix);
        let (s, q) = (&self.shape, &self.q[self.key(row, head)..][..self.shape.key]);
        for j in 0..s.value {
            let sum: f64 = q.iter().enumerate().map(|(i, &q)| f64::from(matrix[i * s.value + j]) * f64::from(q)).sum();
            out[(row * s.heads + head) * s.value + j] = sum as f32;
        }
    }

    /// One head of a sequence.
    fn head(&self, u: &SlotUse, head: usize, slots: &mut [f32], out: &mut [f32]) {
        let (s, size) = (&self.shape, self.shape.key * self.shape.value);
        let place = |slot: usize| (slot * s.heads + head) * s.record();
        let read = slots[place(u.read)..][..s.record()].to_vec();
        let (matrix, pending) = read.split_at(size);
        let mut matrix = matrix.to_vec();
        for row in pending.chunks_exact(s.pending_row()).take(u.accepted) {
            Update::pending(row, s).apply(&mut matrix);
        }
        let drafts = u.rows.start + u.certain;
        (u.rows.start..drafts).for_each(|row| self.step(row, head, &mut matrix, out));
        let (kept, pending) = slots[place(u.write)..][..s.record()].split_at_mut(size);
        kept.copy_from_slice(&matrix);
        for (row, to) in (drafts..u.rows.end).zip(pending.chunks_exact_mut(s.pending_row())) {
            self.update(row, head).store(to);
            self.step(row, head, &mut matrix, out);
        }
    }
}

fn delta_rule(a: &OpArgs<'_, '_>, slots: &mut [f32]) -> Result<Vec<f32>, EvalError> {
    let ty = |i: usize| a.graph.ty(a.node.input(i));
    let shape = DeltaShape::of(ty(0), ty(1), ty(3)).expect("V006: the sizes fit");
    let [q, k, v, gate, beta] = [1, 2, 3, 4, 5].map(|i| a.input(i).floats());
    let rows = DeltaRows { shape, q: &q, k: &k, v: &v, gate: &gate, beta: &beta };
    let mut out = vec![0.0; v.len()];
    for u in uses(a, 6, shape.room)? {
        (0..shape.heads).for_each(|head| rows.head(&u, head, slots, &mut out));
    }
    Ok(out)
}
