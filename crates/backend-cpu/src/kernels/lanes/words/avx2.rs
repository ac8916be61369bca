//! Sixteen words as two ymm registers.
//!
//! Used inside functions that enable the same features, so that everything inlines.

use super::Words;
use crate::kernels::lanes::Avx2;
use std::arch::x86_64::*;

type V = [__m256; 2];
type U = [__m256i; 2];

impl Words for Avx2 {
    type U = U;
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn splat_words(x: u32) -> U {
        [_mm256_set1_epi32(x as i32); 2]
    }
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load_words(p: *const u32) -> U {
        // SAFETY: guaranteed by the caller.
        unsafe { [_mm256_loadu_si256(p.cast()), _mm256_loadu_si256(p.add(8).cast())] }
    }
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn store_words(p: *mut u32, v: U) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            _mm256_storeu_si256(p.cast(), v[0]);
            _mm256_storeu_si256(p.add(8).cast(), v[1]);
        }
    }
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn add_words(a: U, b: U) -> U {
        [_mm256_add_epi32(a[0], b[0]), _mm256_add_epi32(a[1], b[1])]
    }
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn sub_words(a: U, b: U) -> U {
        [_mm256_sub_epi32(a[0], b[0]), _mm256_sub_epi32(a[1], b[1])]
    }
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn xor_words(a: U, b: U) -> U {
        [_mm256_xor_si256(a[0], b[0]), _mm256_xor_si256(a[1], b[1])]
    }
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn and_words(a: U, b: U) -> U {
        [_mm256_and_si256(a[0], b[0]), _mm256_and_si256(a[1], b[1])]
    }
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn max_words(a: U, b: U) -> U {
        [_mm256_max_epu32(a[0], b[0]), _mm256_max_epu32(a[1], b[1])]
    }
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn mul_even(a: U, b: U) -> U {
        [_mm256_mul_epu32(a[0], b[0]), _mm256_mul_epu32(a[1], b[1])]
    }
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn odd_to_even(v: U) -> U {
        [_mm256_srli_epi64::<32>(v[0]), _mm256_srli_epi64::<32>(v[1])]
    }
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn interleave(even: U, odd: U) -> U {
        let half = |i: usize| _mm256_blend_epi32::<0xAA>(even[i], _mm256_slli_epi64::<32>(odd[i]));
        [half(0), half(1)]
    }
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn shift_right<const N: u32>(v: U) -> U {
        let n = _mm_cvtsi32_si128(N as i32);
        [_mm256_srl_epi32(v[0], n), _mm256_srl_epi32(v[1], n)]
    }
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn shift_left<const N: u32>(v: U) -> U {
        let n = _mm_cvtsi32_si128(N as i32);
        [_mm256_sll_epi32(v[0], n), _mm256_sll_epi32(v[1], n)]
    }
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn to_floats(v: U) -> V {
        [_mm256_cvtepi32_ps(v[0]), _mm256_cvtepi32_ps(v[1])]
    }
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn to_words(v: V) -> U {
        [_mm256_cvttps_epi32(v[0]), _mm256_cvttps_epi32(v[1])]
    }
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn bits(v: V) -> U {
        [_mm256_castps_si256(v[0]), _mm256_castps_si256(v[1])]
    }
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn from_bits(v: U) -> V {
        [_mm256_castsi256_ps(v[0]), _mm256_castsi256_ps(v[1])]
    }
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn less(a: V, b: V) -> u16 {
        let mask = |i: usize| _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(a[i], b[i])) as u16;
        mask(0) | mask(1) << 8
    }
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn where_at_least(v: U, a: V, b: V) -> U {
        let half = |i: usize| _mm256_and_si256(v[i], _mm256_castps_si256(_mm256_cmp_ps::<_CMP_GE_OQ>(a[i], b[i])));
        [half(0), half(1)]
    }
}
