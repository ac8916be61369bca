//! Decoding of codes and scales into ymm registers, one vector half (eight output rows) at a time.
//!
//! The planes are defined in `crate::format`. Inlined into the tiles, once per weight type.

use crate::format::{Codes, Format, Scales};
use aio_ir::quant::IQ4_NL_VALUES;
use std::arch::x86_64::*;

/// # Safety
/// 32 bytes are readable at `p`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn load(p: *const u8) -> __m256i {
    // SAFETY: guaranteed by the caller; the load needs no alignment.
    unsafe { _mm256_loadu_si256(p.cast()) }
}

/// Vector `g` of a nibble plane, rows `8 * half ..`.
///
/// # Safety
/// A nibble plane is readable at `p`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn nibbles(p: *const u8, g: usize, half: usize) -> __m256i {
    // SAFETY: the plane has four vectors of two halves.
    let v = unsafe { load(p.add(64 * (g % 4) + 32 * half)) };
    let v = if g < 4 { v } else { _mm256_srli_epi16::<4>(v) };
    _mm256_and_si256(v, _mm256_set1_epi8(15))
}

/// `bit` where the one-bit plane has a one.
///
/// # Safety
/// A one-bit plane is readable at `p`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn bits(p: *const u8, g: usize, half: usize, bit: i8) -> __m256i {
    // SAFETY: the plane has eight words of 64 bits.
    let word = unsafe { p.add(8 * g + 4 * half).cast::<i32>().read_unaligned() };
    // Byte i of each lane gets the byte of the word that holds its bit.
    let spread = _mm256_set_epi64x(0x0303030303030303, 0x0202020202020202, 0x0101010101010101, 0);
    let bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(word), spread);
    let select = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
    let set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, select), select);
    _mm256_and_si256(set, _mm256_set1_epi8(bit))
}

/// Two-bit codes of vector `g`, in bits 4 and 5 if `HIGH`, else in bits 0 and 1.
///
/// # Safety
/// A two-bit plane is readable at `p`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn crumbs<const HIGH: bool>(p: *const u8, g: usize, half: usize) -> __m256i {
    // SAFETY: the plane has two vectors of two halves.
    let v = unsafe { load(p.add(64 * (g / 4) + 32 * half)) };
    let v = match g % 4 {
        0 => v,
        1 => _mm256_srli_epi16::<2>(v),
        2 => _mm256_srli_epi16::<4>(v),
        _ => _mm256_srli_epi16::<6>(v),
    };
    let v = _mm256_and_si256(v, _mm256_set1_epi8(3));
    if HIGH { _mm256_slli_epi16::<4>(v) } else { v }
}

/// Codes of vector `g` of the block at `p`, rows `8 * half ..`. Unsigned and offset as stored, except
/// that `signed::<F>()` formats come signed, without their offset.
///
/// # Safety
/// A block of format `F` is readable at `p`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn codes<F: Format>(p: *const u8, g: usize, half: usize) -> __m256i {
    // SAFETY: each arm reads the planes that its format has.
    unsafe {
        match F::CODES {
            Codes::Nibble => nibbles(p, g, half),
            Codes::Table => {
                let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(IQ4_NL_VALUES.as_ptr().cast()));
                _mm256_shuffle_epi8(table, nibbles(p, g, half))
            }
            Codes::Five => _mm256_or_si256(nibbles(p, g, half), bits(p.add(256), g, half, 16)),
            Codes::Six => _mm256_or_si256(nibbles(p, g, half), crumbs::<true>(p.add(256), g, half)),
            Codes::Three => _mm256_or_si256(crumbs::<false>(p, g, half), bits(p.add(128), g, half, 4)),
            Codes::Two => crumbs::<false>(p, g, half),
            Codes::Byte => _mm256_xor_si256(load(p.add(64 * g + 32 * half)), _mm256_set1_epi8(-128)),
        }
    }
}

/// Whether codes of this format use all eight bits, and are therefore multiplied as signed numbers.
pub(super) const fn signed<F: Format>() -> bool {
    matches!(F::CODES, Codes::Table | Codes::Byte)
}

/// Number of vectors whose products with -127..=127 sum in 16 bits without overflow.
pub(super) const fn sums_in_16_bits<F: Format>() -> usize {
    match F::CODES {
        Codes::Nibble | Codes::Two | Codes::Three => 8,
        Codes::Five => 4,
        Codes::Six => 2,
        Codes::Table | Codes::Byte => 1,
    }
}

/// Scales of eight rows of a block: of its first and second 16 columns.
#[derive(Clone, Copy)]
pub(super) struct BlockScales {
    pub(super) d: [__m256; 2],
    pub(super) m: [__m256; 2],
}

/// # Safety
/// 8 f16 are readable at `p`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn halves(p: *const u8) -> __m256 {
    // SAFETY: guaranteed by the caller.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(p.cast()) })
}

/// # Safety
/// 8 bytes are readable at `p`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn eight(p: *const u8) -> __m128i {
    // SAFETY: guaranteed by the caller.
    unsafe { _mm_loadl_epi64(p.cast()) }
}

/// Scales of rows `8 * half ..` of block `block` of the unit at `head`.
///
/// # Safety
/// A head of format `F` is readable at `head`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn scales<F: Format>(head: *const u8, block: usize, half: usize) -> BlockScales {
    let zero = _mm256_setzero_ps();
    // SAFETY: each arm reads the arrays that its head has.
    unsafe {
        let d = halves(head.add(16 * half));
        let bytes = |at: usize| eight(head.add(at + 8 * half));
        let unsigned = |at: usize| _mm256_cvtepu8_epi32(bytes(at));
        match F::SCALES {
            Scales::D => BlockScales { d: [d; 2], m: [zero; 2] },
            Scales::DMin => BlockScales { d: [d; 2], m: [halves(head.add(32 + 16 * half)); 2] },
            Scales::Super32 => {
                let dmin = _mm256_sub_ps(zero, halves(head.add(32 + 16 * half)));
                let s = _mm256_cvtepi32_ps(unsigned(64 + 16 * block));
                let m = _mm256_cvtepi32_ps(unsigned(192 + 16 * block));
                BlockScales { d: [_mm256_mul_ps(d, s); 2], m: [_mm256_mul_ps(dmin, m); 2] }
            }
            Scales::Super16 => {
                let run = |j: usize| _mm256_cvtepi8_epi32(bytes(32 + 32 * block + 16 * j));
                let scale = |j: usize| _mm256_mul_ps(d, _mm256_cvtepi32_ps(run(j)));
                BlockScales { d: [scale(0), scale(1)], m: [zero; 2] }
            }
            Scales::Super16Min => {
                let dmin = _mm256_sub_ps(zero, halves(head.add(32 + 16 * half)));
                let run = |j: usize| unsigned(64 + 32 * block + 16 * j);
                let low = |j: usize| _mm256_cvtepi32_ps(_mm256_and_si256(run(j), _mm256_set1_epi32(15)));
                let high = |j: usize| _mm256_cvtepi32_ps(_mm256_srli_epi32::<4>(run(j)));
                let scale = |j: usize| _mm256_mul_ps(d, low(j));
                let min = |j: usize| _mm256_mul_ps(dmin, high(j));
                BlockScales { d: [scale(0), scale(1)], m: [min(0), min(1)] }
            }
        }
    }
}
