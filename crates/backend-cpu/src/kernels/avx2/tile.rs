//! Tiles of block-format weights for AVX2.
//!
//! Products of unsigned codes below 64 sum exactly in 16 bits for some vectors, then in 32. Eight-bit
//! codes are multiplied as |w| * (x with w's sign), which cannot overflow since |x| <= 127. Called
//! by the matrix driver.

use super::codes::{BlockScales, codes, scales, signed, sums_in_16_bits};
use super::plain::plain_tiles;
use crate::activation::ActBlock;
use crate::format::{Format, FormatVisitor, with_format};
use crate::kernels::tile::{TileArgs, TileTable};
use aio_ir::DType;
use std::arch::x86_64::*;

/// Prefetch distance of weights in bytes.
const PREFETCH_BYTES: usize = 3072;

/// The tiles of a weight type; `None` if it holds no real numbers.
pub(in crate::kernels) fn tiles(dtype: DType) -> Option<TileTable> {
    plain_tiles(dtype).or_else(|| with_format(dtype, Tiles))
}

struct Tiles;

impl FormatVisitor for Tiles {
    type Out = TileTable;
    fn visit<F: Format>(self) -> TileTable {
        TileTable::new(&[tile::<F, 1>, tile::<F, 2>, tile::<F, 3>, tile::<F, 4>], None)
    }
}

/// Sums of four products a row, as 16-bit pairs.
///
/// # Safety
/// 4 bytes are readable at `x`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn products<F: Format>(w: __m256i, x: *const i32) -> __m256i {
    // SAFETY: guaranteed by the caller.
    let x = _mm256_set1_epi32(unsafe { x.read() });
    if signed::<F>() {
        return _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
    }
    _mm256_maddubs_epi16(w, x)
}

/// Vectors `from..from + N` of the block at `p` times `M` rows of activations, plus `start`.
///
/// # Safety
/// A block is readable at `p`; `x` points to `M` blocks.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dots<F: Format, const M: usize, const N: usize>(
    p: *const u8,
    half: usize,
    from: usize,
    x: *const ActBlock,
    start: [i32; M],
) -> [__m256i; M] {
    let ones = _mm256_set1_epi16(1);
    let mut sums = start.map(|s| _mm256_set1_epi32(s));
    let chunk = sums_in_16_bits::<F>();
    let mut pairs = [_mm256_setzero_si256(); M];
    for g in from..from + N {
        // SAFETY: the block has eight vectors, the activations have eight groups of four.
        unsafe {
            let w = codes::<F>(p, g, half);
            for (m, pair) in pairs.iter_mut().enumerate() {
                let q = (&raw const (*x.add(m)).q).cast::<i32>().add(g);
                *pair = _mm256_add_epi16(*pair, products::<F>(w, q));
            }
        }
        if (g - from) % chunk == chunk - 1 || g + 1 == from + N {
            for (sum, pair) in sums.iter_mut().zip(&mut pairs) {
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(*pair, ones));
                *pair = _mm256_setzero_si256();
            }
        }
    }
    sums
}

/// Adds a block's products for eight output rows to the sums of `M` activation rows.
///
/// # Safety
/// A block is readable at `p`; `x` points to `M` blocks.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn add_block<F: Format, const M: usize>(
    sums: &mut [__m256; M],
    p: *const u8,
    half: usize,
    scales: &BlockScales,
    x: *const ActBlock,
) {
    let start = |neg_sum: i32| if F::SHIFT == 0 || signed::<F>() { 0 } else { neg_sum << F::SHIFT };
    // SAFETY: there are `M` blocks at `x`.
    let x_at = |m: usize| unsafe { &*x.add(m) };
    if !F::SCALES.per_16() {
        let starts = std::array::from_fn(|m| start(x_at(m).neg_sum()));
        // SAFETY: guaranteed by the caller.
        let dots = unsafe { dots::<F, M, 8>(p, half, 0, x, starts) };
        for m in 0..M {
            let t = _mm256_mul_ps(_mm256_cvtepi32_ps(dots[m]), scales.d[0]);
            sums[m] = _mm256_fmadd_ps(t, _mm256_set1_ps(x_at(m).d), sums[m]);
            if F::SCALES.has_min() {
                sums[m] = _mm256_fmadd_ps(scales.m[0], _mm256_set1_ps(x_at(m).s), sums[m]);
            }
        }
        return;
    }
    for part in 0..2 {
        let neg_sums: [i32; M] = std::array::from_fn(|m| x_at(m).neg_sum_of(part));
        // SAFETY: guaranteed by the caller.
        let dots = unsafe { dots::<F, M, 4>(p, half, 4 * part, x, neg_sums.map(start)) };
        for m in 0..M {
            let mut t = _mm256_mul_ps(_mm256_cvtepi32_ps(dots[m]), scales.d[part]);
            if F::SCALES.has_min() {
                t = _mm256_fnmadd_ps(scales.m[part], _mm256_set1_ps(neg_sums[m] as f32), t);
            }
            sums[m] = _mm256_fmadd_ps(t, _mm256_set1_ps(x_at(m).d), sums[m]);
        }
    }
}

/// `M` activation rows by 16 output rows.
///
/// # Safety
/// See `TileFn`.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile<F: Format, const M: usize>(args: &TileArgs) {
    let mut sums = [[_mm256_setzero_ps(); M]; 2];
    let mut unit = args.weights;
    let mut x = args.acts.cast::<ActBlock>();
    for _ in 0..args.steps {
        for b in 0..F::SCALES.blocks() {
            let at = unit.wrapping_add(F::SCALES.bytes() + b * F::CODES.bytes());
            for line in 0..(F::UNIT_BYTES / F::SCALES.blocks()).div_ceil(64) {
                _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(PREFETCH_BYTES + 64 * line).cast());
            }
            for (half, sums) in sums.iter_mut().enumerate() {
                // SAFETY: the unit has a head and this many blocks; the tile has as many blocks in
                // `M` rows.
                unsafe {
                    let scales = scales::<F>(unit, b, half);
                    add_block::<F, M>(sums, at, half, &scales, x);
                }
            }
            x = x.wrapping_add(args.stride);
        }
        unit = unit.wrapping_add(F::UNIT_BYTES);
    }
    for (half, sums) in sums.into_iter().enumerate() {
        for (m, sum) in sums.into_iter().enumerate() {
            // SAFETY: the caller passes room for `M` rows.
            unsafe { _mm256_storeu_ps(args.out.add(m).cast::<f32>().add(8 * half), sum) };
        }
    }
}
