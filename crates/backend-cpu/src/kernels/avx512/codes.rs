//! Decoding of a block's codes and scales into zmm registers.
//!
//! The planes are defined in `crate::format`. Inlined into the tiles, once per weight type.

use crate::format::{Codes, Format, Scales};
use std::arch::x86_64::*;

/// The iq4_nl values plus 128, for a byte shuffle.
static TABLE: [u8; 16] = [1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241];

/// # Safety
/// 64 bytes are readable at `p`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn load(p: *const u8) -> __m512i {
    // SAFETY: the caller's promise; the load needs no alignment.
    unsafe { _mm512_loadu_si512(p.cast()) }
}

/// # Safety
/// A nibble plane is readable at `p`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn nibbles(p: *const u8) -> [__m512i; 8] {
    let mask = _mm512_set1_epi8(15);
    let mut out = [_mm512_setzero_si512(); 8];
    for h in 0..4 {
        // SAFETY: the plane has four vectors.
        let v = unsafe { load(p.add(64 * h)) };
        out[h] = _mm512_and_si512(v, mask);
        out[h + 4] = _mm512_and_si512(_mm512_srli_epi16::<4>(v), mask);
    }
    out
}

/// Adds `bit` to the codes whose bit is set in the one-bit plane.
///
/// # Safety
/// A one-bit plane is readable at `p`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn add_bits(codes: &mut [__m512i; 8], p: *const u8, bit: i8) {
    let bit = _mm512_set1_epi8(bit);
    for (g, codes) in codes.iter_mut().enumerate() {
        // SAFETY: the plane has eight words.
        let mask = unsafe { p.cast::<u64>().add(g).read_unaligned() };
        *codes = _mm512_mask_add_epi8(*codes, mask, *codes, bit);
    }
}

/// Two-bit codes, in bits 4 and 5 if `HIGH`, else in bits 0 and 1.
///
/// # Safety
/// A two-bit plane is readable at `p`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn crumbs<const HIGH: bool>(p: *const u8) -> [__m512i; 8] {
    let mask = _mm512_set1_epi8(if HIGH { 0x30 } else { 3 });
    let mut out = [_mm512_setzero_si512(); 8];
    for c in 0..2 {
        // SAFETY: the plane has two vectors.
        let v = unsafe { load(p.add(64 * c)) };
        let shifted = if HIGH {
            [_mm512_slli_epi16::<4>(v), _mm512_slli_epi16::<2>(v), v, _mm512_srli_epi16::<2>(v)]
        } else {
            [v, _mm512_srli_epi16::<2>(v), _mm512_srli_epi16::<4>(v), _mm512_srli_epi16::<6>(v)]
        };
        for (j, v) in shifted.into_iter().enumerate() {
            out[4 * c + j] = _mm512_and_si512(v, mask);
        }
    }
    out
}

/// The eight code vectors of the block at `p`.
///
/// # Safety
/// A block of format `F` is readable at `p`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn codes<F: Format>(p: *const u8) -> [__m512i; 8] {
    // SAFETY: each arm reads the planes that its format has.
    unsafe {
        match F::CODES {
            Codes::Nibble => nibbles(p),
            Codes::Table => {
                let table = _mm512_broadcast_i32x4(_mm_loadu_si128(TABLE.as_ptr().cast()));
                let mut out = nibbles(p);
                for v in &mut out {
                    *v = _mm512_shuffle_epi8(table, *v);
                }
                out
            }
            Codes::Five => {
                let mut out = nibbles(p);
                add_bits(&mut out, p.add(256), 16);
                out
            }
            Codes::Six => {
                let mut out = nibbles(p);
                let high = crumbs::<true>(p.add(256));
                for (v, high) in out.iter_mut().zip(high) {
                    *v = _mm512_or_si512(*v, high);
                }
                out
            }
            Codes::Three => {
                let mut out = crumbs::<false>(p);
                add_bits(&mut out, p.add(128), 4);
                out
            }
            Codes::Two => crumbs::<false>(p),
            Codes::Byte => {
                let mut out = [_mm512_setzero_si512(); 8];
                for (g, v) in out.iter_mut().enumerate() {
                    *v = load(p.add(64 * g));
                }
                out
            }
        }
    }
}

/// Scales of a block, one lane an output row: of its first and second 16 columns.
pub(super) struct BlockScales {
    pub(super) d: [__m512; 2],
    pub(super) m: [__m512; 2],
}

/// # Safety
/// 16 f16 are readable at `p`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn halves(p: *const u8) -> __m512 {
    // SAFETY: the caller's promise.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(p.cast()) })
}

/// # Safety
/// 16 bytes are readable at `p`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn bytes(p: *const u8) -> __m512i {
    // SAFETY: the caller's promise.
    _mm512_cvtepu8_epi32(unsafe { _mm_loadu_si128(p.cast()) })
}

/// The scales of block `block` of the unit at `head`.
///
/// # Safety
/// A head of format `F` is readable at `head`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn scales<F: Format>(head: *const u8, block: usize) -> BlockScales {
    let zero = _mm512_setzero_ps();
    // SAFETY: each arm reads the arrays that its head has.
    unsafe {
        let d = halves(head);
        match F::SCALES {
            Scales::D => BlockScales { d: [d; 2], m: [zero; 2] },
            Scales::DMin => BlockScales { d: [d; 2], m: [halves(head.add(32)); 2] },
            Scales::Super32 => {
                let s = _mm512_cvtepi32_ps(bytes(head.add(64 + 16 * block)));
                let m = _mm512_cvtepi32_ps(bytes(head.add(192 + 16 * block)));
                let dmin = _mm512_sub_ps(zero, halves(head.add(32)));
                BlockScales { d: [_mm512_mul_ps(d, s); 2], m: [_mm512_mul_ps(dmin, m); 2] }
            }
            Scales::Super16 => {
                let p = head.add(32 + 32 * block).cast::<__m128i>();
                let s = [_mm512_cvtepi8_epi32(_mm_loadu_si128(p)), _mm512_cvtepi8_epi32(_mm_loadu_si128(p.add(1)))];
                BlockScales { d: s.map(|s| _mm512_mul_ps(d, _mm512_cvtepi32_ps(s))), m: [zero; 2] }
            }
            Scales::Super16Min => {
                let p = head.add(64 + 32 * block);
                let dmin = _mm512_sub_ps(zero, halves(head.add(32)));
                let both = [bytes(p), bytes(p.add(16))];
                let low = both.map(|v| _mm512_cvtepi32_ps(_mm512_and_si512(v, _mm512_set1_epi32(15))));
                let high = both.map(|v| _mm512_cvtepi32_ps(_mm512_srli_epi32::<4>(v)));
                BlockScales { d: low.map(|s| _mm512_mul_ps(d, s)), m: high.map(|m| _mm512_mul_ps(dmin, m)) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_shuffle_table_is_the_reference_table_plus_128() {
        let plus = aio_ir::quant::IQ4_NL_VALUES.map(|v| (i16::from(v) + 128) as u8);
        assert_eq!(super::TABLE, plus);
    }
}
