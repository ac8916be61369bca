//! Matrix products against a plain f64 reference: layouts, element types, quantised weights.

mod nn_support;

use std::ptr::null;

use aio_ascend_sim::tensor::dtype::DType;
use nn_support::*;

const NZ: i32 = 29;

fn nz_of(weight: &Dev) -> i32 {
    call!(aclnnTransMatmulWeight, aclnnTransMatmulWeightGetWorkspaceSize(weight.handle))
}

#[test]
fn a_product_is_right_for_every_layout_of_the_weight() {
    let (m, k, n) = (3, 70, 37);
    let (x, w) = (noise(1, m * k), noise(2, k * n));
    let want = product(&x, &w, m, k, n);
    for dtype in [DType::F16, DType::Bf16, DType::F32] {
        let bound = if dtype == DType::Bf16 { 0.06 } else { 0.003 };
        let left = Dev::floats(dtype, &[m as i64, k as i64], &x);
        let dense = Dev::floats(dtype, &[k as i64, n as i64], &w);
        let turned = Dev::floats(dtype, &[n as i64, k as i64], &transposed(&w, k, n));
        let dims = [k as i64, n as i64];
        let strided = describe(turned.addr(), dtype, &dims, Some(&[1, k as i64]), 2);
        let check = |weight, what: &str| {
            let out = Dev::empty(dtype, &[m as i64, n as i64]);
            assert_eq!(call!(aclnnMm, aclnnMmGetWorkspaceSize(left.handle, weight, out.handle, 0)), 0);
            close(&out.read(), &want, bound, &format!("{dtype} {what}"));
        };
        check(dense.handle, "dense");
        check(strided, "transposed view");
        assert_eq!(nz_of(&dense), 0);
        assert_eq!(nz_of(&turned), 0);
        check(describe(dense.addr(), dtype, &dims, None, NZ), "NZ");
        check(describe(turned.addr(), dtype, &dims, Some(&[1, k as i64]), NZ), "NZ, transposed view");
    }
}

#[test]
fn a_stack_of_products_broadcasts() {
    let (x, w) = (noise(3, 2 * 3 * 16), noise(4, 16 * 5));
    let left = Dev::floats(DType::F16, &[2, 3, 16], &x);
    let right = Dev::floats(DType::F16, &[16, 5], &w);
    let out = Dev::empty(DType::F32, &[2, 3, 5]);
    assert_eq!(call!(aclnnMatmul, aclnnMatmulGetWorkspaceSize(left.handle, right.handle, out.handle, 1)), 0);
    close(&out.read(), &product(&x, &w, 6, 16, 5), 1e-5, "matmul");
}

#[test]
fn quantised_weights_are_restored_group_by_group() {
    let (m, k, n, group) = (2usize, 96usize, 24usize, 32usize);
    let x = noise(5, m * k);
    let scale: Vec<f32> = noise(6, k / group * n).iter().map(|s| s.abs() / 16.0 + 0.0625).collect();
    let offset: Vec<f32> = (0..k / group * n).map(|i| (i % 5) as f32 - 2.0).collect();
    let left = Dev::floats(DType::F16, &[m as i64, k as i64], &x);
    let dims = [(k / group) as i64, n as i64];
    let (scales, offsets) = (Dev::floats(DType::F16, &dims, &scale), Dev::floats(DType::F16, &dims, &offset));
    let scale = scales.read();
    let int4: Vec<i32> = (0..k * n).map(|i| (i * 7 % 16) as i32 - 8).collect();
    let restored: Vec<f32> = (0..k * n)
        .map(|e| {
            let g = e / n / group * n + e % n;
            (int4[e] as f32 + offset[g]) * scale[g]
        })
        .collect();
    let want = product(&x, &restored, m, k, n);
    let words = Dev::ints(DType::I32, &[k as i64, n as i64], &int4);
    let packed = Dev::empty(DType::I32, &[k as i64, n as i64 / 8]);
    let halves = Dev::empty(DType::I4, &[k as i64, n as i64]);
    for target in [&packed, &halves] {
        assert_eq!(
            call!(
                aclnnConvertWeightToINT4Pack,
                aclnnConvertWeightToINT4PackGetWorkspaceSize(words.handle, target.handle)
            ),
            0
        );
    }
    let bytes = Dev::ints(DType::I8, &[k as i64, n as i64], &int4.iter().map(|&x| x as i8).collect::<Vec<_>>());
    for weight in [&packed, &halves, &bytes] {
        let out = Dev::empty(DType::F16, &[m as i64, n as i64]);
        let status = call!(
            aclnnWeightQuantBatchMatmulV2,
            aclnnWeightQuantBatchMatmulV2GetWorkspaceSize(
                left.handle,
                weight.handle,
                scales.handle,
                offsets.handle,
                null(),
                null(),
                null(),
                group as i32,
                out.handle
            )
        );
        assert_eq!(status, 0, "{}", aio_ascend_sim::task::last_message());
        close(&out.read(), &want, 0.01, &format!("{} weight", weight.dtype));
    }
}

#[test]
fn an_int8_product_is_exact_before_its_scales() {
    let (m, k, n) = (3usize, 40usize, 18usize);
    let a: Vec<i8> = (0..m * k).map(|i| (i * 37 % 255) as i8).collect();
    let b: Vec<i8> = (0..k * n).map(|i| (i * 91 % 253) as i8).collect();
    let float = |v: &[i8]| v.iter().map(|&x| f32::from(x)).collect::<Vec<_>>();
    let sums = product(&float(&a), &float(&b), m, k, n);
    let (x1, x2) = (Dev::ints(DType::I8, &[3, 40], &a), Dev::ints(DType::I8, &[40, 18], &b));
    let columns: Vec<f32> = (0..n).map(|j| 0.001 * (j + 1) as f32).collect();
    let rows = [0.5f32, 1.0, 2.0];
    let (column, row) = (Dev::floats(DType::F32, &[18], &columns), Dev::floats(DType::F32, &[3], &rows));
    let raw = Dev::empty(DType::I32, &[3, 18]);
    let out = Dev::empty(DType::F16, &[3, 18]);
    for target in [&raw, &out] {
        assert_eq!(
            call!(
                aclnnQuantMatmulV4,
                aclnnQuantMatmulV4GetWorkspaceSize(
                    x1.handle,
                    x2.handle,
                    column.handle,
                    null(),
                    row.handle,
                    null(),
                    0,
                    0,
                    target.handle
                )
            ),
            0
        );
    }
    close(&raw.read(), &sums, 0.0, "int32");
    let scaled: Vec<f64> = sums.iter().enumerate().map(|(e, s)| s * f64::from(columns[e % n] * rows[e / n])).collect();
    close(&out.read(), &scaled, 0.001, "fp16");
}

#[test]
fn rows_are_independent_until_the_order_of_sums_is_varied() {
    // One test, since the mode is global: nothing else in this file compares bits.
    let (m, k, n) = (5usize, 300usize, 48usize);
    let (x, w) = (noise(7, m * k), noise(8, k * n));
    let right = Dev::floats(DType::F16, &[k as i64, n as i64], &w);
    let rows = |m: usize| {
        let left = Dev::floats(DType::F16, &[m as i64, k as i64], &x[..m * k]);
        let out = Dev::empty(DType::F32, &[m as i64, n as i64]);
        assert_eq!(call!(aclnnMm, aclnnMmGetWorkspaceSize(left.handle, right.handle, out.handle, 0)), 0);
        out.read()
    };
    assert_eq!(rows(1), rows(5)[..n]);
    aio_ascend_sim::nn::mode::vary_sums(true);
    let (one, five) = (rows(1), rows(5));
    aio_ascend_sim::nn::mode::vary_sums(false);
    assert_ne!(one, five[..n]);
    close(&one, &product(&x[..k], &w, 1, k, n), 1e-5, "varied order");
}

#[test]
fn what_does_not_fit_is_refused_with_a_message() {
    let left = Dev::floats(DType::F16, &[2, 16], &noise(1, 32));
    let right = Dev::floats(DType::F16, &[17, 4], &noise(1, 68));
    let out = Dev::empty(DType::F16, &[2, 4]);
    let status = call!(aclnnMm, aclnnMmGetWorkspaceSize(left.handle, right.handle, out.handle, 0));
    assert_eq!(status, 161_002);
    assert!(aio_ascend_sim::task::last_message().contains("inner sizes differ"));
    assert_eq!(call!(aclnnMm, aclnnMmGetWorkspaceSize(left.handle, null(), out.handle, 0)), 161_001);
    assert_eq!(aio_ascend_sim::nn::symbols::aclnnConvolutionGetWorkspaceSize(), 561_003);
    assert!(aio_ascend_sim::task::last_message().contains("aclnnConvolution"));
}
