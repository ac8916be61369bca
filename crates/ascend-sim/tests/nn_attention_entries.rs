//! Every entry of fused attention against one f64 reference, and the forms of masks that the rules allow.
#![allow(
    clippy::unwrap_used,
    clippy::macro_metavars_in_unsafe,
    reason = "a test's failure is its report; its macro calls C functions"
)]

mod nn_support;

use std::ffi::{CString, c_void};
use std::ptr::null;

use aio_ascend_sim::task::last_message;
use aio_ascend_sim::tensor::dtype::DType;
use nn_support::*;

const D: usize = 16;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const BATCH: usize = 2;
const SCALE: f64 = 0.25;

type Handle = *const c_void;

/// A batch of queries, keys and values in the order batch, head, position, size.
struct Batch {
    rows: usize,
    len: usize,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    query: Dev,
    key: Dev,
    value: Dev,
}

impl Batch {
    fn new(rows: usize, len: usize) -> Self {
        let q = noise(81, BATCH * HEADS * rows * D);
        let [k, v] = [82, 83].map(|seed| noise(seed, BATCH * KV_HEADS * len * D));
        let dims = |heads: usize, n: usize| [BATCH as i64, heads as i64, n as i64, D as i64];
        let query = Dev::floats(DType::F16, &dims(HEADS, rows), &q);
        let [key, value] = [&k, &v].map(|x| Dev::floats(DType::F16, &dims(KV_HEADS, len), x));
        Self { rows, len, q, k, v, query, key, value }
    }

    fn out(&self) -> Dev {
        Dev::empty(DType::F16, &self.query.dims)
    }

    /// Keys as a list, which owns its tensor.
    fn keys(&self) -> Handle {
        list(&[describe(self.key.addr(), DType::F16, &self.key.dims, None, 2)])
    }

    fn values(&self) -> Handle {
        list(&[describe(self.value.addr(), DType::F16, &self.value.dims, None, 2)])
    }

    /// The result in f64; `shift` gives what is added to a score, or `None` where the position is not seen.
    fn reference(&self, shift: impl Fn(usize, usize, usize, usize) -> Option<f64>) -> Vec<f64> {
        let mut out = Vec::new();
        for (b, h) in (0..BATCH).flat_map(|b| (0..HEADS).map(move |h| (b, h))) {
            let kv = |cache: &[f32], p: usize, i: usize| {
                f64::from(cache[((b * KV_HEADS + h * KV_HEADS / HEADS) * self.len + p) * D + i])
            };
            for r in 0..self.rows {
                let q = &self.q[((b * HEADS + h) * self.rows + r) * D..][..D];
                let score = |p: usize| (0..D).map(|i| f64::from(q[i]) * kv(&self.k, p, i)).sum::<f64>() * SCALE;
                let seen: Vec<(usize, f64)> =
                    (0..self.len).filter_map(|p| Some((p, shift(b, h, r, p)? + score(p)))).collect();
                let top = seen.iter().fold(f64::MIN, |top, s| top.max(s.1));
                let total: f64 = seen.iter().map(|s| (s.1 - top).exp()).sum();
                let value = |i: usize| seen.iter().map(|s| (s.1 - top).exp() * kv(&self.v, s.0, i)).sum::<f64>();
                out.extend((0..D).map(|i| value(i) / total));
            }
        }
        out
    }
}

/// What varies between the calls.
struct Call {
    shift: Handle,
    mask: Handle,
    lens_kv: Handle,
    sparse: i64,
    before: i64,
    after: i64,
}

const PLAIN: Call = Call { shift: null(), mask: null(), lens_kv: null(), sparse: 0, before: i64::MAX, after: i64::MAX };

macro_rules! fused {
    ($op:ident, $first:ident, $x:expr, $c:expr, $out:expr, [$($middle:expr),*], [$($after:expr),*]) => {{
        let (x, c, n, layout) = ($x, $c, null(), CString::new("BNSD").unwrap());
        call!($op, $first(
            x.query.handle, x.keys(), x.values(), c.shift, c.mask, n as Handle, c.lens_kv, n, n, n, n, n, n, n, n, n, n,
            $($middle,)* HEADS as i64, SCALE, c.before, c.after, layout.as_ptr(), KV_HEADS as i64, c.sparse, 0, 0, 0, 0,
            $($after,)* $out.handle, n
        ))
    }};
}

type Version = fn(&Batch, &Call, &Dev) -> i32;

/// The four versions of the fused call.
const VERSIONS: [(&str, Version); 4] = [
    ("V1", |x, c, out| {
        fused!(aclnnFusedInferAttentionScore, aclnnFusedInferAttentionScoreGetWorkspaceSize, x, c, out, [], [])
    }),
    ("V2", |x, c, out| {
        fused!(
            aclnnFusedInferAttentionScoreV2,
            aclnnFusedInferAttentionScoreV2GetWorkspaceSize,
            x,
            c,
            out,
            [null(), null(), null(), null(), null(), null(), null()],
            [0, 0]
        )
    }),
    ("V3", |x, c, out| {
        fused!(
            aclnnFusedInferAttentionScoreV3,
            aclnnFusedInferAttentionScoreV3GetWorkspaceSize,
            x,
            c,
            out,
            [null(), null(), null(), null(), null(), null(), null(), null(), null(), null()],
            [0, 0]
        )
    }),
    ("V4", |x, c, out| {
        fused!(
            aclnnFusedInferAttentionScoreV4,
            aclnnFusedInferAttentionScoreV4GetWorkspaceSize,
            x,
            c,
            out,
            [null(), null(), null(), null(), null(), null(), null(), null(), null(), null(), null()],
            [0, 0, 0]
        )
    }),
];

/// Runs all versions, which must agree to the bit, and compares the result.
fn check(x: &Batch, call: &Call, want: &[f64], what: &str) {
    let mut first: Option<Vec<f32>> = None;
    for (name, run) in VERSIONS {
        let out = x.out();
        assert_eq!(run(x, call, &out), 0, "{what} {name}: {}", last_message());
        close(&out.read(), want, 2e-3, &format!("{what} {name}"));
        assert_eq!(*first.get_or_insert(out.read()), out.read(), "{what}: {name} and V1");
    }
}

fn mask_of(dims: &[i64], hidden: impl Fn(usize) -> bool) -> Dev {
    let n: i64 = dims.iter().product();
    Dev::ints(DType::Bool, dims, &(0..n as usize).map(|e| i8::from(hidden(e))).collect::<Vec<_>>())
}

#[test]
fn every_version_attends_to_all_positions_or_to_given_lengths() {
    for (rows, len) in [(1, 40), (3, 40)] {
        let x = Batch::new(rows, len);
        check(&x, &PLAIN, &x.reference(|_, _, _, _| Some(0.0)), "all");
        for lens in [vec![7, 40], vec![20]] {
            let call = Call { lens_kv: ints(&lens), ..PLAIN };
            let len = |b: usize| lens[b.min(lens.len() - 1)] as usize;
            check(&x, &call, &x.reference(|b, _, _, p| (p < len(b)).then_some(0.0)), "lengths");
        }
    }
}

#[test]
fn a_mask_may_have_any_of_the_allowed_shapes() {
    let (rows, len) = (3, 20);
    let x = Batch::new(rows, len);
    let hides = |b: usize, r: usize, p: usize| p != 0 && (p * 7 + r * 3 + b).is_multiple_of(5);
    let each = |b: usize, r: usize, p: usize| hides(b, r, p);
    let common = |_: usize, r: usize, p: usize| hides(0, r, p);
    let shapes: [(&[i64], bool); 4] =
        [(&[3, 20], false), (&[1, 3, 20], false), (&[2, 3, 20], true), (&[2, 1, 3, 20], true)];
    for (dims, own) in shapes {
        let f = |b, r, p| if own { each(b, r, p) } else { common(b, r, p) };
        let mask = mask_of(dims, |e| f(e / (rows * len), e / len % rows, e % len));
        let call = Call { mask: mask.handle, ..PLAIN };
        check(&x, &call, &x.reference(|b, _, r, p| (!f(b, r, p)).then_some(0.0)), &format!("mask {dims:?}"));
    }
    // Rows and positions may be padded: 3 rows in 16, 20 positions in 32.
    let padded =
        mask_of(&[2, 1, 16, 32], |e| e / 32 % 16 >= rows || e % 32 >= len || each(e / 512, e / 32 % 16, e % 32));
    let call = Call { mask: padded.handle, ..PLAIN };
    check(&x, &call, &x.reference(|b, _, r, p| (!each(b, r, p)).then_some(0.0)), "padded mask");
    // A single row: (batch, positions) and (batch, 1, 1, positions).
    let x = Batch::new(1, len);
    for dims in [&[2i64, 20][..], &[2, 1, 1, 20]] {
        let mask = mask_of(dims, |e| each(e / len, 0, e % len));
        let call = Call { mask: mask.handle, sparse: 3, ..PLAIN };
        let want = x.reference(|b, _, _, p| (!each(b, 0, p)).then_some(0.0));
        check(&x, &call, &want, "a single row ignores the sparse mode");
    }
}

#[test]
fn a_mask_of_a_wrong_shape_is_a_tiling_error() {
    let x = Batch::new(3, 20);
    for dims in [&[2i64, 20][..], &[3, 19], &[3, 1, 3, 20], &[2, 4, 3, 20], &[2, 1, 64, 20]] {
        let mask = mask_of(dims, |_| false);
        let out = x.out();
        let status = VERSIONS[2].1(&x, &Call { mask: mask.handle, ..PLAIN }, &out);
        assert_eq!(status, 561_002, "{dims:?}");
        assert!(last_message().contains("does not cover"), "{}", last_message());
    }
    let floats = Dev::empty(DType::F16, &[3, 20]);
    assert_eq!(VERSIONS[2].1(&x, &Call { mask: floats.handle, ..PLAIN }, &x.out()), 161_002, "a mask of floats");
}

#[test]
fn sparse_modes_make_causal_masks_and_bands_from_a_triangle() {
    let (rows, len) = (4, 20);
    let x = Batch::new(rows, len);
    let triangle = mask_of(&[2048, 2048], |e| e % 2048 > e / 2048);
    let call = |sparse, before, after| Call { mask: triangle.handle, sparse, before, after, ..PLAIN };
    check(&x, &call(2, 0, 0), &x.reference(|_, _, r, p| (p <= r).then_some(0.0)), "left-up causal");
    let end = len - rows;
    check(&x, &call(3, 0, 0), &x.reference(|_, _, r, p| (p <= r + end).then_some(0.0)), "right-down causal");
    let band = |r: usize, p: usize| p + 5 >= r + end && p <= r + end + 2;
    check(&x, &call(4, 5, 2), &x.reference(|_, _, r, p| band(r, p).then_some(0.0)), "band");
    let small = mask_of(&[4, 20], |_| false);
    let status = VERSIONS[2].1(&x, &Call { mask: small.handle, sparse: 3, ..PLAIN }, &x.out());
    assert_eq!(status, 561_002);
    assert!(last_message().contains("2048 x 2048"), "{}", last_message());
}

#[test]
fn a_shift_is_added_to_the_scores_and_may_hide_positions() {
    let (rows, len) = (2, 20);
    let x = Batch::new(rows, len);
    let values: Vec<f32> = noise(84, HEADS * rows * len)
        .iter()
        .enumerate()
        .map(|(e, s)| if e % 7 == 3 { f32::NEG_INFINITY } else { *s })
        .collect();
    let shift = Dev::floats(DType::F16, &[1, HEADS as i64, rows as i64, len as i64], &values);
    let call = Call { shift: shift.handle, ..PLAIN };
    let want = x.reference(|_, h, r, p| {
        let s = f64::from(values[(h * rows + r) * len + p]);
        s.is_finite().then_some(s)
    });
    check(&x, &call, &want, "shift");
}

#[test]
fn layouts_are_other_orders_of_the_same_numbers() {
    let (rows, len) = (3, 20);
    let x = Batch::new(rows, len);
    let want = x.out();
    assert_eq!(VERSIONS[2].1(&x, &PLAIN, &want), 0);
    let swap = |from: &[f32], heads: usize, n: usize| {
        let at = |e: usize| {
            let (b, s, h, i) = (e / (n * heads * D), e / (heads * D) % n, e / D % heads, e % D);
            from[((b * heads + h) * n + s) * D + i]
        };
        (0..from.len()).map(at).collect::<Vec<_>>()
    };
    let turned = swap(&want.read(), HEADS, rows);
    for layout in ["BSND", "BSH", "BNSD_BSND"] {
        let dims = |heads: usize, n: usize| match layout {
            "BSH" => vec![2, n as i64, (heads * D) as i64],
            _ => vec![2, n as i64, heads as i64, D as i64],
        };
        let same = layout == "BNSD_BSND";
        let query = if same {
            Dev::floats(DType::F16, &x.query.dims, &x.q)
        } else {
            Dev::floats(DType::F16, &dims(HEADS, rows), &swap(&x.q, HEADS, rows))
        };
        let cache = |of: &Dev, values: &[f32]| {
            if same {
                Dev::floats(DType::F16, &of.dims, values)
            } else {
                Dev::floats(DType::F16, &dims(KV_HEADS, len), &swap(values, KV_HEADS, len))
            }
        };
        let (key, value) = (cache(&x.key, &x.k), cache(&x.value, &x.v));
        let out = Dev::empty(DType::F16, &dims(HEADS, rows));
        let (n, name) = (null(), CString::new(layout).unwrap());
        let status = call!(
            aclnnPromptFlashAttentionV3,
            aclnnPromptFlashAttentionV3GetWorkspaceSize(
                query.handle,
                key.handle,
                value.handle,
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
                SCALE,
                i64::MAX,
                i64::MAX,
                name.as_ptr(),
                KV_HEADS as i64,
                0,
                0,
                out.handle
            )
        );
        assert_eq!(status, 0, "{layout}: {}", last_message());
        assert_eq!(out.read(), turned, "{layout}");
    }
}

#[test]
fn the_incremental_entries_equal_the_fused_one() {
    let x = Batch::new(1, 40);
    let want = x.out();
    let lens = || ints(&[9, 33]);
    assert_eq!(VERSIONS[2].1(&x, &Call { lens_kv: lens(), ..PLAIN }, &want), 0);
    close(&want.read(), &x.reference(|b, _, _, p| (p < [9, 33][b]).then_some(0.0)), 2e-3, "fused");
    let (n, layout) = (null(), CString::new("BNSD").unwrap());
    let out = x.out();
    let status = call!(
        aclnnIncreFlashAttention,
        aclnnIncreFlashAttentionGetWorkspaceSize(
            x.query.handle,
            x.keys(),
            x.values(),
            n,
            n,
            lens(),
            HEADS as i64,
            SCALE,
            layout.as_ptr(),
            KV_HEADS as i64,
            out.handle
        )
    );
    assert_eq!((status, out.read()), (0, want.read()), "{}", last_message());
    // The same numbers in pages of 16, three a sequence, in mixed order.
    let order = [[4usize, 1, 3], [5, 2, 6]];
    let pool = |from: &[f32]| {
        let mut pages = vec![0f32; 7 * KV_HEADS * 16 * D];
        for (b, h, p, i) in
            (0..from.len()).map(|e| (e / (KV_HEADS * 40 * D), e / (40 * D) % KV_HEADS, e / D % 40, e % D))
        {
            pages[((order[b][p / 16] * KV_HEADS + h) * 16 + p % 16) * D + i] =
                from[((b * KV_HEADS + h) * 40 + p) * D + i];
        }
        Dev::floats(DType::F16, &[7, KV_HEADS as i64, 16, D as i64], &pages)
    };
    let (keys, values) = (pool(&x.k), pool(&x.v));
    let table = Dev::ints(DType::I32, &[2, 3], &order.concat().iter().map(|&p| p as i32).collect::<Vec<_>>());
    let one = |of: &Dev| list(&[describe(of.addr(), DType::F16, &of.dims, None, 2)]);
    let out = x.out();
    let status = call!(
        aclnnIncreFlashAttentionV4,
        aclnnIncreFlashAttentionV4GetWorkspaceSize(
            x.query.handle,
            one(&keys),
            one(&values),
            n,
            n,
            lens(),
            n,
            n,
            n,
            n,
            n,
            n,
            n,
            table.handle,
            n,
            HEADS as i64,
            SCALE,
            layout.as_ptr(),
            KV_HEADS as i64,
            16,
            0,
            out.handle
        )
    );
    assert_eq!((status, out.read()), (0, want.read()), "{}", last_message());
}
