//! Multiply-adds from registers alone: the upper bound of every kernel.
//!
//! Sixteen independent sums hide the instructions' latency; the operands never leave registers.

use crate::isa::{Isa, IsaLevel};
use std::hint::black_box;

/// Independent sums.
const SUMS: usize = 16;
/// Iterations of the loop: some milliseconds.
const TURNS: usize = 100_000;
/// Lanes of the portable integer loop.
const PORTABLE_LANES: usize = 16;

/// 8-bit multiply-adds of one call of [`int8`].
pub(super) fn int8_macs(isa: Isa) -> f64 {
    let lanes = match isa.level() {
        IsaLevel::Avx512Vnni => 64,
        IsaLevel::Avx2 => 32,
        IsaLevel::Portable => PORTABLE_LANES,
    };
    (lanes * SUMS * TURNS) as f64
}

/// f32 multiply-adds of one call of [`f32`].
pub(super) fn f32_macs(isa: Isa) -> f64 {
    let lanes = match isa.level() {
        IsaLevel::Avx512Vnni => 16,
        IsaLevel::Avx2 => 8,
        IsaLevel::Portable => 4,
    };
    (lanes * SUMS * TURNS) as f64
}

/// 8-bit multiply-adds, summed in 32 bits.
pub(super) fn int8(isa: Isa) {
    #[cfg(target_arch = "x86_64")]
    match isa.level() {
        // SAFETY: `isa` proves that the machine has the level.
        IsaLevel::Avx512Vnni => return unsafe { int8_avx512() },
        // SAFETY: as above.
        IsaLevel::Avx2 => return unsafe { int8_avx2() },
        IsaLevel::Portable => {}
    }
    let _ = isa;
    let mut sums = [[0i32; PORTABLE_LANES]; SUMS];
    let (a, b) = (black_box([3i8; PORTABLE_LANES]), black_box([5i8; PORTABLE_LANES]));
    for _ in 0..TURNS {
        for sum in &mut sums {
            for ((s, a), b) in sum.iter_mut().zip(a).zip(b) {
                *s = s.wrapping_add(i32::from(a) * i32::from(b));
            }
        }
        black_box(&mut sums);
    }
}

/// f32 multiply-adds.
pub(super) fn f32(isa: Isa) {
    #[cfg(target_arch = "x86_64")]
    match isa.level() {
        // SAFETY: `isa` proves that the machine has the level.
        IsaLevel::Avx512Vnni => return unsafe { f32_avx512() },
        // SAFETY: as above.
        IsaLevel::Avx2 => return unsafe { f32_avx2() },
        IsaLevel::Portable => {}
    }
    let _ = isa;
    let mut sums = [[0f32; 4]; SUMS];
    let (a, b) = (black_box([0.5f32; 4]), black_box([0.25f32; 4]));
    for _ in 0..TURNS {
        for sum in &mut sums {
            for ((s, a), b) in sum.iter_mut().zip(a).zip(b) {
                *s = *s * a + b;
            }
        }
        black_box(&mut sums);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
fn int8_avx512() {
    use std::arch::x86_64::*;
    let mut sums = [_mm512_setzero_si512(); SUMS];
    let x = black_box(_mm512_set1_epi32(0x0102_0304));
    for _ in 0..TURNS {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, x, x);
        }
    }
    black_box(sums);
}

/// Without VNNI a dot product is a multiply, a pairwise add and an add.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn int8_avx2() {
    use std::arch::x86_64::*;
    // Sixteen registers in all: eight hold sums.
    let mut sums = [_mm256_setzero_si256(); SUMS / 2];
    let (x, ones) = (black_box(_mm256_set1_epi32(0x0102_0304)), _mm256_set1_epi16(1));
    for _ in 0..2 * TURNS {
        for sum in &mut sums {
            let pairs = _mm256_maddubs_epi16(x, *sum);
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, ones));
        }
    }
    black_box(sums);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn f32_avx512() {
    use std::arch::x86_64::*;
    let mut sums = [_mm512_setzero_ps(); SUMS];
    let (a, b) = (black_box(_mm512_set1_ps(0.5)), black_box(_mm512_set1_ps(0.25)));
    for _ in 0..TURNS {
        for sum in &mut sums {
            *sum = _mm512_fmadd_ps(*sum, a, b);
        }
    }
    black_box(sums);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn f32_avx2() {
    use std::arch::x86_64::*;
    // Sixteen registers in all: two hold the operands.
    let mut sums = [_mm256_setzero_ps(); SUMS - 4];
    let (a, b) = (black_box(_mm256_set1_ps(0.5)), black_box(_mm256_set1_ps(0.25)));
    let turns = TURNS * SUMS / (SUMS - 4);
    for _ in 0..turns {
        for sum in &mut sums {
            *sum = _mm256_fmadd_ps(*sum, a, b);
        }
    }
    black_box(sums);
}
