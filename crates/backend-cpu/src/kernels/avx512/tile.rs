//! Tiles of block-format weights: decode a block once, then eight dot products an activation row.
//!
//! One row goes group by group, which is a plain stream. More rows take two groups at a time, so that an activation
//! that is loaded once serves both.//!
//! Products stay exact in 32-bit integers over a block; blocks are added in f32, in order, so a
//! row's result is the same in every tile. Called by the matrix driver.

use super::codes::{BlockScales, codes, scales};
use super::plain::plain_tiles;
use crate::activation::ActBlock;
use crate::format::{Format, FormatVisitor, with_format};
use crate::kernels::tile::{PairArgs, PairRow, TileArgs, TileFn, TileTable};
use aio_ir::DType;
use std::arch::x86_64::*;

/// How far ahead of use weights are fetched, bytes.
const PREFETCH_BYTES: usize = 3072;
/// Tiles with more rows compute long enough for the hardware to fetch alone.
const PREFETCH_ROWS: usize = 9;
/// The same for pairs of groups; each block asks for the same block of the next pair.
const PREFETCH_PAIR_ROWS: usize = 24;

/// The tiles of a weight type; `None` if it holds no real numbers.
pub(in crate::kernels) fn tiles(dtype: DType) -> Option<TileTable> {
    plain_tiles(dtype).or_else(|| with_format(dtype, Tiles))
}

struct Tiles;

impl FormatVisitor for Tiles {
    type Out = TileTable;
    fn visit<F: Format>(self) -> TileTable {
        let dense: [TileFn; 9] = [
            tile::<F, 1, 0>,
            tile::<F, 2, 0>,
            tile::<F, 3, 0>,
            tile::<F, 4, 0>,
            tile::<F, 5, 0>,
            tile::<F, 6, 0>,
            tile::<F, 7, 0>,
            tile::<F, 4, 4>,
            tile::<F, 9, 0>,
        ];
        TileTable::new(&dense, None).with_pair(pair::<F>)
    }
}

/// Vectors `from..from + N` times the groups of `M` rows of activations, plus `start`. Row by row
/// inside a vector, so that neighbouring instructions do not wait for each other.
///
/// # Safety
/// `x` points to `M` blocks.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn dots<const M: usize, const N: usize>(
    w: &[__m512i; 8],
    from: usize,
    x: *const ActBlock,
    start: [i32; M],
) -> [__m512i; M] {
    let mut sums = [_mm512_setzero_si512(); M];
    for (sum, start) in sums.iter_mut().zip(start) {
        *sum = _mm512_set1_epi32(start);
    }
    for (g, w) in w[from..from + N].iter().enumerate() {
        for (m, sum) in sums.iter_mut().enumerate() {
            // SAFETY: there are `M` blocks of eight groups of four codes.
            let x = _mm512_set1_epi32(unsafe { (&raw const (*x.add(m)).q).cast::<i32>().add(from + g).read() });
            *sum = _mm512_dpbusd_epi32(*sum, *w, x);
        }
    }
    sums
}

/// What the sums of products start from, so that the codes' offset cancels out.
const fn offset<F: Format>(neg_sum: i32) -> i32 {
    if F::SHIFT == 0 { 0 } else { neg_sum << F::SHIFT }
}

/// What the codes' offset takes off an activation row's products: of all 32 columns, or of the first and second 16.
#[inline]
fn starts<F: Format>(x: &ActBlock) -> [i32; 2] {
    if F::SCALES.per_16() {
        [offset::<F>(x.neg_sum_low), offset::<F>(x.neg_sum - x.neg_sum_low)]
    } else {
        [offset::<F>(x.neg_sum), 0]
    }
}

/// Adds a block's products with one activation row to the sums of 16 output rows. Every tile goes through here, so
/// that all round alike. With one scale for 32 columns the second product is not looked at.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn scale_add<F: Format>(sum: __m512, dots: [__m512i; 2], scales: &BlockScales, x: &ActBlock) -> __m512 {
    if !F::SCALES.per_16() {
        let t = _mm512_mul_ps(_mm512_cvtepi32_ps(dots[0]), _mm512_set1_ps(x.d));
        let sum = _mm512_fmadd_ps(t, scales.d[0], sum);
        return if F::SCALES.has_min() { _mm512_fmadd_ps(scales.m[0], _mm512_set1_ps(x.s), sum) } else { sum };
    }
    let t = _mm512_mul_ps(_mm512_cvtepi32_ps(dots[0]), scales.d[0]);
    let mut t = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[1]), scales.d[1], t);
    if F::SCALES.has_min() {
        let low = _mm512_set1_ps(x.neg_sum_low as f32);
        let high = _mm512_set1_ps((x.neg_sum - x.neg_sum_low) as f32);
        t = _mm512_fnmadd_ps(scales.m[0], low, t);
        t = _mm512_fnmadd_ps(scales.m[1], high, t);
    }
    _mm512_fmadd_ps(t, _mm512_set1_ps(x.d), sum)
}

/// Adds a block's products to the sums of `M` activation rows.
///
/// # Safety
/// `x` points to `M` blocks.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn add_rows<F: Format, const M: usize>(
    sums: &mut [__m512; M],
    w: &[__m512i; 8],
    scales: &BlockScales,
    x: *const ActBlock,
) {
    // SAFETY: there are `M` blocks.
    let x_at = |m: usize| unsafe { &*x.add(m) };
    let starts: [[i32; 2]; M] = std::array::from_fn(|m| starts::<F>(x_at(m)));
    // SAFETY: the caller's promise.
    let (first, second) = unsafe {
        if F::SCALES.per_16() {
            (dots::<M, 4>(w, 0, x, starts.map(|s| s[0])), dots::<M, 4>(w, 4, x, starts.map(|s| s[1])))
        } else {
            (dots::<M, 8>(w, 0, x, starts.map(|s| s[0])), [_mm512_setzero_si512(); M])
        }
    };
    for (m, sum) in sums.iter_mut().enumerate() {
        *sum = scale_add::<F>(*sum, [first[m], second[m]], scales, x_at(m));
    }
}

/// # Safety
/// `out` has room for `M` rows.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn store<const M: usize>(sums: [__m512; M], out: *mut [f32; 16]) {
    for (m, sum) in sums.into_iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe { _mm512_storeu_ps(out.add(m).cast(), sum) };
    }
}

/// `A + B` activation rows by 16 output rows. Eight rows go in two parts: the compiler does not
/// unroll the loop over 8 by 8 products by itself.
///
/// # Safety
/// See `TileFn`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn tile<F: Format, const A: usize, const B: usize>(args: &TileArgs) {
    let mut first = [_mm512_setzero_ps(); A];
    let mut second = [_mm512_setzero_ps(); B];
    let mut unit = args.weights;
    let mut x = args.acts.cast::<ActBlock>();
    for _ in 0..args.steps {
        for b in 0..F::SCALES.blocks() {
            // SAFETY: the unit has a head and this many blocks; the tile has as many blocks in
            // `A + B` rows.
            unsafe {
                let at = unit.add(F::SCALES.bytes() + b * F::CODES.bytes());
                if A + B <= PREFETCH_ROWS {
                    prefetch::<F>(at);
                }
                let w = codes::<F>(at);
                let scales = scales::<F>(unit, b);
                add_rows::<F, A>(&mut first, &w, &scales, x);
                add_rows::<F, B>(&mut second, &w, &scales, x.wrapping_add(A));
                x = x.wrapping_add(args.stride);
            }
        }
        unit = unit.wrapping_add(F::UNIT_BYTES);
    }
    // SAFETY: the caller passes room for `A + B` rows.
    unsafe {
        store(first, args.out);
        store(second, args.out.wrapping_add(A));
    }
}

/// A block of two groups, decoded.
struct PairBlock {
    w: [[__m512i; 8]; 2],
    scales: [BlockScales; 2],
}

/// Adds a block's products to the sums, in memory, of `M` activation rows by two groups. Each activation is loaded once
/// for both: loads, not arithmetic, are what a tile of one group is short of.
///
/// # Safety
/// `x` points to `M` blocks, `sums` to `M` rows of both groups' sums.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn add_pair<F: Format, const M: usize>(block: &PairBlock, x: *const ActBlock, sums: *mut PairRow) {
    let [a, b] = &block.w;
    // SAFETY: there are `M` blocks.
    let x_at = |m: usize| unsafe { &*x.add(m) };
    let half = if F::SCALES.per_16() { 4 } else { 8 };
    let mut dots = [[[_mm512_setzero_si512(); 2]; 2]; M];
    for (m, dots) in dots.iter_mut().enumerate() {
        let start = starts::<F>(x_at(m)).map(|s| _mm512_set1_epi32(s));
        *dots = [start; 2];
    }
    for g in 0..8 {
        for (m, dots) in dots.iter_mut().enumerate() {
            // SAFETY: a block has eight groups of four codes.
            let x = _mm512_set1_epi32(unsafe { (&raw const (*x.add(m)).q).cast::<i32>().add(g).read() });
            dots[0][g / half] = _mm512_dpbusd_epi32(dots[0][g / half], a[g], x);
            dots[1][g / half] = _mm512_dpbusd_epi32(dots[1][g / half], b[g], x);
        }
    }
    for (m, dots) in dots.into_iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe {
            let at: *mut f32 = sums.add(m).cast();
            let first = scale_add::<F>(_mm512_loadu_ps(at), dots[0], &block.scales[0], x_at(m));
            let second = scale_add::<F>(_mm512_loadu_ps(at.add(16)), dots[1], &block.scales[1], x_at(m));
            _mm512_storeu_ps(at, first);
            _mm512_storeu_ps(at.add(16), second);
        }
    }
}

/// Any number of activation rows by two neighbouring groups of 16 output rows.
///
/// # Safety
/// See `PairFn`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn pair<F: Format>(args: &PairArgs) {
    let mut unit = args.weights;
    let mut x = args.acts.cast::<ActBlock>();
    for _ in 0..args.steps {
        for b in 0..F::SCALES.blocks() {
            // SAFETY: both units have a head and this many blocks; the tile has as many blocks of `rows` rows.
            unsafe {
                let other = unit.add(args.group_bytes);
                let [at, other_at] = [unit, other].map(|u| u.add(F::SCALES.bytes() + b * F::CODES.bytes()));
                if args.rows <= PREFETCH_PAIR_ROWS {
                    prefetch_far::<F>(at.wrapping_add(2 * args.group_bytes));
                    prefetch_far::<F>(other_at.wrapping_add(2 * args.group_bytes));
                }
                let block = PairBlock {
                    w: [codes::<F>(at), codes::<F>(other_at)],
                    scales: [scales::<F>(unit, b), scales::<F>(other, b)],
                };
                let mut row = 0;
                // Never one row alone after a part of four: two parts of fewer rows hide latencies better.
                while args.rows - row == 4 || args.rows - row > 5 {
                    add_pair::<F, 4>(&block, x.add(row), args.out.add(row));
                    row += 4;
                }
                if args.rows - row >= 3 {
                    add_pair::<F, 3>(&block, x.add(row), args.out.add(row));
                    row += 3;
                }
                match args.rows - row {
                    2 => add_pair::<F, 2>(&block, x.add(row), args.out.add(row)),
                    1 => add_pair::<F, 1>(&block, x.add(row), args.out.add(row)),
                    _ => {}
                }
                x = x.wrapping_add(args.stride);
            }
        }
        unit = unit.wrapping_add(F::UNIT_BYTES);
    }
}

/// Fetches a block's share of the stream, some way ahead.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn prefetch<F: Format>(at: *const u8) {
    let lines = (F::UNIT_BYTES / F::SCALES.blocks()).div_ceil(64);
    for line in 0..lines {
        let ahead = at.wrapping_add(PREFETCH_BYTES + 64 * line);
        _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
    }
}

/// Brings a block into the second-level cache: a whole pair of groups ahead is too much for the first.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn prefetch_far<F: Format>(at: *const u8) {
    let lines = (F::UNIT_BYTES / F::SCALES.blocks()).div_ceil(64);
    for line in 0..lines {
        _mm_prefetch::<_MM_HINT_T1>(at.wrapping_add(64 * line).cast());
    }
}
