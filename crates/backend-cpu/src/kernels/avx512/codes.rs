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

/// Vector `g` of a nibble plane.
///
/// # Safety
/// A nibble plane is readable at `p`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn nibbles(p: *const u8, g: usize) -> __m512i {
    // SAFETY: the plane has four vectors.
    let v = unsafe { load(p.add(64 * (g % 4))) };
    let v = if g < 4 { v } else { _mm512_srli_epi16::<4>(v) };
    _mm512_and_si512(v, _mm512_set1_epi8(15))
}

/// `codes` plus `bit` where vector `g` of the one-bit plane has a one.
///
/// # Safety
/// A one-bit plane is readable at `p`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn add_bits(codes: __m512i, p: *const u8, g: usize, bit: i8) -> __m512i {
    // SAFETY: the plane has eight words.
    let mask = unsafe { p.cast::<u64>().add(g).read_unaligned() };
    _mm512_mask_add_epi8(codes, mask, codes, _mm512_set1_epi8(bit))
}

/// Two-bit codes of vector `g`, in bits 4 and 5 if `HIGH`, else in bits 0 and 1.
///
/// # Safety
/// A two-bit plane is readable at `p`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn crumbs<const HIGH: bool>(p: *const u8, g: usize) -> __m512i {
    // SAFETY: the plane has two vectors.
    let v = unsafe { load(p.add(64 * (g / 4))) };
    let v = match (g % 4, HIGH) {
        (0, true) => _mm512_slli_epi16::<4>(v),
        (1, true) => _mm512_slli_epi16::<2>(v),
        (0, false) | (2, true) => v,
        (1, false) | (3, true) => _mm512_srli_epi16::<2>(v),
        (2, false) => _mm512_srli_epi16::<4>(v),
        _ => _mm512_srli_epi16::<6>(v),
    };
    _mm512_and_si512(v, _mm512_set1_epi8(if HIGH { 0x30 } else { 3 }))
}

/// Code vector `g` of the block at `p`, unsigned and offset as stored. One at a time, so that a tile keeps its registers
/// for sums; vectors `g` and `g + 4` of a nibble plane share a load if they are asked for one after the other.
///
/// # Safety
/// A block of format `F` is readable at `p`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn codes<F: Format>(p: *const u8, g: usize) -> __m512i {
    // SAFETY: each arm reads the planes that its format has.
    unsafe {
        match F::CODES {
            Codes::Nibble => nibbles(p, g),
            Codes::Table => {
                let table = _mm512_broadcast_i32x4(_mm_loadu_si128(TABLE.as_ptr().cast()));
                _mm512_shuffle_epi8(table, nibbles(p, g))
            }
            Codes::Five => add_bits(nibbles(p, g), p.add(256), g, 16),
            Codes::Six => _mm512_or_si512(nibbles(p, g), crumbs::<true>(p.add(256), g)),
            Codes::Three => add_bits(crumbs::<false>(p, g), p.add(128), g, 4),
            Codes::Two => crumbs::<false>(p, g),
            Codes::Byte => load(p.add(64 * g)),
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
