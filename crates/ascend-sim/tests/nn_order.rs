//! The order of sums: by default a row's bits depend on the row alone; the mode that varies the order keeps less.
//!
//! The mode is one for the process, so the tests take turns.
#![allow(
    clippy::unwrap_used,
    clippy::macro_metavars_in_unsafe,
    reason = "a test's failure is its report; its macro calls C functions"
)]

mod nn_support;

use std::ffi::{CString, c_void};
use std::ptr::null;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aio_ascend_sim::nn::mode;
use aio_ascend_sim::rt::control::control;
use aio_ascend_sim::tensor::dtype::DType;
use nn_support::*;

static TURN: Mutex<()> = Mutex::new(());

/// Sets the mode through the control call, and back when dropped.
struct Varied(#[allow(dead_code, reason = "held for the turn")] MutexGuard<'static, ()>);

impl Varied {
    fn set(on: bool) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        control("vary_sums", if on { "1" } else { "0" }).unwrap();
        Self(turn)
    }
}

impl Drop for Varied {
    fn drop(&mut self) {
        mode::vary_sums(false);
    }
}

const K: usize = 300;
const N: usize = 48;

/// The first `m` rows of a product, in fp32.
fn rows(m: usize) -> Vec<f32> {
    let (x, w) = (noise(91, 8 * K), noise(92, K * N));
    let left = Dev::floats(DType::F16, &[m as i64, K as i64], &x[..m * K]);
    let right = Dev::floats(DType::F16, &[K as i64, N as i64], &w);
    let out = Dev::empty(DType::F32, &[m as i64, N as i64]);
    assert_eq!(call!(aclnnMm, aclnnMmGetWorkspaceSize(left.handle, right.handle, out.handle, 0)), 0);
    out.read()
}

/// One query over `visible` positions of a cache with room for `room`, the rest masked.
fn attended(visible: usize, room: usize) -> Vec<f32> {
    const D: usize = 32;
    let (q, k, v) = (noise(93, D), noise(94, 128 * D), noise(95, 128 * D));
    let dims = [1i64, 1, room as i64, D as i64];
    let query = Dev::floats(DType::F16, &[1, 1, 1, D as i64], &q);
    let cache = |x: &[f32]| {
        let mut x = x[..room * D].to_vec();
        x[visible * D..].fill(0.0);
        Dev::floats(DType::F16, &dims, &x)
    };
    let (key, value) = (cache(&k), cache(&v));
    let mask =
        Dev::ints(DType::Bool, &[1, 1, 1, room as i64], &(0..room).map(|p| i8::from(p >= visible)).collect::<Vec<_>>());
    let out = Dev::empty(DType::F16, &[1, 1, 1, D as i64]);
    let (n, layout): (*const c_void, _) = (null(), CString::new("BNSD").unwrap());
    let status = call!(
        aclnnPromptFlashAttentionV3,
        aclnnPromptFlashAttentionV3GetWorkspaceSize(
            query.handle,
            key.handle,
            value.handle,
            n,
            mask.handle,
            n,
            n,
            n,
            n,
            n,
            n,
            n,
            1,
            0.25,
            i64::MAX,
            i64::MAX,
            layout.as_ptr(),
            1,
            0,
            0,
            out.handle
        )
    );
    assert_eq!(status, 0, "{}", aio_ascend_sim::task::last_message());
    out.read()
}

#[test]
fn by_default_a_row_does_not_depend_on_the_rows_beside_it_nor_on_hidden_positions() {
    let _turn = Varied::set(false);
    let all = rows(8);
    for m in 1..8 {
        assert_eq!(rows(m), all[..m * N], "{m} rows");
    }
    for room in [40, 64, 100, 128] {
        assert_eq!(attended(37, room), attended(37, 37), "room for {room}");
    }
}

#[test]
fn with_varied_sums_a_call_still_repeats_to_the_bit() {
    let _turn = Varied::set(true);
    for m in [1, 2, 5, 8] {
        assert_eq!(rows(m), rows(m), "{m} rows");
    }
    assert_eq!(attended(37, 100), attended(37, 100));
}

#[test]
fn with_varied_sums_bits_depend_on_the_shape_and_values_stay_within_rounding() {
    let exact = product(&noise(91, 8 * K), &noise(92, K * N), 8, K, N);
    let _turn = Varied::set(true);
    let all = rows(8);
    close(&all, &exact, 2e-5, "8 rows");
    let mut differ = 0;
    for m in 1..8 {
        let some = rows(m);
        close(&some, &exact[..m * N], 2e-5, "fewer rows");
        differ += usize::from(some != all[..m * N]);
    }
    assert!(differ > 0, "some number of rows sums in another order");
    let rooms = [40, 64, 100, 128].map(|room| attended(37, room));
    let alone: Vec<f64> = attended(37, 37).iter().map(|x| f64::from(*x)).collect();
    rooms.iter().for_each(|room| close(room, &alone, 2e-3, "attention with room"));
}

#[test]
fn the_control_call_takes_switches_only() {
    let _turn = Varied::set(false);
    assert!(control("vary_sums", "yes").is_err());
    assert!(!mode::varies());
    control("vary_sums", "1").unwrap();
    assert!(mode::varies());
}
