//! Sixteen 32-bit words beside the f32 lanes: integers for random numbers and for comparisons.
//!
//! Integer operations are exact, so the levels agree without further ado. Used by the kernels that choose tokens.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use super::Lanes;

/// Operations on sixteen words; all wrap around.
///
/// # Safety
/// As for [`Lanes`].
pub(in crate::kernels) trait Words: Lanes {
    /// Sixteen u32.
    type U: Copy;
    unsafe fn splat_words(x: u32) -> Self::U;
    unsafe fn load_words(p: *const u32) -> Self::U;
    unsafe fn store_words(p: *mut u32, v: Self::U);
    unsafe fn add_words(a: Self::U, b: Self::U) -> Self::U;
    unsafe fn sub_words(a: Self::U, b: Self::U) -> Self::U;
    unsafe fn xor_words(a: Self::U, b: Self::U) -> Self::U;
    unsafe fn and_words(a: Self::U, b: Self::U) -> Self::U;
    /// The larger of each, as unsigned numbers.
    unsafe fn max_words(a: Self::U, b: Self::U) -> Self::U;
    /// Products of the even lanes: the low word in the even lane, the high word in the odd one after it.
    unsafe fn mul_even(a: Self::U, b: Self::U) -> Self::U;
    /// Each odd lane in the even one before it, and zeros in the odd ones.
    unsafe fn odd_to_even(v: Self::U) -> Self::U;
    /// The even lanes of `even`, and those of `odd` in the odd lanes after them.
    unsafe fn interleave(even: Self::U, odd: Self::U) -> Self::U;
    /// Shifted right by `N` bits; zeros come in.
    unsafe fn shift_right<const N: u32>(v: Self::U) -> Self::U;
    /// Shifted left by `N` bits.
    unsafe fn shift_left<const N: u32>(v: Self::U) -> Self::U;
    /// The numbers, taken as signed, as floats.
    unsafe fn to_floats(v: Self::U) -> Self::V;
    /// Floats below 2^31 without their fraction.
    unsafe fn to_words(v: Self::V) -> Self::U;
    /// The bits of floats.
    unsafe fn bits(v: Self::V) -> Self::U;
    /// The floats with these bits.
    unsafe fn from_bits(v: Self::U) -> Self::V;
    /// A bit for each lane in which `a < b`; none where one is NaN.
    unsafe fn less(a: Self::V, b: Self::V) -> u16;
    /// `v` where `a >= b`, else 0.
    unsafe fn where_at_least(v: Self::U, a: Self::V, b: Self::V) -> Self::U;
}
