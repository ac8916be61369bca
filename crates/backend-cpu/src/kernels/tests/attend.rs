//! Attention across splits against one naive softmax in f64, and its row independence.

use super::{Rng, at_every_level, nmse};
use crate::kernels::Kernels;
use crate::kernels::attend::*;
use half::f16;

const SEED: u64 = 31;
const KV_HEADS: usize = 2;
const Q_HEADS: usize = 6;

/// Keys and values of a sequence on shuffled pages.
struct Cache {
    head_dim: usize,
    memory: Vec<f16>,
    pages: Vec<u32>,
    /// The same with keys in row-major order, as bytes.
    row_major: Vec<u8>,
}

impl Cache {
    fn new(head_dim: usize, positions: usize) -> Cache {
        let count = positions.div_ceil(PAGE_POSITIONS) + 1;
        let pages: Vec<u32> = (0..count as u32).rev().collect();
        let elems = 2 * KV_HEADS * PAGE_POSITIONS * head_dim;
        // Positions never written hold NaN, which must not spread.
        let mut cache = Cache { head_dim, memory: vec![f16::NAN; elems * count], pages, row_major: Vec::new() };
        let mut rng = Rng(SEED);
        for position in 0..positions {
            for head in 0..KV_HEADS {
                let (key, value) = (rng.normals(head_dim), rng.normals(head_dim));
                let page = cache.pages[position / PAGE_POSITIONS];
                // SAFETY: the memory has this page, and this thread alone uses it.
                unsafe {
                    cache.layer().write_key(page, position % PAGE_POSITIONS, head, &key);
                    cache.layer().write_value(page, position % PAGE_POSITIONS, head, &value);
                }
            }
        }
        cache.row_major = row_major(bytemuck::cast_slice(&cache.memory), KV_HEADS, head_dim);
        cache
    }

    fn layer(&mut self) -> KvLayer {
        let page_stride = 2 * KV_HEADS * PAGE_POSITIONS * self.head_dim;
        KvLayer { start: self.memory.as_mut_ptr(), page_stride, kv_heads: KV_HEADS, head_dim: self.head_dim }
    }

    /// A key (`which` 0) or value (1).
    fn at(&self, position: usize, head: usize, which: usize) -> impl Iterator<Item = f64> {
        let page = self.pages[position / PAGE_POSITIONS] as usize;
        let row = ((page * 2 + which) * KV_HEADS + head) * PAGE_POSITIONS + position % PAGE_POSITIONS;
        let plain = &self.row_major[2 * row * self.head_dim..][..2 * self.head_dim];
        plain.as_chunks::<2>().0.iter().map(|b| f64::from(f16::from_le_bytes(*b).to_f32()))
    }

    fn naive(&self, q: &[f32], position: u32, head: usize, rule: &AttendRule) -> Vec<f64> {
        let kv_head = head / (Q_HEADS / KV_HEADS);
        let score = |p: usize| {
            let dot: f64 = self.at(p, kv_head, 0).zip(q).map(|(k, q)| k * f64::from(*q)).sum();
            let score = dot * f64::from(rule.scale);
            rule.soft_cap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh())
        };
        let seen = rule.seen(position);
        let scores: Vec<f64> = seen.clone().map(score).collect();
        let max = scores.iter().copied().fold(f64::MIN, f64::max);
        let total: f64 = scores.iter().map(|s| (s - max).exp()).sum();
        let mut out = vec![0.0; self.head_dim];
        for (p, s) in seen.zip(scores) {
            for (out, v) in out.iter_mut().zip(self.at(p, kv_head, 1)) {
                *out += v * (s - max).exp() / total;
            }
        }
        out
    }

    /// All heads of all rows; `reverse` runs splits and heads backwards.
    fn run(&mut self, kernels: &Kernels, q: &[f32], positions: &[u32], rule: AttendRule, reverse: bool) -> Vec<f32> {
        let hd = self.head_dim;
        let splits = positions.iter().map(|p| rule.splits(*p).end).max().unwrap();
        let mut buffer = vec![f32::NAN; partials_len(positions.len(), Q_HEADS, splits, hd)];
        let partials = Partials { start: buffer.as_mut_ptr(), splits };
        let mut scratch = vec![0.0; ATTEND_SCRATCH_LEN];
        let kv = self.layer();
        let mut work: Vec<(usize, usize)> = (0..splits).flat_map(|s| (0..KV_HEADS).map(move |h| (s, h))).collect();
        if reverse {
            work.reverse();
        }
        for (split, kv_head) in work {
            let (pages, scratch, q_heads) = (&self.pages, &mut scratch, Q_HEADS);
            // SAFETY: memory and partial results are this thread's own.
            unsafe {
                kernels.attend(AttendArgs {
                    kv,
                    pages,
                    positions,
                    q,
                    q_heads,
                    kv_head,
                    split,
                    rule,
                    partials,
                    scratch,
                });
            }
        }
        let mut out = vec![f32::NAN; positions.len() * Q_HEADS * hd];
        for (index, out) in out.chunks_exact_mut(hd).enumerate() {
            let splits = rule.splits(positions[index / Q_HEADS]);
            // SAFETY: all splits that the row sees have been filled.
            unsafe { kernels.combine(CombineArgs { partials, index, splits, sink: None, out }) };
        }
        out
    }
}

fn rules() -> [AttendRule; 4] {
    let plain = AttendRule { scale: 0.125, window: None, soft_cap: None };
    [
        plain,
        AttendRule { window: Some(1), ..plain },
        AttendRule { window: Some(300), ..plain },
        AttendRule { scale: 1.0, window: None, soft_cap: Some(5.0) },
    ]
}

#[test]
fn splits_agree_with_one_naive_softmax() {
    at_every_level("attention", |kernels| {
        for head_dim in [16, 64, 80] {
            let mut cache = Cache::new(head_dim, 700);
            for positions in [&[0][..], &[15, 16, 63], &[255, 256, 257], &[511, 699]] {
                let q = Rng(SEED + 1).normals(positions.len() * Q_HEADS * head_dim);
                for rule in rules() {
                    let got = cache.run(kernels, &q, positions, rule, false);
                    let mut expected = Vec::new();
                    for (index, q) in q.chunks_exact(head_dim).enumerate() {
                        let (row, head) = (index / Q_HEADS, index % Q_HEADS);
                        expected.extend(cache.naive(q, positions[row], head, &rule));
                    }
                    let (error, level) = (nmse(&got, &expected), kernels.isa().level());
                    assert!(
                        error < 1e-11,
                        "{level} head_dim {head_dim} {positions:?} {rule:?}, seed {SEED}: {error:e}"
                    );
                }
            }
        }
    });
}

#[test]
fn a_row_has_the_same_bits_beside_any_others_and_in_any_order() {
    at_every_level("attention row independence", |kernels| {
        let mut cache = Cache::new(64, 640);
        for rule in rules() {
            for rows in [1, 2, 5, 17, 33] {
                let positions: Vec<u32> = (0..rows).map(|r| 600 + r as u32).collect();
                let q = Rng(SEED + 2).normals(rows * Q_HEADS * 64);
                let together = cache.run(kernels, &q, &positions, rule, true);
                let alone = positions.iter().zip(q.chunks_exact(Q_HEADS * 64));
                let alone: Vec<f32> = alone.flat_map(|(p, q)| cache.run(kernels, q, &[*p], rule, false)).collect();
                let equal = together.iter().zip(&alone).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(equal, "{} {rule:?} with {rows} rows, seed {SEED}", kernels.isa().level());
            }
        }
    });
}
