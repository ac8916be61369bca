//! The numerics of one attention row: scores and softmax in f32, probabilities rounded to the type of the values.

use crate::nn::mode::kv_parts;

/// Score of a masked position: finite, so that a row without any visible position averages all values, as the hardware
/// does unless `innerPrecise` asks for the correction.
pub const MASKED: f32 = -1.0e30;

/// One row: the query, the keys and values of its head, and what each position adds or hides.
pub struct RowInput<'a> {
    /// Query vector.
    pub q: &'a [f32],
    /// Key vectors, position by position.
    pub k: &'a [f32],
    /// Value vectors.
    pub v: &'a [f32],
    /// Factor of the scores.
    pub scale: f32,
    /// Added to the scores, if given.
    pub shift: Option<&'a [f32]>,
    /// Not 0 where masked, if given.
    pub mask: Option<&'a [i64]>,
    /// First visited position and one past the last.
    pub range: (usize, usize),
    /// Whether a row without a visible position gives zeros.
    pub zero_hidden: bool,
    /// Rounding of the probabilities.
    pub round: fn(f32) -> f32,
}

#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; 16];
    for (a, b) in a.chunks_exact(16).zip(b.chunks_exact(16)) {
        for l in 0..16 {
            sums[l] += a[l] * b[l];
        }
    }
    let mut width = 8;
    while width > 0 {
        for l in 0..width {
            sums[l] += sums[l + width];
        }
        width /= 2;
    }
    sums[0]
}

#[inline(always)]
fn scores(row: &RowInput) -> Vec<f32> {
    let d = row.q.len();
    (row.range.0..row.range.1)
        .map(|p| {
            let score = dot(row.q, &row.k[p * d..][..d]) * row.scale + row.shift.map_or(0.0, |shift| shift[p]);
            if row.mask.is_some_and(|mask| mask[p] != 0) { MASKED } else { score }
        })
        .collect()
}

/// Sums of weighted values and of weights over some positions.
#[inline(always)]
fn weigh(row: &RowInput, scores: &[f32], top: f32, from: usize) -> (Vec<f32>, f32) {
    let d = row.q.len();
    let (mut out, mut total) = (vec![0f32; d], 0f32);
    for (i, score) in scores.iter().enumerate() {
        let weight = (score - top).exp();
        total += weight;
        let rounded = (row.round)(weight);
        for (o, v) in out.iter_mut().zip(&row.v[(from + i) * d..][..d]) {
            *o += rounded * v;
        }
    }
    (out, total)
}

#[inline(always)]
fn attend_with(row: &RowInput) -> (Vec<f32>, f32) {
    let scores = scores(row);
    let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if scores.is_empty() || (row.zero_hidden && top <= MASKED) {
        return (vec![0.0; row.q.len()], f32::INFINITY);
    }
    let parts = kv_parts(scores.len());
    let (mut out, mut total) = (vec![0f32; row.q.len()], 0f32);
    for part in 0..parts {
        let (low, high) = (part * scores.len() / parts, (part + 1) * scores.len() / parts);
        let (sum, weights) = weigh(row, &scores[low..high], top, row.range.0 + low);
        total += weights;
        out.iter_mut().zip(sum).for_each(|(o, s)| *o += s);
    }
    out.iter_mut().for_each(|o| *o /= total);
    (out, top + total.ln())
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn attend_avx2(row: &RowInput) -> (Vec<f32>, f32) {
    attend_with(row)
}

/// The result of a row and its log-sum-exp. The bits do not depend on the instruction set.
pub fn attend(row: &RowInput) -> (Vec<f32>, f32) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has the feature that the function is compiled for.
        return unsafe { attend_avx2(row) };
    }
    attend_with(row)
}
