//! Tiles of block-format weights: decode a block once, then eight dot products an activation row.
//!
//! Products stay exact in 32-bit integers over a block; blocks are added in f32, in order, so a
//! row's result is the same in every tile. Called by the matrix driver.

use super::codes::{BlockScales, codes, scales};
use super::plain::plain_tiles;
use crate::activation::ActBlock;
use crate::format::{Format, FormatVisitor, with_format};
use crate::kernels::tile::{TileArgs, TileFn, TileTable};
use aio_ir::DType;
use std::arch::x86_64::*;

/// How far ahead of use weights are fetched, bytes.
const PREFETCH_BYTES: usize = 3072;
/// Tiles with more rows compute long enough for the hardware to fetch alone.
const PREFETCH_ROWS: usize = 9;

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
        TileTable::new(&dense, None)
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

/// Adds a block's products to the sums of `M` activation rows; one scale for 32 columns.
///
/// # Safety
/// `x` points to `M` blocks.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn add_rows_32<F: Format, const M: usize>(
    sums: &mut [__m512; M],
    w: &[__m512i; 8],
    scales: &BlockScales,
    x: *const ActBlock,
) {
    // SAFETY: there are `M` blocks.
    let x_at = |m: usize| unsafe { &*x.add(m) };
    let starts = std::array::from_fn(|m| offset::<F>(x_at(m).neg_sum));
    // SAFETY: the caller's promise.
    let dots = unsafe { dots::<M, 8>(w, 0, x, starts) };
    for (m, (sum, dot)) in sums.iter_mut().zip(dots).enumerate() {
        let t = _mm512_mul_ps(_mm512_cvtepi32_ps(dot), _mm512_set1_ps(x_at(m).d));
        *sum = _mm512_fmadd_ps(t, scales.d[0], *sum);
        if F::SCALES.has_min() {
            *sum = _mm512_fmadd_ps(scales.m[0], _mm512_set1_ps(x_at(m).s), *sum);
        }
    }
}

/// Adds a block's products to the sums of `M` activation rows; one scale for 16 columns.
///
/// # Safety
/// `x` points to `M` blocks.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn add_rows_16<F: Format, const M: usize>(
    sums: &mut [__m512; M],
    w: &[__m512i; 8],
    scales: &BlockScales,
    x: *const ActBlock,
) {
    // SAFETY: there are `M` blocks.
    let x_at = |m: usize| unsafe { &*x.add(m) };
    let low: [i32; M] = std::array::from_fn(|m| x_at(m).neg_sum_low);
    let high: [i32; M] = std::array::from_fn(|m| x_at(m).neg_sum - x_at(m).neg_sum_low);
    // SAFETY: the caller's promise.
    let (first, second) =
        unsafe { (dots::<M, 4>(w, 0, x, low.map(offset::<F>)), dots::<M, 4>(w, 4, x, high.map(offset::<F>))) };
    for (m, sum) in sums.iter_mut().enumerate() {
        let t = _mm512_mul_ps(_mm512_cvtepi32_ps(first[m]), scales.d[0]);
        let mut t = _mm512_fmadd_ps(_mm512_cvtepi32_ps(second[m]), scales.d[1], t);
        if F::SCALES.has_min() {
            t = _mm512_fnmadd_ps(scales.m[0], _mm512_set1_ps(low[m] as f32), t);
            t = _mm512_fnmadd_ps(scales.m[1], _mm512_set1_ps(high[m] as f32), t);
        }
        *sum = _mm512_fmadd_ps(t, _mm512_set1_ps(x_at(m).d), *sum);
    }
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
    // SAFETY: the caller's promise.
    unsafe {
        if F::SCALES.per_16() {
            add_rows_16::<F, M>(sums, w, scales, x);
        } else {
            add_rows_32::<F, M>(sums, w, scales, x);
        }
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
