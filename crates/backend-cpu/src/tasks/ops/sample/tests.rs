//! The fast chain against the oracle's code, token by token, at every level.
//!
//! Rows are random or made to be hard: ties, infinities, NaN, all equal, sorted either way. Seeds are fixed and named by
//! a failing assertion.

use super::chain::{Chain, Work, is_adjusted, is_unfiltered};
use crate::kernels::Kernels;
use crate::kernels::choose::{BLOCK_TOKENS, NoisyArgs, Surveyed};
use crate::kernels::rows::Best;
use crate::kernels::tests::{Rng, at_every_level};
use aio_ir::float::maximum;
use aio_ir::sampling::{Candidate, SampleParams, SampleRow, gumbel, sample, weight};

/// Sizes around those of blocks and vectors, and one of a vocabulary.
const SIZES: [usize; 13] = [1, 2, 15, 16, 17, 63, 64, 65, 130, 500, 1000, 1029, 4111];

fn any<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    of[(rng.next() % of.len() as u64) as usize]
}

/// A row of one of several shapes.
fn logits(rng: &mut Rng, n: usize) -> Vec<f32> {
    let scale = any(rng, &[0.0, 0.01, 1.0, 4.0, 4.0, 30.0, 1e4, 3e37]);
    let shape = rng.next() % 8;
    let mut x: Vec<f32> = rng.normals(n).iter().map(|x| x * scale).collect();
    match shape {
        // Ties.
        0 => x.iter_mut().for_each(|x| *x = x.round()),
        1 => x.iter_mut().for_each(|x| *x = if *x > 0.0 { 0.0 } else { -0.0 }),
        // Specials.
        2 | 3 => {
            let specials = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, 1e-40, f32::MAX, f32::MIN];
            let take = any(rng, &[1, 3, 8]);
            let rare = any(rng, &[1, 2, 30]);
            for x in &mut x {
                *x = if rng.next().is_multiple_of(rare) { any(rng, &specials[..take]) } else { *x };
            }
        }
        4 => x.sort_by(f32::total_cmp),
        5 => x.sort_by(|a, b| b.total_cmp(a)),
        // One token left.
        6 => {
            let one = rng.next() as usize % n;
            (0..n).filter(|i| *i != one).for_each(|i| x[i] = f32::NEG_INFINITY);
        }
        _ => {}
    }
    x
}

fn params(rng: &mut Rng, n: usize) -> SampleParams {
    let penalizes = rng.next().is_multiple_of(3);
    let penalty = |rng: &mut Rng, of: &[f32], none: f32| if penalizes { any(rng, of) } else { none };
    SampleParams {
        temperature: any(rng, &[0.0, 0.8, 0.8, 1.0, 0.1, 1e-4, 1e-40, 3.0, 1e30, f32::INFINITY, f32::NAN, -1.0]),
        top_k: any(rng, &[0, 0, 1, 2, 40, n as u32 / 2, n as u32, n as u32 + 1, u32::MAX >> 8]),
        top_p: any(rng, &[1.0, 1.0, 0.95, 0.5, 0.999_999, 1e-6, 0.0, -0.0, f32::NAN]),
        min_p: any(rng, &[0.0, 0.0, 0.05, 0.5, 1.0, 1e-9, 1.5, f32::NAN]),
        repeat_penalty: penalty(rng, &[1.0, 1.3, 0.5, 1e30], 1.0),
        presence_penalty: penalty(rng, &[0.0, 0.7, -2.0, f32::INFINITY], 0.0),
        frequency_penalty: penalty(rng, &[0.0, 0.3, -0.5], 0.0),
    }
}

fn bias(rng: &mut Rng, n: usize) -> Option<Vec<f32>> {
    let rare = any(rng, &[1, 2, 50]);
    let element = |rng: &mut Rng| match rng.next() % rare {
        0 => any(rng, &[f32::NEG_INFINITY, f32::NEG_INFINITY, -3.0, 5.0, f32::INFINITY, f32::NAN]),
        _ => 0.0,
    };
    rng.next().is_multiple_of(3).then(|| (0..n).map(|_| element(rng)).collect())
}

/// As `Sample::run` does it with the row cut into `parts`.
fn fast(kernels: &Kernels, logits: &[f32], row: &SampleRow<'_>, parts: usize, memory: &mut Vec<u32>) -> u32 {
    // Whatever lies there must not matter.
    memory.resize(Work::bytes(logits.len()) / 4, 0x7F12_3456);
    // SAFETY: as many bytes as it takes, exclusively.
    let work = unsafe { Work::at(memory.as_mut_ptr().cast(), logits.len()) };
    let chain = Chain { kernels, row };
    if is_adjusted(row) {
        return chain.adjusted(logits, work);
    }
    let blocks = logits.len().div_ceil(BLOCK_TOKENS);
    let mut maxima = vec![f32::NAN; blocks];
    let mut best = Best::NONE;
    for part in 0..parts {
        let (start, end) = (blocks * part / parts, blocks * (part + 1) / parts);
        let first = start * BLOCK_TOKENS;
        let x = &logits[first..(end * BLOCK_TOKENS).min(logits.len())];
        kernels.survey(x, &mut maxima[start..end]);
        let part = Surveyed { x, maxima: &maxima[start..end] };
        let args = NoisyArgs { part, first: first as u32, temperature: row.params.temperature, noise: row.noise };
        best = kernels.noisy_best(args).or(best);
    }
    if is_unfiltered(&row.params, logits.len()) {
        return best.index;
    }
    chain.surveyed(Surveyed { x: logits, maxima: &maxima }, work)
}

#[test]
fn tokens_are_those_of_the_definition() {
    at_every_level("sample", |kernels| {
        let (mut scratch, mut memory) = (Vec::new(), Vec::new());
        for seed in 0..6000 {
            let rng = &mut Rng(seed);
            let n = any(rng, &SIZES);
            let logits = logits(rng, n);
            let recent: Vec<i32> = (0..rng.next() % 70).map(|_| (rng.next() % (n as u64 + 9)) as i32 - 4).collect();
            let (params, bias) = (params(rng, n), bias(rng, n));
            let noise = std::array::from_fn(|_| rng.next() as u32);
            let row = SampleRow { params, noise, recent: &recent, bias: bias.as_deref() };
            let expected = sample(&logits, &row, &mut scratch);
            for parts in [1, 2, 3, 7] {
                let got = fast(kernels, &logits, &row, parts, &mut memory);
                assert_eq!(got, expected, "seed {seed}, {n} tokens in {parts} parts, {params:?}");
            }
        }
    });
}

/// Rows like a model's, with the parameters that people use.
#[test]
fn tokens_of_a_large_vocabulary_are_those_of_the_definition() {
    let base = SampleParams { temperature: 0.8, ..SampleParams::GREEDY };
    let all = [
        base,
        SampleParams { top_k: 40, top_p: 0.95, min_p: 0.05, ..base },
        SampleParams { top_p: 0.9, ..base },
        SampleParams { top_p: 0.999, temperature: 1.5, ..base },
        SampleParams { min_p: 0.02, ..base },
        SampleParams { top_k: 3000, ..base },
        SampleParams { top_k: 40, repeat_penalty: 1.1, frequency_penalty: 0.2, ..base },
    ];
    at_every_level("sample", |kernels| {
        let (mut scratch, mut memory) = (Vec::new(), Vec::new());
        for (seed, scale) in [(1, 3.0), (2, 1.0), (3, 0.05)] {
            let rng = &mut Rng(seed);
            let logits: Vec<f32> = rng.normals(49_152).iter().map(|x| x * scale).collect();
            let recent: Vec<i32> = (0..64).map(|_| (rng.next() % 49_152) as i32).collect();
            for (i, &params) in all.iter().enumerate() {
                let row = SampleRow { params, noise: [seed as u32, 0, 0, i as u32], recent: &recent, bias: None };
                let expected = sample(&logits, &row, &mut scratch);
                assert_eq!(fast(kernels, &logits, &row, 1, &mut memory), expected, "seed {seed}, {params:?}");
                assert_eq!(fast(kernels, &logits, &row, 2, &mut memory), expected, "seed {seed}, {params:?}");
            }
        }
    });
}

#[test]
fn a_survey_shows_nan_and_lists_are_complete() {
    at_every_level("survey", |kernels| {
        for (seed, &n) in SIZES.iter().enumerate() {
            let rng = &mut Rng(seed as u64);
            let mut x = logits(rng, n);
            let mut maxima = vec![f32::NAN; n.div_ceil(BLOCK_TOKENS)];
            kernels.survey(&x, &mut maxima);
            let largest = |x: &[f32]| x.iter().copied().fold(f32::NEG_INFINITY, maximum);
            let same = |(x, m): (&[f32], &f32)| largest(x) == *m || (largest(x).is_nan() && m.is_nan());
            assert!(x.chunks(BLOCK_TOKENS).zip(&maxima).all(same), "seed {seed}");
            // The rest is for rows without.
            let number = |x: f32| if x.is_nan() { f32::NEG_INFINITY } else { x };
            x.iter_mut().for_each(|x| *x = number(*x));
            kernels.survey(&x, &mut maxima);
            let row = Surveyed { x: &x, maxima: &maxima };
            let floors = [f32::NEG_INFINITY, 0.0, any(rng, &x), any(rng, &x), row.top()];
            for floor in floors {
                let kept = x.iter().enumerate().map(|(i, &logit)| Candidate { logit, token: i as u32 });
                let expected: Vec<Candidate> = kept.filter(|c| c.logit >= floor).collect();
                let mut list = vec![Candidate { logit: 0.0, token: 0 }; n];
                let count = kernels.gather(row, floor, &mut list);
                assert_eq!(list[..count], expected, "seed {seed}, floor {floor}");
                let mass: u64 = expected.iter().map(|c| u64::from(weight(c.logit, row.top()))).sum();
                assert_eq!(kernels.mass(row, row.top(), floor), mass, "seed {seed}, floor {floor}");
            }
        }
    });
}

/// With logits of 0 and temperature 1 the best value is the largest noise, to the bit.
#[test]
fn noise_has_the_bits_of_the_definition() {
    at_every_level("noise", |kernels| {
        let x = [0.0; BLOCK_TOKENS];
        for seed in 0..300 {
            let rng = &mut Rng(seed);
            let noise = std::array::from_fn(|_| rng.next() as u32);
            let block = (rng.next() % 4000) as u32;
            for token in [0, 1, 2, 3, 4, 37, 63] {
                // All others are barred.
                let mut x = x.map(|_| f32::NEG_INFINITY);
                x[token] = 0.0;
                let (part, first) = (Surveyed { x: &x, maxima: &[0.0] }, block * BLOCK_TOKENS as u32);
                let best = kernels.noisy_best(NoisyArgs { part, first, temperature: 1.0, noise });
                let expected = Best { value: gumbel(noise, first + token as u32), index: first + token as u32 };
                assert_eq!(best, expected, "seed {seed}, token {token}");
            }
        }
    });
}
