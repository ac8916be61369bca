//! Row kernels: norm, quantiser, SwiGLU, rotary embedding, arg-max.

use super::{Rng, at_every_level, nmse};
use crate::activation::ActBlock;
use crate::kernels::rows::{Best, GateArgs, NormArgs, QuantizeArgs, RopeArgs, RopeStyle, rope_angles};
use aio_ir::quant::quantize_q8;
use aio_ir::sampling::NO_TOKEN;
use bytemuck::Zeroable;
use std::cell::RefCell;

const SEED: u64 = 21;

#[test]
fn norm_agrees_with_f64_and_has_the_same_bits_at_every_level() {
    let before: RefCell<Vec<Vec<f32>>> = RefCell::default();
    at_every_level("norm", |kernels| {
        let mut outs = Vec::new();
        for len in [1, 15, 16, 64, 100, 576] {
            let (x, weight) = (Rng(SEED).normals(len), Rng(SEED + 1).normals(len));
            let mut out = vec![f32::NAN; len];
            kernels.norm(NormArgs { x: &x, weight: &weight, eps: 1e-5, out: &mut out });
            let mean = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / len as f64;
            let scale = 1.0 / (mean + 1e-5).sqrt();
            let expected: Vec<f64> =
                x.iter().zip(&weight).map(|(x, w)| f64::from(*x) * scale * f64::from(*w)).collect();
            assert!(nmse(&out, &expected) < 1e-12, "len {len}, seed {SEED}");
            outs.push(out);
        }
        if !before.borrow().is_empty() {
            assert_eq!(*before.borrow(), outs);
        }
        before.replace(outs);
    });
}

#[test]
fn quantised_blocks_equal_the_reference() {
    at_every_level("quantize", |kernels| {
        for scale in [1.0, 1e-30, 1e-36, 1e-39, 0.0, 3e37] {
            let x: Vec<f32> = Rng(SEED).normals(96).iter().map(|x| x * scale).collect();
            let mut out = [ActBlock::zeroed(); 6];
            // SAFETY: three blocks, two apart, in a buffer of six.
            unsafe { kernels.quantize(QuantizeArgs { x: &x, out: out.as_mut_ptr(), stride: 2 }) };
            for (b, x) in x.as_chunks::<32>().0.iter().enumerate() {
                assert_eq!(out[2 * b], quantize_q8(x).into(), "scale {scale}, block {b}, seed {SEED}");
            }
        }
        for at in [0, 15, 16, 31] {
            let mut x = [1.0; 32];
            x[at] = f32::NAN;
            let mut out = ActBlock::zeroed();
            // SAFETY: one block.
            unsafe { kernels.quantize(QuantizeArgs { x: &x, out: &mut out, stride: 1 }) };
            assert!(out.d.is_nan(), "NaN at {at} is not lost");
        }
    });
}

#[test]
fn gate_agrees_with_f64_over_the_whole_range() {
    at_every_level("silu_mul", |kernels| {
        let gate: Vec<f32> = (0..2001).map(|i| (i as f32 - 1000.0) / 10.0).collect();
        let up = vec![2.0; gate.len()];
        let mut out = vec![f32::NAN; gate.len()];
        kernels.silu_mul(GateArgs { gate: &gate, up: &up, out: &mut out });
        for (g, y) in gate.iter().zip(&out) {
            let expected = 2.0 * f64::from(*g) / (1.0 + (-f64::from(*g)).exp());
            let error = (f64::from(*y) - expected).abs();
            assert!(error <= 1e-6 * expected.abs() + 1e-30, "{g}: {y} is not {expected}");
        }
    });
}

#[test]
fn gelu_agrees_with_f64_over_the_whole_range() {
    at_every_level("gelu_mul", |kernels| {
        let gate: Vec<f32> = (0..2001).map(|i| (i as f32 - 1000.0) / 100.0).collect();
        let up = vec![2.0; gate.len()];
        let mut out = vec![f32::NAN; gate.len()];
        kernels.gelu_mul(GateArgs { gate: &gate, up: &up, out: &mut out });
        for (g, y) in gate.iter().zip(&out) {
            let x = f64::from(*g);
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            let expected = 2.0 * x / (1.0 + (-2.0 * u).exp());
            let error = (f64::from(*y) - expected).abs();
            // Rounding of the exponent's argument grows with it.
            assert!(error <= 2e-5 * expected.abs() + 1e-30, "{g}: {y} is not {expected}");
        }
    });
}

#[test]
fn rotation_keeps_lengths_and_pairs_as_its_style_says() {
    let (mut cos, mut sin) = ([0.0; 3], [0.0; 3]);
    rope_angles(7, &[1.0, 0.1, 0.01], 1.0, &mut cos, &mut sin);
    assert_eq!((cos[0], sin[0]), (7f32.cos(), 7f32.sin()));
    at_every_level("rope", |kernels| {
        for (style, pair) in [(RopeStyle::Interleaved, [2, 3]), (RopeStyle::Halves, [1, 4])] {
            let mut head = [0.0; 8];
            (head[pair[0]], head[pair[1]], head[7]) = (3.0, 4.0, 9.0);
            kernels.rope(RopeArgs { head: &mut head, cos: &cos, sin: &sin, style });
            assert!((head[pair[0]] - (3.0 * cos[1] - 4.0 * sin[1])).abs() < 1e-6, "{style:?}");
            assert!((head[pair[1]] - (3.0 * sin[1] + 4.0 * cos[1])).abs() < 1e-6, "{style:?}");
            assert_eq!(head[7], 9.0, "elements without an angle stay");
        }
    });
}

#[test]
fn argmax_takes_the_lowest_index_and_a_broken_part_beats_all() {
    at_every_level("argmax", |kernels| {
        for len in [1, 15, 16, 17, 1000] {
            let mut x = Rng(SEED).normals(len);
            x[len / 2] = 100.0;
            x[len - 1] = 100.0;
            let best = kernels.argmax(&x, 5);
            assert_eq!(best, Best { value: 100.0, index: 5 + (len / 2) as u32 }, "len {len}");
            for (at, bad) in (0..len).flat_map(|at| [(at, f32::NAN), (at, -f32::NAN), (at, f32::INFINITY)]) {
                let kept = std::mem::replace(&mut x[at], bad);
                let broken = kernels.argmax(&x, 5);
                assert!(broken.value.is_nan() && broken.index == NO_TOKEN, "{bad} at {at} of {len}: {broken:?}");
                assert_eq!([broken.or(best).index, best.or(broken).index, Best::NONE.or(broken).index], [NO_TOKEN; 3]);
                x[at] = kept;
            }
        }
        // The sum of these is no number, and yet all of them are legal.
        let wide = [f32::MAX, f32::MAX, f32::NEG_INFINITY].repeat(64);
        assert_eq!(kernels.argmax(&wide, 0), Best { value: f32::MAX, index: 0 });
        let barred = [f32::NEG_INFINITY; 40];
        assert_eq!(kernels.argmax(&barred, 7), Best { value: f32::NEG_INFINITY, index: 7 });
        assert_eq!(kernels.argmax(&[], 5), Best::NONE);
        let (low, high) = (kernels.argmax(&[1.0, 3.0], 0), kernels.argmax(&[3.0, 2.0], 2));
        assert_eq!((low.or(high).index, high.or(low).index, Best::NONE.or(low).index), (1, 1, 1));
    });
}
