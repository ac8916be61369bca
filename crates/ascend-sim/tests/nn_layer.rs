//! The operators round the products of a decoder layer, and the contract of executors.
#![allow(
    clippy::unwrap_used,
    clippy::macro_metavars_in_unsafe,
    reason = "a test's failure is its report; its macro calls C functions"
)]

mod nn_support;

use std::ptr::{null, null_mut};

use aio_ascend_sim::nn::symbols;
use aio_ascend_sim::tensor::dtype::DType;
use aio_ascend_sim::tensor::exec::{aclDestroyAclOpExecutor, aclSetAclOpExecutorRepeatable, take};
use nn_support::*;

#[test]
fn add_rms_norm_writes_the_sum_and_normalises_it() {
    let (rows, n) = (3, 24);
    let (a, b, gamma) = (noise(1, rows * n), noise(2, rows * n), noise(3, n));
    let dims = [rows as i64, n as i64];
    let (x1, x2) = (Dev::floats(DType::F16, &dims, &a), Dev::floats(DType::F16, &dims, &b));
    let g = Dev::floats(DType::F16, &[n as i64], &gamma);
    let (y, sum) = (Dev::empty(DType::F16, &dims), Dev::empty(DType::F16, &dims));
    let rstd = Dev::empty(DType::F32, &[rows as i64, 1]);
    assert_eq!(
        call!(
            aclnnAddRmsNorm,
            aclnnAddRmsNormGetWorkspaceSize(x1.handle, x2.handle, g.handle, 1e-5, y.handle, rstd.handle, sum.handle)
        ),
        0,
        "{}",
        aio_ascend_sim::task::last_message()
    );
    let added = sum.read();
    close(&added, &a.iter().zip(&b).map(|(a, b)| f64::from(a + b)).collect::<Vec<_>>(), 0.001, "sum");
    let want: Vec<f64> = added
        .chunks(n)
        .flat_map(|row| {
            let mean = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / n as f64;
            row.iter()
                .zip(&gamma)
                .map(move |(x, g)| f64::from(*x) / (mean + 1e-5).sqrt() * f64::from(*g))
                .collect::<Vec<_>>()
        })
        .collect();
    close(&y.read(), &want, 0.001, "normalised");
}

#[test]
fn swiglu_gates_the_second_half() {
    let x = noise(4, 2 * 16);
    let (from, to) = (Dev::floats(DType::F16, &[2, 16], &x), Dev::empty(DType::F16, &[2, 8]));
    assert_eq!(call!(aclnnSwiGlu, aclnnSwiGluGetWorkspaceSize(from.handle, -1, to.handle)), 0);
    let silu = |x: f64| x / (1.0 + (-x).exp());
    let want: Vec<f64> = (0..16)
        .map(|e| {
            let at = e / 8 * 16 + e % 8;
            silu(f64::from(x[at])) * f64::from(x[at + 8])
        })
        .collect();
    close(&to.read(), &want, 0.001, "swiglu");
}

#[test]
fn rotary_turns_halves_or_neighbours() {
    let d = 8;
    let x = noise(5, 2 * 3 * d);
    let (cos, sin): (Vec<f32>, Vec<f32>) = (0..2 * d).map(|i| ((i as f32 * 0.3).cos(), (i as f32 * 0.3).sin())).unzip();
    let from = Dev::floats(DType::F32, &[1, 2, 3, d as i64], &x);
    let tables = [&cos, &sin].map(|t| Dev::floats(DType::F32, &[1, 2, 1, d as i64], t));
    for (mode, partner) in [(0, [4, 5, 6, 7, 0, 1, 2, 3]), (1, [1, 0, 3, 2, 5, 4, 7, 6])] {
        let out = Dev::empty(DType::F32, &[1, 2, 3, d as i64]);
        assert_eq!(
            call!(
                aclnnRotaryPositionEmbedding,
                aclnnRotaryPositionEmbeddingGetWorkspaceSize(
                    from.handle,
                    tables[0].handle,
                    tables[1].handle,
                    mode,
                    out.handle
                )
            ),
            0
        );
        let want: Vec<f64> = (0..x.len())
            .map(|e| {
                let (head, i, t) = (e / d * d, e % d, e / (3 * d) * d + e % d);
                let sign = if partner[i] > i { -1.0 } else { 1.0 };
                f64::from(x[e]) * f64::from(cos[t]) + sign * f64::from(x[head + partner[i]]) * f64::from(sin[t])
            })
            .collect();
        close(&out.read(), &want, 1e-6, "rotary");
    }
}

#[test]
fn rows_go_into_a_cache_and_come_out_of_a_table() {
    let cache = Dev::empty(DType::F16, &[6, 4]);
    let rows = Dev::floats(DType::F16, &[2, 4], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    let index = Dev::ints(DType::I64, &[2], &[4i64, 1]);
    assert_eq!(
        call!(aclnnInplaceIndexCopy, aclnnInplaceIndexCopyGetWorkspaceSize(cache.handle, 0, index.handle, rows.handle)),
        0
    );
    assert_eq!(cache.read()[16..20], [1.0, 2.0, 3.0, 4.0]);
    let picks = Dev::ints(DType::I32, &[3], &[1i32, 0, 4]);
    let out = Dev::empty(DType::F16, &[3, 4]);
    assert_eq!(call!(aclnnGatherV2, aclnnGatherV2GetWorkspaceSize(cache.handle, 0, picks.handle, out.handle)), 0);
    assert_eq!(out.read(), [5.0, 6.0, 7.0, 8.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0]);
}

#[test]
fn the_largest_logit_is_the_first_of_equals() {
    let logits = Dev::floats(DType::F16, &[2, 5], &[1.0, 7.0, 7.0, -1.0, 0.0, -3.0, -2.0, -5.0, -2.0, -9.0]);
    let out = Dev::empty(DType::I64, &[2]);
    assert_eq!(call!(aclnnArgMax, aclnnArgMaxGetWorkspaceSize(logits.handle, -1, 0, out.handle)), 0);
    assert_eq!(out.read(), [1.0, 1.0]);
}

#[test]
fn elements_move_as_shapes_say() {
    let x = Dev::floats(DType::F32, &[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    let turned = Dev::empty(DType::F32, &[3, 2]);
    assert_eq!(call!(aclnnPermute, aclnnPermuteGetWorkspaceSize(x.handle, ints(&[1, 0]), turned.handle)), 0);
    assert_eq!(turned.read(), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    let joined = Dev::empty(DType::F32, &[2, 6]);
    let second = describe(x.addr(), DType::F32, &[2, 3], None, 2);
    assert_eq!(call!(aclnnCat, aclnnCatGetWorkspaceSize(list(&[x.handle, second]), 1, joined.handle)), 0);
    assert_eq!(joined.read(), [0.0, 1.0, 2.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 3.0, 4.0, 5.0]);
    let doubled = Dev::empty(DType::F32, &[2, 6]);
    assert_eq!(
        call!(
            aclnnRepeatInterleaveIntWithDim,
            aclnnRepeatInterleaveIntWithDimGetWorkspaceSize(x_of(&turned, &joined), 2, 1, 6, doubled.handle)
        ),
        0
    );
    assert_eq!(doubled.read(), [0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0, 5.0, 5.0]);
}

/// The first three columns of each row of a (2, 6) tensor hold 0 to 5 again when read at the right columns.
fn x_of(_turned: &Dev, joined: &Dev) -> *mut std::ffi::c_void {
    describe(joined.addr(), DType::F32, &[2, 3], Some(&[6, 1]), 2)
}

#[test]
fn an_executor_serves_one_call_unless_repeatable() {
    let x = Dev::floats(DType::F32, &[4], &[1.0, -2.0, 3.0, -4.0]);
    let out = Dev::empty(DType::F32, &[4]);
    let first = || {
        let (mut bytes, mut executor) = (0, null_mut());
        // SAFETY: live results and handles.
        assert_eq!(unsafe { symbols::aclnnAbsGetWorkspaceSize(x.handle, out.handle, &mut bytes, &mut executor) }, 0);
        executor
    };
    let once = first();
    assert!(take("aclnnAbs", once).is_ok());
    assert_eq!(take("aclnnAbs", once).err().map(|e| e.code), Some(561_103));
    let again = first();
    assert_eq!(aclSetAclOpExecutorRepeatable(again), 0);
    assert!(take("aclnnAbs", again).is_ok() && take("aclnnAbs", again).is_ok());
    assert_eq!(take("aclnnNeg", again).err().map(|e| e.code), Some(161_002));
    assert_eq!(aclDestroyAclOpExecutor(again), 0);
    assert_eq!(aclDestroyAclOpExecutor(again), 561_103);
    assert_eq!(aclDestroyAclOpExecutor(null_mut()), 161_001);
}

#[test]
fn a_destroyed_tensor_is_refused() {
    let x = Dev::floats(DType::F32, &[4], &[0.0; 4]);
    assert_eq!(aio_ascend_sim::tensor::create::aclDestroyTensor(x.handle), 0);
    assert_eq!(aio_ascend_sim::tensor::create::aclDestroyTensor(x.handle), 161_002);
    assert_eq!(call!(aclnnInplaceZero, aclnnInplaceZeroGetWorkspaceSize(x.handle)), 161_002);
    let wrong = ints(&[1]);
    assert_eq!(call!(aclnnInplaceZero, aclnnInplaceZeroGetWorkspaceSize(wrong)), 161_002);
    let _ = (null::<u8>(), scalar(1.0));
}
