//! A table of fused attention's rules: lengths, heads, layouts, pages and masks, each with its code and message; then the
//! packed layouts and the log-sum-exp.
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

type Handle = *const c_void;

/// A call by shapes; a rule changes what it breaks. The tensors are zeros.
struct Shapes {
    layout: &'static str,
    query: Vec<i64>,
    cache: Vec<i64>,
    out: Option<Vec<i64>>,
    lens: Option<Vec<i64>>,
    lens_kv: Option<Vec<i64>>,
    table: Option<[i64; 2]>,
    mask: Option<Vec<i64>>,
    heads: i64,
    kv_heads: i64,
    sparse: i64,
    block: i64,
    dtype: DType,
    lse: Option<Vec<i64>>,
}

impl Shapes {
    /// Two sequences of one query row over 40 positions.
    fn decode() -> Self {
        Self {
            layout: "BNSD",
            query: vec![2, 4, 1, 16],
            cache: vec![2, 2, 40, 16],
            out: None,
            lens: None,
            lens_kv: None,
            table: None,
            mask: None,
            heads: 4,
            kv_heads: 2,
            sparse: 0,
            block: 0,
            dtype: DType::F16,
            lse: None,
        }
    }

    /// The same over pages of 128, two a sequence.
    fn paged() -> Self {
        let base = Self::decode();
        Self { cache: vec![5, 2, 128, 16], lens_kv: Some(vec![256]), table: Some([2, 2]), block: 128, ..base }
    }

    /// Two sequences of two and three rows, packed, over five and three positions.
    fn packed() -> Self {
        let base = Self::decode();
        let lens = (Some(vec![2, 5]), Some(vec![5, 8]));
        Self { layout: "TND", query: vec![5, 4, 16], cache: vec![8, 2, 16], lens: lens.0, lens_kv: lens.1, ..base }
    }

    fn call(self) -> i32 {
        self.run().0
    }

    fn run(self) -> (i32, Dev, Option<Dev>) {
        let query = Dev::empty(self.dtype, &self.query);
        let cache = Dev::empty(self.dtype, &self.cache);
        let out = Dev::empty(self.dtype, self.out.as_ref().unwrap_or(&self.query));
        let mask = self.mask.map(|dims| Dev::empty(DType::Bool, &dims));
        let table = self.table.map(|dims| Dev::empty(DType::I32, &dims));
        let lse = self.lse.map(|dims| Dev::empty(DType::F32, &dims));
        let one = || list(&[describe(cache.addr(), self.dtype, &self.cache, None, 2)]);
        let lens = |of: &Option<Vec<i64>>| of.as_ref().map_or(null(), |lens| ints(lens));
        let at = |of: &Option<Dev>| of.as_ref().map_or(null(), |dev| dev.handle as Handle);
        let (n, layout): (Handle, _) = (null(), CString::new(self.layout).unwrap());
        let status = call!(
            aclnnFusedInferAttentionScore,
            aclnnFusedInferAttentionScoreGetWorkspaceSize(
                query.handle,
                one(),
                one(),
                n,
                at(&mask),
                lens(&self.lens),
                lens(&self.lens_kv),
                n,
                n,
                n,
                n,
                n,
                n,
                n,
                at(&table),
                n,
                n,
                self.heads,
                1.0,
                i64::MAX,
                i64::MAX,
                layout.as_ptr(),
                self.kv_heads,
                self.sparse,
                0,
                self.block,
                0,
                u8::from(lse.is_some()),
                out.handle,
                at(&lse)
            )
        );
        (status, out, lse)
    }
}

type Rule = (&'static str, i32, &'static str, fn() -> i32);

fn check(rules: &[Rule]) {
    for (name, code, text, call) in rules {
        let status = call();
        assert_eq!(status, *code, "{name}: {}", last_message());
        assert!(status == 0 || last_message().contains(text), "{name}: {:?} lacks {text:?}", last_message());
    }
}

const HEADS_AND_LAYOUTS: &[Rule] = &[
    ("a plain call", 0, "", || Shapes::decode().call()),
    ("no KV heads means as many as query heads", 0, "", || {
        Shapes { kv_heads: 0, cache: vec![2, 4, 40, 16], ..Shapes::decode() }.call()
    }),
    ("heads that KV heads do not divide", 561_002, "positive multiple", || {
        Shapes { kv_heads: 3, cache: vec![2, 3, 40, 16], ..Shapes::decode() }.call()
    }),
    ("more than 64 heads for one KV head", 561_002, "at most 64 times", || {
        Shapes { heads: 65, kv_heads: 1, query: vec![2, 65, 1, 16], cache: vec![2, 1, 40, 16], ..Shapes::decode() }
            .call()
    }),
    ("64 heads for one KV head", 0, "", || {
        Shapes { heads: 64, kv_heads: 1, query: vec![2, 64, 1, 16], cache: vec![2, 1, 40, 16], ..Shapes::decode() }
            .call()
    }),
    ("a head size that is no multiple of 16", 561_002, "head size is 24", || {
        Shapes { query: vec![2, 4, 1, 24], cache: vec![2, 2, 40, 24], ..Shapes::decode() }.call()
    }),
    ("an unknown layout", 161_002, "\"NSD\"", || Shapes { layout: "NSD", ..Shapes::decode() }.call()),
    ("a query of another layout", 561_002, "dimensions", || Shapes { layout: "BSH", ..Shapes::decode() }.call()),
    ("keys with other heads than said", 561_002, "does not hold 2 heads", || {
        Shapes { cache: vec![2, 4, 40, 16], ..Shapes::decode() }.call()
    }),
    ("keys with other head sizes", 561_002, "key heads have size 32", || {
        Shapes { cache: vec![2, 2, 40, 32], ..Shapes::decode() }.call()
    }),
    ("a result that does not fit the query", 561_002, "does not fit query", || {
        Shapes { out: Some(vec![2, 4, 2, 16]), ..Shapes::decode() }.call()
    }),
    ("fp32", 161_002, "data type", || Shapes { dtype: DType::F32, ..Shapes::decode() }.call()),
    ("a log-sum-exp of another shape", 561_002, "softmaxLse", || {
        Shapes { lse: Some(vec![2, 4, 1]), ..Shapes::decode() }.call()
    }),
];

const LENGTHS: &[Rule] = &[
    ("a length for each sequence", 0, "", || Shapes { lens_kv: Some(vec![40, 7]), ..Shapes::decode() }.call()),
    ("one length for all", 0, "", || Shapes { lens_kv: Some(vec![40]), ..Shapes::decode() }.call()),
    ("fewer lengths than sequences", 561_002, "fewer than the batch size 3", || {
        let (query, cache) = (vec![3, 4, 1, 16], vec![3, 2, 40, 16]);
        Shapes { lens_kv: Some(vec![40, 7]), query, cache, ..Shapes::decode() }.call()
    }),
    ("a negative length", 561_002, "negative", || Shapes { lens_kv: Some(vec![-1]), ..Shapes::decode() }.call()),
    ("a length past the keys", 561_002, "more than the 40 positions", || {
        Shapes { lens_kv: Some(vec![41]), ..Shapes::decode() }.call()
    }),
    ("query lengths for several rows outside TND", 561_002, "needs the TND layout", || {
        Shapes { query: vec![2, 4, 3, 16], lens: Some(vec![3, 2]), ..Shapes::decode() }.call()
    }),
    ("TND", 0, "", || Shapes::packed().call()),
    ("TND without query lengths", 561_002, "needs actualSeqLengths", || {
        Shapes { lens: None, ..Shapes::packed() }.call()
    }),
    ("TND without KV lengths", 561_002, "actualSeqLengthsKv must be given", || {
        Shapes { lens_kv: None, ..Shapes::packed() }.call()
    }),
    (
        "TND whose query total is not T",
        561_002,
        "queryT(5) must be equal to the last element of actualSequenceLengthQ(4)",
        || Shapes { lens: Some(vec![2, 4]), ..Shapes::packed() }.call(),
    ),
    ("TND whose KV total is not the keys' T", 561_002, "keyT(8) must be equal", || {
        Shapes { lens_kv: Some(vec![5, 7]), ..Shapes::packed() }.call()
    }),
    ("TND whose totals fall", 561_002, "must not decrease", || {
        Shapes { lens: Some(vec![6, 5]), ..Shapes::packed() }.call()
    }),
    ("TND with another number of KV totals", 561_002, "1 elements for 2 sequences", || {
        Shapes { lens_kv: Some(vec![8]), ..Shapes::packed() }.call()
    }),
];

const PAGES: &[Rule] = &[
    ("pages", 0, "", || Shapes::paged().call()),
    ("pages without lengths", 561_002, "must be given with a block table", || {
        Shapes { lens_kv: None, ..Shapes::paged() }.call()
    }),
    ("a length past the table", 561_002, "more than the 256 positions", || {
        Shapes { lens_kv: Some(vec![257]), ..Shapes::paged() }.call()
    }),
    ("a table for other sequences", 561_002, "blockTable has shape", || {
        Shapes { table: Some([3, 2]), ..Shapes::paged() }.call()
    }),
    ("a single row over pages of 16", 0, "", || {
        Shapes { block: 16, cache: vec![5, 2, 16, 16], lens_kv: Some(vec![32]), ..Shapes::paged() }.call()
    }),
    ("a single row over pages of 24", 561_002, "multiple of 16", || {
        Shapes { block: 24, cache: vec![5, 2, 24, 16], lens_kv: Some(vec![48]), ..Shapes::paged() }.call()
    }),
    ("several rows over pages of 64", 561_002, "multiple of 128", || {
        let (query, cache) = (vec![2, 4, 3, 16], vec![5, 2, 64, 16]);
        Shapes { block: 64, query, cache, lens_kv: Some(vec![128]), ..Shapes::paged() }.call()
    }),
    ("several rows over pages of 640", 561_002, "128 to 512", || {
        let (query, cache) = (vec![2, 4, 3, 16], vec![5, 2, 640, 16]);
        Shapes { block: 640, query, cache, ..Shapes::paged() }.call()
    }),
    ("pages of another size than said", 561_002, "hold 128 positions", || {
        Shapes { block: 256, ..Shapes::paged() }.call()
    }),
    ("BSND reads pages with heads inside only", 561_002, "(blocks, block size, H) only", || {
        Shapes { layout: "BSND", query: vec![2, 1, 4, 16], ..Shapes::paged() }.call()
    }),
    ("BSND over such pages", 0, "", || {
        Shapes { layout: "BSND", query: vec![2, 1, 4, 16], cache: vec![5, 128, 32], ..Shapes::paged() }.call()
    }),
    ("TND over pages with heads outside, lengths for each", 0, "", || {
        let base = Shapes { lens: Some(vec![2, 5]), lens_kv: Some(vec![130, 256]), ..Shapes::paged() };
        Shapes { layout: "TND", query: vec![5, 4, 16], ..base }.call()
    }),
    ("a mask narrower than the table", 561_002, "does not cover", || {
        Shapes { mask: Some(vec![2, 1, 1, 255]), ..Shapes::paged() }.call()
    }),
    ("a mask as wide as the table", 0, "", || Shapes { mask: Some(vec![2, 1, 1, 256]), ..Shapes::paged() }.call()),
    ("TND with a mask of lengths", 561_002, "TND takes no attenMask in sparseMode 0", || {
        Shapes { mask: Some(vec![5, 8]), ..Shapes::packed() }.call()
    }),
    ("TND in mode 3 without the triangle", 561_002, "2048 x 2048", || Shapes { sparse: 3, ..Shapes::packed() }.call()),
    ("TND in mode 3 with it", 0, "", || Shapes { sparse: 3, mask: Some(vec![2048, 2048]), ..Shapes::packed() }.call()),
    ("TND in mode 2", 561_002, "sparseMode 0 or 3", || {
        Shapes { sparse: 2, mask: Some(vec![2048, 2048]), ..Shapes::packed() }.call()
    }),
];

#[test]
fn rules_of_heads_and_layouts() {
    check(HEADS_AND_LAYOUTS);
}

#[test]
fn rules_of_lengths() {
    check(LENGTHS);
}

#[test]
fn rules_of_pages_and_masks() {
    check(PAGES);
}

/// All scores are equal, so the log of their sum is the log of the length, whatever the layout.
#[test]
fn the_log_of_the_sum_counts_the_positions_seen() {
    let shapes = Shapes { lens_kv: Some(vec![40, 7]), lse: Some(vec![2, 4, 1, 1]), ..Shapes::decode() };
    let (status, _, lse) = shapes.run();
    assert_eq!(status, 0, "{}", last_message());
    let want: Vec<f64> = [40f64, 7.0].iter().flat_map(|n| [n.ln(); 4]).collect();
    close(&lse.unwrap().read(), &want, 1e-6, "decode");
    let (status, _, lse) = Shapes { lse: Some(vec![5, 4, 1]), ..Shapes::packed() }.run();
    assert_eq!(status, 0, "{}", last_message());
    let want: Vec<f64> = [5f64, 5.0, 3.0, 3.0, 3.0].iter().flat_map(|n| [n.ln(); 4]).collect();
    close(&lse.unwrap().read(), &want, 1e-6, "packed");
}

/// A page that the table does not have is found when the kernel runs, since ids are on the device.
#[test]
fn a_page_out_of_the_pool_fails_on_the_device() {
    let query = Dev::empty(DType::F16, &[1, 1, 1, 16]);
    let pool = Dev::empty(DType::F16, &[2, 1, 16, 16]);
    let table = Dev::ints(DType::I32, &[1, 1], &[2i32]);
    let one = || list(&[describe(pool.addr(), DType::F16, &[2, 1, 16, 16], None, 2)]);
    let (n, layout): (Handle, _) = (null(), CString::new("BNSD").unwrap());
    let (mut bytes, mut executor) = (0u64, std::ptr::null_mut());
    // SAFETY: live results; all handles come from the library.
    let status = unsafe {
        aio_ascend_sim::nn::symbols::aclnnIncreFlashAttentionV4GetWorkspaceSize(
            query.handle,
            one(),
            one(),
            n,
            n,
            ints(&[16]),
            n,
            n,
            n,
            n,
            n,
            n,
            n,
            table.handle,
            n,
            1,
            1.0,
            layout.as_ptr(),
            1,
            16,
            0,
            query.handle,
            &mut bytes,
            &mut executor,
        )
    };
    assert_eq!(status, 0, "{}", last_message());
    let plan = aio_ascend_sim::tensor::exec::take("aclnnIncreFlashAttentionV4", executor).unwrap();
    let space = Dev::empty(DType::U8, &[bytes as i64]);
    let fault = (plan.task(space.addr() as usize).run)().unwrap_err();
    assert_eq!(fault.code, 507_015);
    assert!(fault.message.contains("blockTable[0][0] is 2, the pool has 2 pages"), "{}", fault.message);
}
