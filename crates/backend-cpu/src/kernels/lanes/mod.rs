//! Sixteen f32 lanes, the same at every instruction-set level.
//!
//! Row kernels and attention are written once over this trait and compiled for each level inside a function that enables its
//! features. Sums have one order, given by the lanes and a fixed tree, and `fma` rounds once on every level, so all levels
//! give the same bits.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;
mod words;

#[cfg(target_arch = "x86_64")]
pub(super) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(super) use avx512::Avx512;
pub(super) use portable::Portable;
pub(super) use words::Words;

use half::f16;
use std::ops::Range;

/// Lanes of a vector.
pub(super) const LANES: usize = 16;

/// Operations on sixteen lanes.
///
/// # Safety
/// Every method needs the level's instruction set, and pointers must be readable or writable for 16
/// elements; no alignment is needed.
pub(super) trait Lanes: 'static {
    /// Sixteen f32.
    type V: Copy;
    /// Pairs of row and query head whose attention fits into the level's registers.
    const PAIRS: usize;
    /// Prefetches the cache line at any address.
    unsafe fn prefetch(p: *const u8);
    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(p: *const f32) -> Self::V;
    unsafe fn load_half(p: *const f16) -> Self::V;
    unsafe fn store(p: *mut f32, v: Self::V);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `if a > b { a } else { b }`: a NaN in `b` is kept.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// `v` times two to the power of the integer in `t`'s lowest bits (`t` = integer + 3 * 2^22).
    unsafe fn scale_exponent(v: Self::V, t: Self::V) -> Self::V;
    /// Stores the lowest byte of each lane of two vectors at `out` and returns the sums of these bytes, taken as signed.
    unsafe fn store_low_bytes(out: *mut i8, v: [Self::V; 2]) -> [i32; 2];
    /// `v` in these lanes, of 0..16, and `other` in the rest.
    unsafe fn keep(v: Self::V, lanes: Range<usize>, other: f32) -> Self::V;
    /// Whether a lane is infinite or NaN.
    unsafe fn any_not_finite(v: Self::V) -> bool;
    /// The sum of the lanes by halving: `i` and `i + 8` first, then `i + 4`, `i + 2`, `i + 1`.
    unsafe fn sum(v: Self::V) -> f32;
    /// The largest lane; any if one is NaN.
    unsafe fn largest(v: Self::V) -> f32;
}

/// The lanes as an array.
///
/// # Safety
/// The machine has the level.
#[inline(always)]
pub(super) unsafe fn to_array<L: Lanes>(v: L::V) -> [f32; LANES] {
    let mut out = [0.0; LANES];
    // SAFETY: the array has 16 elements; the level is guaranteed by the caller.
    unsafe { L::store(out.as_mut_ptr(), v) };
    out
}

/// `e^x` within 2 ulp for x in -86..=88; e^-86 below, e^88 above. A NaN is kept.
///
/// # Safety
/// The machine has the level.
#[inline(always)]
pub(super) unsafe fn exp<L: Lanes>(x: L::V) -> L::V {
    /// Adding this leaves a rounded integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // Taylor coefficients of e^r from r^7 down to r^2; |r| <= ln(2) / 2.
    const COEFFICIENTS: [f32; 6] = [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5];
    // SAFETY: the level is guaranteed by the caller; no memory is touched.
    unsafe {
        let x = L::max(L::splat(-86.0), x);
        // min(x, 88) as -max(-88, -x).
        let zero = L::splat(0.0);
        let x = L::sub(zero, L::max(L::splat(-88.0), L::sub(zero, x)));
        let t = L::add(L::mul(x, L::splat(std::f32::consts::LOG2_E)), L::splat(ROUND));
        let n = L::sub(t, L::splat(ROUND));
        // ln(2) in two parts, the first short enough that n times it is exact.
        let r = L::sub(x, L::mul(n, L::splat(0.693_359_4)));
        let r = L::sub(r, L::mul(n, L::splat(-2.121_944_4e-4)));
        let mut p = L::splat(COEFFICIENTS[0]);
        for c in &COEFFICIENTS[1..] {
            p = L::add(L::mul(p, r), L::splat(*c));
        }
        let p = L::add(L::add(L::mul(L::mul(p, r), r), r), L::splat(1.0));
        L::scale_exponent(p, t)
    }
}
