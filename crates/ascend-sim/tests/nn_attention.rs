//! Fused attention against a plain f64 reference, and its rules of lengths, masks and pages.
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

const D: usize = 32;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const BLOCK: usize = 128;

/// What varies between the calls of these tests.
struct Case {
    query: *const c_void,
    keys: *const c_void,
    values: *const c_void,
    mask: *const c_void,
    lens_q: *const c_void,
    lens_kv: *const c_void,
    table: *const c_void,
    layout: &'static str,
    sparse: i64,
    inner: i64,
    out: *const c_void,
}

fn attend(c: &Case) -> i32 {
    let layout = CString::new(c.layout).expect("a layout without a zero byte");
    let n = null();
    call!(
        aclnnFusedInferAttentionScoreV3,
        aclnnFusedInferAttentionScoreV3GetWorkspaceSize(
            c.query,
            c.keys,
            c.values,
            n,
            c.mask,
            c.lens_q,
            c.lens_kv,
            n,
            n,
            n,
            n,
            n,
            n,
            n,
            c.table,
            n,
            n,
            n,
            n,
            n,
            n,
            n,
            n,
            n,
            n,
            n,
            n,
            HEADS as i64,
            0.25,
            i64::MAX,
            i64::MAX,
            layout.as_ptr(),
            KV_HEADS as i64,
            c.sparse,
            c.inner,
            BLOCK as i64,
            0,
            0,
            0,
            0,
            c.out,
            n
        )
    )
}

/// One row in f64: `len` positions of a (position, head, size) cache.
fn reference(q: &[f32], k: &[f32], v: &[f32], len: usize, head: usize) -> Vec<f64> {
    let kv = head / (HEADS / KV_HEADS);
    let at = |cache: &[f32], p: usize, i: usize| f64::from(cache[(p * KV_HEADS + kv) * D + i]);
    let scores: Vec<f64> =
        (0..len).map(|p| 0.25 * (0..D).map(|i| f64::from(q[i]) * at(k, p, i)).sum::<f64>()).collect();
    let top = scores.iter().copied().fold(f64::MIN, f64::max);
    let weights: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
    let total: f64 = weights.iter().sum();
    (0..D).map(|i| weights.iter().enumerate().map(|(p, w)| w * at(v, p, i)).sum::<f64>() / total).collect()
}

/// A cache as pages (blocks, head, position, size), the pages in the order of `ids`.
fn pages(cache: &[f32], len: usize, ids: &[usize], blocks: usize) -> Vec<f32> {
    let mut out = vec![0.0; blocks * KV_HEADS * BLOCK * D];
    for (p, h) in (0..len).flat_map(|p| (0..KV_HEADS).map(move |h| (p, h))) {
        let at = ((ids[p / BLOCK] * KV_HEADS + h) * BLOCK + p % BLOCK) * D;
        out[at..at + D].copy_from_slice(&cache[(p * KV_HEADS + h) * D..][..D]);
    }
    out
}

#[test]
fn a_bucket_with_a_mask_equals_the_exact_length_to_the_bit() {
    let (len, width) = (150, 3);
    let (q, k, v) = (noise(1, HEADS * D), noise(2, len * KV_HEADS * D), noise(3, len * KV_HEADS * D));
    let query = Dev::floats(DType::F16, &[1, HEADS as i64, 1, D as i64], &q);
    let dims = [4, KV_HEADS as i64, BLOCK as i64, D as i64];
    let pool = [&k, &v].map(|cache| Dev::floats(DType::F16, &dims, &pages(cache, len, &[2, 1], 4)));
    // Page 0 is zeroed and stands where the sequence has no page.
    let table = Dev::ints(DType::I32, &[1, width], &[2i32, 1, 0]);
    let mask: Vec<i8> = (0..width as usize * BLOCK).map(|p| i8::from(p >= len)).collect();
    let mask = Dev::ints(DType::Bool, &[1, 1, 1, width * BLOCK as i64], &mask);
    let run = |mask: *const c_void, lens: i64| {
        let out = Dev::empty(DType::F16, &[1, HEADS as i64, 1, D as i64]);
        let status = attend(&Case {
            query: query.handle,
            keys: list(&[describe(pool[0].addr(), DType::F16, &dims, None, 2)]),
            values: list(&[describe(pool[1].addr(), DType::F16, &dims, None, 2)]),
            mask,
            lens_q: null(),
            lens_kv: ints(&[lens]),
            table: table.handle,
            layout: "BNSD",
            sparse: 0,
            inner: 0,
            out: out.handle,
        });
        assert_eq!(status, 0, "{}", aio_ascend_sim::task::last_message());
        out.read()
    };
    let exact = run(null(), len as i64);
    let want: Vec<f64> = (0..HEADS).flat_map(|h| reference(&q[h * D..][..D], &k, &v, len, h)).collect();
    close(&exact, &want, 0.002, "exact length");
    assert_eq!(run(mask.handle, width * BLOCK as i64), exact);
}

#[test]
fn packed_sequences_are_causal_from_their_ends() {
    let (rows, lens) = ([2usize, 3], [5usize, 3]);
    let tokens: usize = lens.iter().sum();
    let (q, k, v) = (noise(4, 5 * HEADS * D), noise(5, tokens * KV_HEADS * D), noise(6, tokens * KV_HEADS * D));
    let kv_dims = [tokens as i64, KV_HEADS as i64, D as i64];
    let query = Dev::floats(DType::F16, &[5, HEADS as i64, D as i64], &q);
    let (keys, values) = (Dev::floats(DType::F16, &kv_dims, &k), Dev::floats(DType::F16, &kv_dims, &v));
    let triangle = Dev::ints(DType::Bool, &[2048, 2048], &vec![0i8; 2048 * 2048]);
    let case = |totals: &[i64], mask: *const c_void, sparse: i64, out: &Dev| Case {
        query: query.handle,
        keys: list(&[describe(keys.addr(), DType::F16, &kv_dims, None, 2)]),
        values: list(&[describe(values.addr(), DType::F16, &kv_dims, None, 2)]),
        mask,
        lens_q: ints(totals),
        lens_kv: ints(&[5, 8]),
        table: null(),
        layout: "TND",
        sparse,
        inner: 0,
        out: out.handle,
    };
    let out = Dev::empty(DType::F16, &[5, HEADS as i64, D as i64]);
    assert_eq!(attend(&case(&[2, 5], triangle.handle, 3, &out)), 0, "{}", aio_ascend_sim::task::last_message());
    let mut want = Vec::new();
    for (b, start) in [(0, 0), (1, 5)] {
        let cut = |cache: &[f32]| cache[start * KV_HEADS * D..].to_vec();
        for (i, h) in (0..rows[b]).flat_map(|i| (0..HEADS).map(move |h| (i, h))) {
            let row = &q[((b * 2 + i) * HEADS + h) * D..][..D];
            want.extend(reference(row, &cut(&k), &cut(&v), lens[b] - rows[b] + i + 1, h));
        }
    }
    close(&out.read(), &want, 0.002, "TND");
    assert_eq!(attend(&case(&[2, 4], triangle.handle, 3, &out)), 561_002);
    let message = aio_ascend_sim::task::last_message();
    assert!(message.contains("queryT(5) must be equal to the last element of actualSequenceLengthQ(4)"), "{message}");
    assert_eq!(attend(&case(&[2, 5], triangle.handle, 0, &out)), 561_002);
    assert_eq!(attend(&case(&[2, 5], null(), 3, &out)), 561_002);
}

#[test]
fn a_hidden_row_averages_unless_the_correction_is_on() {
    let len = 16;
    let (q, k, v) = (noise(7, HEADS * D), noise(8, len * KV_HEADS * D), noise(9, len * KV_HEADS * D));
    let dims = [1, len as i64, KV_HEADS as i64, D as i64];
    let query = Dev::floats(DType::F16, &[1, 1, HEADS as i64, D as i64], &q);
    let (keys, values) = (Dev::floats(DType::F16, &dims, &k), Dev::floats(DType::F16, &dims, &v));
    let mask = Dev::ints(DType::Bool, &[1, len as i64], &vec![1i8; len]);
    let run = |inner: i64| {
        let out = Dev::empty(DType::F16, &[1, 1, HEADS as i64, D as i64]);
        assert_eq!(
            attend(&Case {
                query: query.handle,
                keys: list(&[describe(keys.addr(), DType::F16, &dims, None, 2)]),
                values: list(&[describe(values.addr(), DType::F16, &dims, None, 2)]),
                mask: mask.handle,
                lens_q: null(),
                lens_kv: null(),
                table: null(),
                layout: "BSND",
                sparse: 0,
                inner,
                out: out.handle,
            }),
            0,
            "{}",
            aio_ascend_sim::task::last_message()
        );
        out.read()
    };
    assert!(run(2).iter().all(|&x| x == 0.0));
    let mean = (0..len).map(|p| f64::from(v[p * KV_HEADS * D])).sum::<f64>() / len as f64;
    close(&run(0)[..1], &[mean], 0.002, "average");
}

#[test]
fn rules_of_pages_are_tiling_errors() {
    let dims = [2, KV_HEADS as i64, BLOCK as i64, D as i64];
    let query = Dev::empty(DType::F16, &[1, HEADS as i64, 1, D as i64]);
    let wide = Dev::empty(DType::F16, &[1, 1, HEADS as i64, D as i64]);
    let pool = Dev::empty(DType::F16, &dims);
    let table = Dev::ints(DType::I32, &[1, 2], &[0i32, 1]);
    let short = Dev::ints(DType::Bool, &[1, 1, 1, 200], &[0i8; 200]);
    let list = || list(&[describe(pool.addr(), DType::F16, &dims, None, 2)]);
    let case = |layout, query: &Dev, lens: *const c_void, mask: *const c_void| {
        attend(&Case {
            query: query.handle,
            keys: list(),
            values: list(),
            mask,
            lens_q: null(),
            lens_kv: lens,
            table: table.handle,
            layout,
            sparse: 0,
            inner: 0,
            out: query.handle,
        })
    };
    assert_eq!(case("BNSD", &query, ints(&[256]), null()), 0);
    assert_eq!(case("BNSD", &query, null(), null()), 561_002, "lengths must be given");
    assert_eq!(case("BNSD", &query, ints(&[257]), null()), 561_002, "longer than the table");
    assert_eq!(case("BNSD", &query, ints(&[200]), short.handle), 561_002, "the mask must span the table");
    assert_eq!(case("BSND", &wide, ints(&[256]), null()), 561_002, "BSND reads other pages");
    assert_eq!(case("BNDS", &query, ints(&[256]), null()), 161_002, "no such layout");
}
