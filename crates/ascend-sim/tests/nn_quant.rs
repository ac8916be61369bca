//! Quantisation and what carries quantised numbers, against plain f64 code.
#![allow(
    clippy::unwrap_used,
    clippy::macro_metavars_in_unsafe,
    reason = "a test's failure is its report; its macro calls C functions"
)]

mod nn_support;

use std::ffi::{CString, c_void};
use std::ptr::null;

use aio_ascend_sim::tensor::dtype::DType;
use nn_support::*;

/// Whether int8 numbers and their scale are those of a row: the largest value is 127, and each is the nearest number.
/// The nearest may fall to either side where a quotient lies between two numbers up to the precision of the device.
fn check_row(row: &[f64], numbers: &[f32], scale: f32, what: &str) {
    let top = row.iter().fold(0f64, |top, x| top.max(x.abs()));
    assert!((f64::from(scale) - top / 127.0).abs() <= 1e-6 * top + 1e-12, "{what}: scale {scale} of {top}");
    for (x, n) in row.iter().zip(numbers) {
        let exact = if top > 0.0 { x / top * 127.0 } else { 0.0 };
        assert!((f64::from(*n) - exact).abs() <= 0.5 + 1e-3, "{what}: {x} is {n}, exactly {exact}");
    }
}

#[test]
fn dynamic_quantisation_scales_each_row_by_its_largest_value() {
    let (rows, n) = (4usize, 32usize);
    let mut x = noise(61, rows * n);
    x[2 * n..3 * n].fill(0.0);
    let smooth: Vec<f32> = noise(62, n).iter().map(|s| s.abs() + 0.5).collect();
    let from = Dev::floats(DType::F16, &[4, 32], &x);
    let factors = Dev::floats(DType::F16, &[32], &smooth);
    for smoothed in [false, true] {
        let given = if smoothed { factors.handle.cast_const() } else { null() };
        let (out, scale) = (Dev::empty(DType::I8, &[4, 32]), Dev::empty(DType::F32, &[4]));
        let status =
            call!(aclnnDynamicQuant, aclnnDynamicQuantGetWorkspaceSize(from.handle, given, out.handle, scale.handle));
        assert_eq!(status, 0, "{}", aio_ascend_sim::task::last_message());
        let smooth = factors.read();
        for r in 0..rows {
            let row: Vec<f64> =
                (0..n).map(|k| f64::from(x[r * n + k]) * if smoothed { f64::from(smooth[k]) } else { 1.0 }).collect();
            check_row(&row, &out.read()[r * n..][..n], scale.read()[r], "dynamic");
        }
    }
}

#[test]
fn quantisation_by_given_scales_rounds_as_asked_and_saturates() {
    let x = [0.5f32, 1.5, 2.5, -0.5, -1.25, 100.0, -100.0, 0.75];
    let from = Dev::floats(DType::F32, &[2, 4], &x);
    let (scale, offset) = (Dev::floats(DType::F32, &[1], &[2.0]), Dev::floats(DType::F32, &[4], &[0.0, 0.5, 0.0, 1.0]));
    let run = |mode: &str, root: u8, shift: *const c_void, dtype: DType| {
        let out = Dev::empty(dtype, &[2, 4]);
        let mode = CString::new(mode).unwrap();
        let status = call!(
            aclnnAscendQuant,
            aclnnAscendQuantGetWorkspaceSize(
                from.handle,
                scale.handle,
                shift,
                root,
                mode.as_ptr(),
                dtype.acl(),
                out.handle
            )
        );
        (status, if status == 0 && dtype == DType::I8 { out.read() } else { nibbles(&out) })
    };
    for (mode, f) in [
        ("round", f64::round_ties_even as fn(f64) -> f64),
        ("floor", f64::floor),
        ("ceil", f64::ceil),
        ("trunc", f64::trunc),
    ] {
        for root in [0u8, 1] {
            let by = if root == 1 { 4.0 } else { 2.0 };
            let want = |shift: [f64; 4], top: f64| {
                (0..8).map(|e| f(f64::from(x[e]) * by + shift[e % 4]).clamp(-top - 1.0, top) as f32).collect::<Vec<_>>()
            };
            assert_eq!(run(mode, root, null(), DType::I8), (0, want([0.0; 4], 127.0)), "{mode}");
            assert_eq!(run(mode, root, offset.handle, DType::I8), (0, want([0.0, 0.5, 0.0, 1.0], 127.0)), "{mode}");
            assert_eq!(run(mode, root, null(), DType::I4), (0, want([0.0; 4], 7.0)), "{mode} to int4");
        }
    }
    assert_eq!(run("nearest", 0, null(), DType::I8).0, 161_002);
}

/// The first eight int4 numbers of a buffer.
fn nibbles(of: &Dev) -> Vec<f32> {
    let sign = |n: u8| f32::from((n << 4) as i8 >> 4);
    of.bytes()[..4].iter().flat_map(|b| [sign(b & 15), sign(b >> 4)]).collect()
}

#[test]
fn packed_scales_serve_the_quantised_product() {
    let (m, k, n) = (2usize, 16usize, 4usize);
    let a: Vec<i8> = (0..m * k).map(|i| (i as i8).wrapping_mul(37)).collect();
    let b: Vec<i8> = (0..k * n).map(|i| (i as i8).wrapping_mul(91)).collect();
    let (x1, x2) = (Dev::ints(DType::I8, &[2, 16], &a), Dev::ints(DType::I8, &[16, 4], &b));
    // Values that 10 bits of mantissa hold, since a packed scale keeps no more.
    let scales = [0.5f32, 0.0078125, 1.25, 0.001953125];
    let floats = Dev::floats(DType::F32, &[4], &scales);
    let words = Dev::empty(DType::U64, &[4]);
    let status =
        call!(aclnnTransQuantParamV2, aclnnTransQuantParamV2GetWorkspaceSize(floats.handle, null(), words.handle));
    assert_eq!(status, 0);
    let bias: Vec<i32> = vec![10, -20, 30, -40];
    let shift = Dev::ints(DType::I32, &[4], &bias);
    let (from_words, from_floats) = (Dev::empty(DType::F16, &[2, 4]), Dev::empty(DType::F16, &[2, 4]));
    for (scale, out) in [(&words, &from_words), (&floats, &from_floats)] {
        let status = call!(
            aclnnQuantMatmulV3,
            aclnnQuantMatmulV3GetWorkspaceSize(
                x1.handle,
                x2.handle,
                scale.handle,
                null(),
                shift.handle,
                0,
                0,
                out.handle
            )
        );
        assert_eq!(status, 0, "{}", aio_ascend_sim::task::last_message());
    }
    assert_eq!(from_words.read(), from_floats.read());
    let floats = |v: &[i8]| v.iter().map(|&x| f32::from(x)).collect::<Vec<_>>();
    let sums = product(&floats(&a), &floats(&b), m, k, n);
    let want: Vec<f64> =
        sums.iter().enumerate().map(|(e, s)| (s + f64::from(bias[e % n])) * f64::from(scales[e % n])).collect();
    close(&from_words.read(), &want, 6e-4, "product");
}

#[test]
fn both_sides_of_a_quantised_product_may_be_transposed() {
    let (m, k, n) = (3usize, 20usize, 6usize);
    let a: Vec<i8> = (0..m * k).map(|i| (i * 29 % 251) as i8).collect();
    let b: Vec<i8> = (0..k * n).map(|i| (i * 53 % 249) as i8).collect();
    let turn = |v: &[i8], rows: usize, cols: usize| {
        (0..rows * cols).map(|e| v[e % rows * cols + e / rows]).collect::<Vec<_>>()
    };
    let floats = |v: &[i8]| v.iter().map(|&x| f32::from(x)).collect::<Vec<_>>();
    let want: Vec<f64> = product(&floats(&a), &floats(&b), m, k, n).iter().map(|s| s * 0.25).collect();
    let scale = Dev::floats(DType::F32, &[1], &[0.25]);
    for (t1, t2) in [(0u8, 0u8), (0, 1), (1, 0), (1, 1)] {
        let (da, db) = ([m as i64, k as i64], [k as i64, n as i64]);
        let swap = |d: [i64; 2], t: u8| if t == 1 { [d[1], d[0]] } else { d };
        let x1 = Dev::ints(DType::I8, &swap(da, t1), &if t1 == 1 { turn(&a, m, k) } else { a.clone() });
        let x2 = Dev::ints(DType::I8, &swap(db, t2), &if t2 == 1 { turn(&b, k, n) } else { b.clone() });
        let out = Dev::empty(DType::Bf16, &[m as i64, n as i64]);
        let status = call!(
            aclnnQuantMatmulV5,
            aclnnQuantMatmulV5GetWorkspaceSize(
                x1.handle,
                x2.handle,
                null(),
                scale.handle,
                null(),
                null(),
                null(),
                null(),
                null(),
                t1,
                t2,
                0,
                out.handle
            )
        );
        assert_eq!(status, 0, "{}", aio_ascend_sim::task::last_message());
        close(&out.read(), &want, 4e-3, &format!("transposed {t1} {t2}"));
    }
}

#[test]
fn a_quantised_product_can_give_int8() {
    let (a, b) = ([[100i8; 8], [-3; 8]].concat(), [1i8, 2, 3, 4].repeat(4));
    let (x1, x2) = (Dev::ints(DType::I8, &[2, 8], &a), Dev::ints(DType::I8, &[8, 2], &b));
    let (scale, offset) = (Dev::floats(DType::F32, &[2], &[0.05, 0.5]), Dev::floats(DType::F32, &[1], &[3.0]));
    let out = Dev::empty(DType::I8, &[2, 2]);
    let status = call!(
        aclnnQuantMatmulV3,
        aclnnQuantMatmulV3GetWorkspaceSize(x1.handle, x2.handle, scale.handle, offset.handle, null(), 0, 0, out.handle)
    );
    assert_eq!(status, 0, "{}", aio_ascend_sim::task::last_message());
    // Columns sum to 16 and 24: 1600 and 2400 in the first row, -48 and -72 in the second.
    let want = [1600.0 * 0.05 + 3.0, 127.0, f64::round_ties_even(-48.0 * 0.05 + 3.0), -72.0 * 0.5 + 3.0];
    assert_eq!(out.read(), want.map(|x: f64| x as f32));
}

#[test]
fn swiglu_is_quantised_by_its_rows_and_either_half_may_be_the_gate() {
    let x = noise(63, 3 * 20);
    let from = Dev::floats(DType::F16, &[3, 20], &x);
    let dynamic = CString::new("dynamic").unwrap();
    for left in [1u8, 0] {
        let (out, scale) = (Dev::empty(DType::I8, &[3, 10]), Dev::empty(DType::F32, &[3]));
        let status = call!(
            aclnnSwiGluQuant,
            aclnnSwiGluQuantGetWorkspaceSize(
                from.handle,
                null(),
                null(),
                null(),
                left,
                dynamic.as_ptr(),
                out.handle,
                scale.handle
            )
        );
        assert_eq!(status, 0, "{}", aio_ascend_sim::task::last_message());
        for r in 0..3 {
            let (a, b) = x[r * 20..][..20].split_at(10);
            let (gate, up) = if left == 1 { (a, b) } else { (b, a) };
            let row: Vec<f64> = gate
                .iter()
                .zip(up)
                .map(|(g, u)| f64::from(*g) / (1.0 + (-f64::from(*g)).exp()) * f64::from(*u))
                .collect();
            check_row(&row, &out.read()[r * 10..][..10], scale.read()[r], "swiglu");
        }
    }
}

/// Sum and normalised rows of the forms with a residual, in f64 from the sum as fp16 holds it.
fn normed(sum: &[f32], gamma: &[f32]) -> Vec<f64> {
    let n = gamma.len();
    let row = |row: &[f32]| {
        let mean = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / n as f64;
        (0..n).map(|k| f64::from(row[k]) / (mean + 1e-5).sqrt() * f64::from(gamma[k])).collect::<Vec<_>>()
    };
    sum.chunks(n).flat_map(row).collect()
}

#[test]
fn a_residual_norm_gives_its_result_in_two_types() {
    let (a, b, gamma) = (noise(64, 48), noise(65, 48), noise(66, 24));
    let (x1, x2) = (Dev::floats(DType::F16, &[2, 24], &a), Dev::floats(DType::F16, &[2, 24], &b));
    let g = Dev::floats(DType::F16, &[24], &gamma);
    let (y1, y2) = (Dev::empty(DType::F32, &[2, 24]), Dev::empty(DType::F16, &[2, 24]));
    let (rstd, sum) = (Dev::empty(DType::F32, &[2, 1]), Dev::empty(DType::F16, &[2, 24]));
    let status = call!(
        aclnnAddRmsNormCast,
        aclnnAddRmsNormCastGetWorkspaceSize(
            x1.handle,
            x2.handle,
            g.handle,
            1e-5,
            y1.handle,
            y2.handle,
            rstd.handle,
            sum.handle
        )
    );
    assert_eq!(status, 0, "{}", aio_ascend_sim::task::last_message());
    let want = normed(&sum.read(), &gamma);
    close(&y2.read(), &want, 6e-4, "fp16");
    assert_eq!(y1.read(), y2.read(), "the first result is the second, widened to fp32");
}

#[test]
fn a_residual_norm_is_quantised_by_given_scales() {
    let (a, b, gamma) = (noise(67, 48), noise(68, 48), noise(69, 24));
    let (x1, x2) = (Dev::floats(DType::F16, &[2, 24], &a), Dev::floats(DType::F16, &[2, 24], &b));
    let g = Dev::floats(DType::F16, &[24], &gamma);
    let scales = Dev::floats(DType::F32, &[24], &[0.03125; 24]);
    let second = Dev::floats(DType::F32, &[24], &[0.0625; 24]);
    let zero = Dev::ints(DType::I32, &[24], &[5i32; 24]);
    for divide in [1u8, 0] {
        let (y1, y2) = (Dev::empty(DType::I8, &[2, 24]), Dev::empty(DType::I8, &[2, 24]));
        let sum = Dev::empty(DType::F16, &[2, 24]);
        let status = call!(
            aclnnAddRmsNormQuant,
            aclnnAddRmsNormQuantGetWorkspaceSize(
                x1.handle,
                x2.handle,
                g.handle,
                scales.handle,
                second.handle,
                zero.handle,
                null(),
                -1,
                1e-5,
                divide,
                y1.handle,
                y2.handle,
                sum.handle
            )
        );
        assert_eq!(status, 0, "{}", aio_ascend_sim::task::last_message());
        let norm = normed(&sum.read(), &gamma);
        for (out, scale, zero) in [(&y1, 0.03125, 5.0), (&y2, 0.0625, 0.0)] {
            for (got, x) in out.read().iter().zip(&norm) {
                let exact = (if divide == 1 { x / scale } else { x * scale } + zero).clamp(-128.0, 127.0);
                assert!((f64::from(*got) - exact).abs() <= 0.5 + 1e-2, "{got} for {exact}");
            }
        }
    }
}

#[test]
fn a_residual_norm_is_quantised_by_its_rows() {
    let (a, b, gamma) = (noise(70, 48), noise(71, 48), noise(72, 24));
    let smooth: Vec<f32> = noise(73, 24).iter().map(|s| s.abs() + 0.5).collect();
    let (x1, x2) = (Dev::floats(DType::F16, &[2, 24], &a), Dev::floats(DType::F16, &[2, 24], &b));
    let (g, factors) = (Dev::floats(DType::F16, &[24], &gamma), Dev::floats(DType::F16, &[24], &smooth));
    let (y, sum, scale) =
        (Dev::empty(DType::I8, &[2, 24]), Dev::empty(DType::F16, &[2, 24]), Dev::empty(DType::F32, &[2]));
    let status = call!(
        aclnnAddRmsNormDynamicQuant,
        aclnnAddRmsNormDynamicQuantGetWorkspaceSize(
            x1.handle,
            x2.handle,
            g.handle,
            factors.handle,
            null(),
            1e-5,
            y.handle,
            null(),
            sum.handle,
            scale.handle,
            null()
        )
    );
    assert_eq!(status, 0, "{}", aio_ascend_sim::task::last_message());
    let (norm, smooth) = (normed(&sum.read(), &gamma), factors.read());
    for r in 0..2 {
        let row: Vec<f64> = (0..24).map(|k| norm[r * 24 + k] * f64::from(smooth[k])).collect();
        check_row(&row, &y.read()[r * 24..][..24], scale.read()[r], "residual norm");
    }
}

/// The unit of the size helper, by the two examples of its documentation: padded dimensions multiplied, so elements.
#[test]
fn the_size_of_a_tiled_weight_counts_elements() {
    let size = |shape: &[i64], dtype: DType| {
        let mut size = 0;
        // SAFETY: a live handle and result.
        let status = unsafe {
            aio_ascend_sim::nn::symbols::aclnnCalculateMatmulWeightSizeV2(ints(shape), dtype.acl(), &mut size)
        };
        (status, size)
    };
    assert_eq!(size(&[510, 510], DType::F16), (0, 512 * 512));
    assert_eq!(size(&[510, 510], DType::Bf16), (0, 512 * 512));
    assert_eq!(size(&[510, 270], DType::I8), (0, 512 * 288));
    assert_eq!(size(&[3, 17, 16], DType::F16), (0, 3 * 32 * 16));
    assert_eq!(size(&[16], DType::F16).0, 161_002);
    assert_eq!(size(&[0, 16], DType::F16).0, 161_002);
    assert_eq!(size(&[16, 16], DType::I64).0, 161_002);
}
