//! Tiles of plain weights: a fused multiply-add of 16 output rows per column and activation row.
//!
//! Even and odd columns are summed apart and joined at the end, in every tile alike. Called by the
//! matrix driver.

use crate::kernels::tile::{TileArgs, TileFn, TileTable};
use aio_ir::DType;
use half::{bf16, f16};
use std::arch::x86_64::*;

/// An element type that loads as 16 f32 lanes.
trait Plain: 'static {
    /// # Safety
    /// 16 elements are readable at `p`.
    unsafe fn load(p: *const Self) -> __m512;
}

impl Plain for f32 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
    unsafe fn load(p: *const f32) -> __m512 {
        // SAFETY: guaranteed by the caller.
        unsafe { _mm512_loadu_ps(p) }
    }
}

impl Plain for f16 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
    unsafe fn load(p: *const f16) -> __m512 {
        // SAFETY: guaranteed by the caller.
        _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(p.cast()) })
    }
}

impl Plain for bf16 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
    unsafe fn load(p: *const bf16) -> __m512 {
        // SAFETY: guaranteed by the caller.
        let v = _mm512_cvtepu16_epi32(unsafe { _mm256_loadu_si256(p.cast()) });
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(v))
    }
}

/// The tiles of a plain type; `None` for all others.
pub(super) fn plain_tiles(dtype: DType) -> Option<TileTable> {
    Some(match dtype {
        DType::F32 => table::<f32>(),
        DType::F16 => table::<f16>(),
        DType::BF16 => table::<bf16>(),
        _ => return None,
    })
}

fn table<T: Plain>() -> TileTable {
    let dense: [TileFn; 9] = [
        tile::<T, 1>,
        tile::<T, 2>,
        tile::<T, 3>,
        tile::<T, 4>,
        tile::<T, 5>,
        tile::<T, 6>,
        tile::<T, 7>,
        tile::<T, 8>,
        tile::<T, 9>,
    ];
    TileTable::new(&dense, None)
}

/// Columns whose weights are fetched ahead of use.
const PREFETCH_COLS: usize = 64;

/// `M` activation rows by 16 output rows.
///
/// # Safety
/// See `TileFn`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn tile<T: Plain, const M: usize>(args: &TileArgs) {
    let weights = args.weights.cast::<T>();
    let x = args.acts.cast::<f32>();
    let mut even = [_mm512_setzero_ps(); M];
    let mut odd = [_mm512_setzero_ps(); M];
    let mut k = 0;
    // SAFETY: the group has 16 elements for each of `steps` columns, the tile `M` rows of as many
    // floats, the output room for `M` rows; a prefetch of any address is harmless.
    unsafe {
        while k + 2 <= args.steps {
            let at = weights.add(16 * k);
            let (w0, w1) = (T::load(at), T::load(at.add(16)));
            _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(16 * PREFETCH_COLS).cast());
            if size_of::<T>() == 4 {
                _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(16 * PREFETCH_COLS + 16).cast());
            }
            for m in 0..M {
                let x = x.add(m * args.stride + k);
                even[m] = _mm512_fmadd_ps(w0, _mm512_set1_ps(*x), even[m]);
                odd[m] = _mm512_fmadd_ps(w1, _mm512_set1_ps(*x.add(1)), odd[m]);
            }
            k += 2;
        }
        for m in 0..M {
            if k < args.steps {
                let x = _mm512_set1_ps(*x.add(m * args.stride + k));
                even[m] = _mm512_fmadd_ps(T::load(weights.add(16 * k)), x, even[m]);
            }
            _mm512_storeu_ps(args.out.add(m).cast(), _mm512_add_ps(even[m], odd[m]));
        }
    }
}
