//! The paged KV cache: writing, attention, committed lengths.

use super::args::{OpArgs, Results};
use crate::error::EvalError;
use crate::tensor::{Data, Tensor, wrap};
use aio_ir::Op;
use half::f16;

pub(crate) fn apply<'w>(a: &OpArgs<'_, 'w>, state: Option<Tensor<'w>>) -> Results<'w> {
    match a.node.op {
        Op::PageWrite => page_write(a, state.expect("page_write replaces its state")),
        Op::Attend => attend(a),
        _ => {
            let lens = state.expect("commit replaces its state");
            let sums = lens.ints().iter().zip(a.input(1).ints()).map(|(&l, &n)| wrap(lens.dtype, l + n)).collect();
            Ok(vec![Tensor::int(lens.dtype, lens.shape.clone(), sums)])
        }
    }
}

/// Locates the positions of rows in a KV state. Operands from `at` on are page table, row sequences, positions.
struct PagedRows<'a, 'w> {
    args: &'a OpArgs<'a, 'w>,
    table: &'a [i64],
    stride: usize,
    seqs: usize,
    kv: [usize; 5],
}

impl<'a, 'w> PagedRows<'a, 'w> {
    fn new(a: &'a OpArgs<'a, 'w>, kv: &[usize], at: usize) -> PagedRows<'a, 'w> {
        let table = a.input(at);
        let kv = [kv[0], kv[1], kv[2], kv[3], kv[4]];
        PagedRows { args: a, table: table.ints(), stride: table.shape[1], seqs: table.shape[0], kv }
    }

    /// Element index of a position's vector; `half` is 0 for keys, 1 for values.
    fn element(&self, seq: i64, position: usize, half: usize, head: usize) -> Result<usize, EvalError> {
        let seq = self.args.checked("sequence", seq, self.seqs)?;
        let [_, halves, heads, positions, size] = self.kv;
        let index = self.args.checked("position", (position / positions) as i64, self.stride)?;
        let page = self.args.checked("page", self.table[seq * self.stride + index], self.kv[0])?;
        Ok((((page * halves + half) * heads + head) * positions + position % positions) * size)
    }
}

fn page_write<'w>(a: &OpArgs<'_, 'w>, state: Tensor<'w>) -> Results<'w> {
    let places = PagedRows::new(a, &state.shape, 3);
    let (heads, size) = (state.shape[2], state.shape[4]);
    let mut bytes = match state.data {
        Data::Raw(b) => b.into_owned(),
        _ => unreachable!("V006: the state is f16"),
    };
    for (half, operand) in [(0, 1), (1, 2)] {
        let x = a.input(operand).floats();
        for (row, (&seq, &position)) in a.input(4).ints().iter().zip(a.input(5).ints()).enumerate() {
            for head in 0..heads {
                let at = places.element(seq, position as usize, half, head)? * 2;
                let from = (row * heads + head) * size;
                for (i, &v) in x[from..from + size].iter().enumerate() {
                    bytes[at + 2 * i..at + 2 * i + 2].copy_from_slice(&f16::from_f32(v).to_le_bytes());
                }
            }
        }
    }
    Ok(vec![Tensor { dtype: state.dtype, shape: state.shape, data: Data::Raw(bytes.into()) }])
}

fn attend<'w>(a: &OpArgs<'_, 'w>) -> Results<'w> {
    let (q, kv) = (a.input(0), a.input(1));
    let places = PagedRows::new(a, &kv.shape, 2);
    let Data::Raw(bytes) = &kv.data else { unreachable!("V006: the state is f16") };
    let (heads, size, group) = (q.shape[1], q.shape[2], q.shape[1] / kv.shape[2]);
    let qs = q.floats();
    let sinks = a.optional(5).map(Tensor::floats);
    let mut out = Vec::with_capacity(qs.len());
    for (row, (&seq, &position)) in a.input(3).ints().iter().zip(a.input(4).ints()).enumerate() {
        for head in 0..heads {
            let query = &qs[(row * heads + head) * size..][..size];
            let read = |p: usize, half: usize| -> Result<Vec<f64>, EvalError> {
                let at = places.element(seq, p, half, head / group)? * 2;
                let halves = bytes[at..at + 2 * size].chunks_exact(2);
                Ok(halves.map(|b| f16::from_le_bytes([b[0], b[1]]).to_f64()).collect())
            };
            let sink = sinks.as_ref().map(|s| f64::from(s[head]));
            out.extend(attend_one(a, query, position as usize, sink, read)?);
        }
    }
    Ok(vec![Tensor::f32(a.shape(0), out)])
}

fn attend_one(
    a: &OpArgs<'_, '_>,
    query: &[f32],
    position: usize,
    sink: Option<f64>,
    read: impl Fn(usize, usize) -> Result<Vec<f64>, EvalError>,
) -> Result<Vec<f32>, EvalError> {
    let (scale, cap) = (f64::from(a.node.f32("scale")), f64::from(a.node.f32("soft_cap")));
    let window = a.node.int("window") as usize;
    let first = if window == 0 { 0 } else { (position + 1).saturating_sub(window) };
    let mut scores = Vec::new();
    for p in first..=position {
        let key = read(p, 0)?;
        let score: f64 = query.iter().zip(&key).map(|(&q, &k)| f64::from(q) * k).sum::<f64>() * scale;
        scores.push(if cap > 0.0 { cap * (score / cap).tanh() } else { score });
    }
    let top = scores.iter().copied().chain(sink).fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = scores.iter().copied().chain(sink).map(|s| (s - top).exp()).sum();
    let mut sum = vec![0.0f64; query.len()];
    for (p, score) in (first..=position).zip(&scores) {
        let weight = (score - top).exp() / total;
        for (s, v) in sum.iter_mut().zip(read(p, 1)?) {
            *s += weight * v;
        }
    }
    Ok(sum.iter().map(|&v| v as f32).collect())
}
