//! Choosing tokens: arg-max, top-k, the sampling chain, verification of drafts.

use super::args::{OpArgs, Results};
use crate::tensor::Tensor;
use aio_ir::sampling::{self, SampleParams, SampleRow, sample};
use aio_ir::{DType, Op};
use std::cmp::Ordering;

pub(crate) fn apply<'w>(a: &OpArgs<'_, 'w>) -> Results<'w> {
    match a.node.op {
        Op::Argmax => argmax(a),
        Op::TopK => top_k(a),
        Op::Sample => sample_rows(a),
        _ => verify(a),
    }
}

/// Indices of a row, largest element first, lowest index first on ties. NaN ranks above all numbers, as in numpy's
/// sorting.
fn ranked(row: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..row.len()).collect();
    let by_nan = |i: usize, j: usize| row[j].is_nan().cmp(&row[i].is_nan());
    order.sort_by(|&i, &j| row[j].partial_cmp(&row[i]).unwrap_or(Ordering::Equal).then(by_nan(i, j)));
    order
}

fn argmax<'w>(a: &OpArgs<'_, 'w>) -> Results<'w> {
    let x = a.input(0);
    let (values, shape, n) = (x.floats(), a.shape(0), x.last());
    let rows = 0..shape.iter().product::<usize>();
    let best = rows.map(|i| i64::from(sampling::argmax(&values[i * n..(i + 1) * n]))).collect();
    Ok(vec![Tensor::int(DType::U32, shape, best)])
}

fn top_k<'w>(a: &OpArgs<'_, 'w>) -> Results<'w> {
    let x = a.input(0);
    let k = a.node.int("k") as usize;
    let data = x.floats();
    let (mut values, mut indices) = (Vec::new(), Vec::new());
    for row in data.chunks(x.last().max(1)) {
        for &i in &ranked(row)[..k] {
            values.push(row[i]);
            indices.push(i as i64);
        }
    }
    Ok(vec![Tensor::f32(a.shape(0), values), Tensor::int(DType::U32, a.shape(1), indices)])
}

fn sample_rows<'w>(a: &OpArgs<'_, 'w>) -> Results<'w> {
    let (logits, params) = (a.input(0), a.input(1));
    let (noise, recent) = (a.input(2).ints(), a.input(3));
    let bias = a.optional(4);
    let mut tokens = Vec::new();
    let mut scratch = Vec::new();
    for row in 0..logits.shape[0] {
        let history: Vec<i32> =
            recent.ints()[row * recent.last()..][..recent.last()].iter().map(|&t| t as i32).collect();
        let bias = bias.map(|b| b.row(row));
        let words = &noise[row * 4..][..4];
        let r = SampleRow {
            params: SampleParams::from_row(&params.row(row)),
            noise: [words[0] as u32, words[1] as u32, words[2] as u32, words[3] as u32],
            recent: &history,
            bias: bias.as_deref(),
        };
        tokens.push(i64::from(sample(&logits.row(row), &r, &mut scratch)));
    }
    Ok(vec![Tensor::int(DType::U32, a.shape(0), tokens)])
}

/// The last token of sequence `s` is at row `first`, followed by its drafts.
fn verify<'w>(a: &OpArgs<'_, 'w>) -> Results<'w> {
    let [sampled, drafts] = [0, 1].map(|i| a.input(i).ints().iter().map(|&t| t as u32).collect::<Vec<_>>());
    let (mut accepted, mut next) = (Vec::new(), Vec::new());
    for span in a.input(2).ints().chunks(2) {
        let first = a.checked("row", span[0], sampled.len())?;
        // A row outside fails the step only if all drafts before it are accepted.
        let end = sampled.len().min(first + span[1] as usize + 1);
        let run = sampling::accepted(&sampled[first..end], &drafts[first..end]);
        let (hits, token) = run.expect("a run has its first row");
        if i64::from(hits) < span[1] {
            a.checked("row", span[0] + i64::from(hits) + 1, sampled.len())?;
        }
        accepted.push(i64::from(hits));
        next.push(i64::from(token));
    }
    Ok(vec![Tensor::int(DType::U32, a.shape(0), accepted), Tensor::int(DType::U32, a.shape(1), next)])
}
