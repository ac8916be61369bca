//! Tiles of plain weights for AVX2: a fused multiply-add of 16 output rows per column.
//!
//! Even and odd columns are summed apart and joined at the end, in every tile alike. Called by the
//! matrix driver.

use crate::kernels::tile::{TileArgs, TileTable};
use aio_ir::DType;
use half::{bf16, f16};
use std::arch::x86_64::*;

/// An element type that loads as eight f32 lanes.
trait Plain: 'static {
    /// # Safety
    /// Eight elements are readable at `p`.
    unsafe fn load(p: *const Self) -> __m256;
}

impl Plain for f32 {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load(p: *const f32) -> __m256 {
        // SAFETY: guaranteed by the caller.
        unsafe { _mm256_loadu_ps(p) }
    }
}

impl Plain for f16 {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load(p: *const f16) -> __m256 {
        // SAFETY: guaranteed by the caller.
        _mm256_cvtph_ps(unsafe { _mm_loadu_si128(p.cast()) })
    }
}

impl Plain for bf16 {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load(p: *const bf16) -> __m256 {
        // SAFETY: guaranteed by the caller.
        let v = _mm256_cvtepu16_epi32(unsafe { _mm_loadu_si128(p.cast()) });
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(v))
    }
}

/// The tiles of a plain type; `None` for all others.
pub(super) fn plain_tiles(dtype: DType) -> Option<TileTable> {
    Some(match dtype {
        DType::F32 => TileTable::new(&[tile::<f32, 1>, tile::<f32, 2>], None),
        DType::F16 => TileTable::new(&[tile::<f16, 1>, tile::<f16, 2>], None),
        DType::BF16 => TileTable::new(&[tile::<bf16, 1>, tile::<bf16, 2>], None),
        _ => return None,
    })
}

/// Columns whose weights are fetched ahead of use.
const PREFETCH_COLS: usize = 64;

/// `M` activation rows by 16 output rows.
///
/// # Safety
/// See `TileFn`.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile<T: Plain, const M: usize>(args: &TileArgs) {
    let weights = args.weights.cast::<T>();
    let x = args.acts.cast::<f32>();
    // By parity of the column, then activation row, then half.
    let mut sums = [[[_mm256_setzero_ps(); 2]; M]; 2];
    for pair in 0..args.steps.div_ceil(2) {
        _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(32 * pair + 16 * PREFETCH_COLS).cast());
        for (parity, sums) in sums.iter_mut().enumerate() {
            let k = 2 * pair + parity;
            if k >= args.steps {
                break;
            }
            // SAFETY: the group has 16 elements for each of `steps` columns, the tile `M` rows of as
            // many floats.
            unsafe {
                let w = [T::load(weights.add(16 * k)), T::load(weights.add(16 * k + 8))];
                for (m, sums) in sums.iter_mut().enumerate() {
                    let x = _mm256_set1_ps(*x.add(m * args.stride + k));
                    *sums = [_mm256_fmadd_ps(w[0], x, sums[0]), _mm256_fmadd_ps(w[1], x, sums[1])];
                }
            }
        }
    }
    let [even, odd] = sums;
    for (m, (even, odd)) in even.into_iter().zip(odd).enumerate() {
        for half in 0..2 {
            let sum = _mm256_add_ps(even[half], odd[half]);
            // SAFETY: the caller passes room for `M` rows.
            unsafe { _mm256_storeu_ps(args.out.add(m).cast::<f32>().add(8 * half), sum) };
        }
    }
}
