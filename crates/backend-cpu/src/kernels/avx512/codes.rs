//! Decoding of a block's codes and scales into zmm registers.
//!
//! The planes are defined in `crate::format`. Inlined into the tiles, once per weight type.

use crate::activation::FLOAT_OFFSET;
use crate::format::{Codes, Format, Scales};
use std::arch::x86_64::*;

/// The iq4_nl values plus 128, for a byte shuffle.
static TABLE: [u8; 16] = [1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241];

/// # Safety
/// 64 bytes are readable at `p`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn load(p: *const u8) -> __m512i {
    // SAFETY: guaranteed by the caller; the load needs no alignment.
    unsafe { _mm512_loadu_si512(p.cast()) }
}

/// Left shift of codes stored with an offset that makes the offset 128.
const fn lift<F: Format>() -> i32 {
    if F::SHIFT == 0 { 0 } else { 7 - F::SHIFT as i32 }
}

/// 16-bit lanes shifted left by `by`, or right if negative; a constant after inlining.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn shifted(v: __m512i, by: i32) -> __m512i {
    match by {
        -6 => _mm512_srli_epi16::<6>(v),
        -4 => _mm512_srli_epi16::<4>(v),
        -2 => _mm512_srli_epi16::<2>(v),
        -1 => _mm512_srli_epi16::<1>(v),
        0 => v,
        1 => _mm512_slli_epi16::<1>(v),
        2 => _mm512_slli_epi16::<2>(v),
        3 => _mm512_slli_epi16::<3>(v),
        4 => _mm512_slli_epi16::<4>(v),
        5 => _mm512_slli_epi16::<5>(v),
        6 => _mm512_slli_epi16::<6>(v),
        _ => unreachable!("no plane is shifted so far"),
    }
}

/// Vector `g` of a nibble plane, its codes from bit `to` on.
///
/// # Safety
/// A nibble plane is readable at `p`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn nibbles(p: *const u8, g: usize, to: i32) -> __m512i {
    // SAFETY: the plane has four vectors.
    let v = unsafe { load(p.add(64 * (g % 4))) };
    let v = shifted(v, if g < 4 { to } else { to - 4 });
    _mm512_and_si512(v, _mm512_set1_epi8((15 << to) as i8))
}

/// `codes` plus `bit` where vector `g` of the one-bit plane has a one.
///
/// # Safety
/// A one-bit plane is readable at `p`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn add_bits(codes: __m512i, p: *const u8, g: usize, bit: i32) -> __m512i {
    // SAFETY: the plane has eight words.
    let mask = unsafe { p.cast::<u64>().add(g).read_unaligned() };
    _mm512_mask_add_epi8(codes, mask, codes, _mm512_set1_epi8(bit as i8))
}

/// Vector `g` of a two-bit plane, its codes from bit `to` on.
///
/// # Safety
/// A two-bit plane is readable at `p`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn crumbs(p: *const u8, g: usize, to: i32) -> __m512i {
    // SAFETY: the plane has two vectors.
    let v = unsafe { load(p.add(64 * (g / 4))) };
    let v = shifted(v, to - 2 * (g % 4) as i32);
    _mm512_and_si512(v, _mm512_set1_epi8((3 << to) as i8))
}

/// Code vector `g` of the block at `p`, unsigned: as stored if codes have no offset, otherwise shifted to an offset of 128.
/// Decoded one at a time, so that a tile keeps its registers for sums; vectors `g` and `g + 4` of a nibble plane share a
/// load if requested one after the other.
///
/// # Safety
/// A block of format `F` is readable at `p`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn codes<F: Format>(p: *const u8, g: usize) -> __m512i {
    let to = lift::<F>();
    // SAFETY: each arm reads the planes that its format has.
    unsafe {
        match F::CODES {
            Codes::Nibble => nibbles(p, g, to),
            Codes::Table => {
                let table = _mm512_broadcast_i32x4(_mm_loadu_si128(TABLE.as_ptr().cast()));
                _mm512_shuffle_epi8(table, nibbles(p, g, 0))
            }
            Codes::Five => add_bits(nibbles(p, g, to), p.add(256), g, 16 << to),
            Codes::Six => _mm512_or_si512(nibbles(p, g, to), crumbs(p.add(256), g, 4 + to)),
            Codes::Three => add_bits(crumbs(p, g, to), p.add(128), g, 4 << to),
            Codes::Two => crumbs(p, g, to),
            Codes::Byte => load(p.add(64 * g)),
        }
    }
}

/// Scales of a block, one lane an output row: of its first and second 16 columns.
pub(super) struct BlockScales {
    /// For codes as `codes` gives them.
    pub(super) d: [__m512; 2],
    pub(super) m: [__m512; 2],
}

impl BlockScales {
    /// Subtracts `FLOAT_OFFSET` when a sum of products is multiplied by `d`. Exact: a scale has at most 19 bits.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
    pub(super) fn correction(&self, half: usize) -> __m512 {
        _mm512_mul_ps(self.d[half], _mm512_set1_ps(-FLOAT_OFFSET))
    }
}

/// # Safety
/// 16 f16 are readable at `p`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn halves(p: *const u8) -> __m512 {
    // SAFETY: guaranteed by the caller.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(p.cast()) })
}

/// # Safety
/// 16 bytes are readable at `p`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn bytes(p: *const u8) -> __m512i {
    // SAFETY: guaranteed by the caller.
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
        let mut d = halves(head);
        if lift::<F>() > 0 {
            d = _mm512_mul_ps(d, _mm512_set1_ps(1.0 / (1 << lift::<F>()) as f32));
        }
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
