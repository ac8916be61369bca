//! Sixteen lanes as two ymm registers.
//!
//! Used inside functions that enable the same features, so that everything inlines.

use super::Lanes;
use half::f16;
use std::arch::x86_64::*;
use std::ops::Range;

/// Stores the lowest byte of each lane and returns the sum of these bytes, taken as signed.
///
/// # Safety
/// There is room for 16 bytes at `out`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn store_sixteen(out: *mut i8, v: V) -> i32 {
    let [low, high] = v.map(|v| _mm256_srai_epi32::<24>(_mm256_slli_epi32::<24>(_mm256_castps_si256(v))));
    let sum = _mm256_add_epi32(low, high);
    let sum = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
    let sum = _mm_add_epi32(sum, _mm_shuffle_epi32::<0b01_00_11_10>(sum));
    let sum = _mm_add_epi32(sum, _mm_shuffle_epi32::<0b10_11_00_01>(sum));
    // Packing works inside halves of 128 bits: the middle quarters change places.
    let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(low, high));
    let bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
    // SAFETY: guaranteed by the caller.
    unsafe { _mm_storeu_si128(out.cast(), bytes) };
    _mm_cvtsi128_si32(sum)
}

/// The AVX2 level.
pub(in crate::kernels) enum Avx2 {}

type V = [__m256; 2];

impl Lanes for Avx2 {
    type V = V;
    const PAIRS: usize = 2;
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn prefetch(p: *const u8) {
        _mm_prefetch::<_MM_HINT_T0>(p.cast());
    }
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn splat(x: f32) -> V {
        [_mm256_set1_ps(x); 2]
    }
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load(p: *const f32) -> V {
        // SAFETY: guaranteed by the caller.
        unsafe { [_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))] }
    }
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load_half(p: *const f16) -> V {
        // SAFETY: guaranteed by the caller.
        let halves = unsafe { [_mm_loadu_si128(p.cast()), _mm_loadu_si128(p.add(8).cast())] };
        [_mm256_cvtph_ps(halves[0]), _mm256_cvtph_ps(halves[1])]
    }
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn store(p: *mut f32, v: V) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            _mm256_storeu_ps(p, v[0]);
            _mm256_storeu_ps(p.add(8), v[1]);
        }
    }
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn add(a: V, b: V) -> V {
        [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])]
    }
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn sub(a: V, b: V) -> V {
        [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])]
    }
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn mul(a: V, b: V) -> V {
        [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])]
    }
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn div(a: V, b: V) -> V {
        [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])]
    }
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn max(a: V, b: V) -> V {
        [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])]
    }
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn fma(a: V, b: V, c: V) -> V {
        [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])]
    }
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn scale_exponent(v: V, t: V) -> V {
        [scale_half(v[0], t[0]), scale_half(v[1], t[1])]
    }
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn store_low_bytes(out: *mut i8, v: [V; 2]) -> [i32; 2] {
        // SAFETY: guaranteed by the caller.
        unsafe { [store_sixteen(out, v[0]), store_sixteen(out.add(16), v[1])] }
    }
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn keep(v: V, lanes: Range<usize>, other: f32) -> V {
        let index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        let before = _mm256_set1_epi32(lanes.start as i32 - 1);
        let end = _mm256_set1_epi32(lanes.end as i32);
        let half = |v: __m256, index: __m256i| {
            let inside = _mm256_and_si256(_mm256_cmpgt_epi32(index, before), _mm256_cmpgt_epi32(end, index));
            _mm256_blendv_ps(_mm256_set1_ps(other), v, _mm256_castsi256_ps(inside))
        };
        [half(v[0], index), half(v[1], _mm256_add_epi32(index, _mm256_set1_epi32(8)))]
    }
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn any_not_finite(v: V) -> bool {
        // Infinity minus itself is no number.
        let odd = v.map(|v| _mm256_sub_ps(v, v));
        _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_UNORD_Q>(odd[0], odd[1])) != 0
    }
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn sum(v: V) -> f32 {
        let v = _mm256_add_ps(v[0], v[1]);
        let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
        let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
        _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)))
    }
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn largest(v: V) -> f32 {
        let v = _mm256_max_ps(v[0], v[1]);
        let v = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
        let v = _mm_max_ps(v, _mm_movehl_ps(v, v));
        _mm_cvtss_f32(_mm_max_ss(v, _mm_movehdup_ps(v)))
    }
}

/// Eight lanes of `scale_exponent`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn scale_half(v: __m256, t: __m256) -> __m256 {
    let shift = _mm256_slli_epi32::<23>(_mm256_castps_si256(t));
    _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(v), shift))
}
