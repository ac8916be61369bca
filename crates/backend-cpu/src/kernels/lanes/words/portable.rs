//! Sixteen words as an array.

use super::Words;
use crate::kernels::lanes::{LANES, Portable};

type V = [f32; LANES];
type U = [u32; LANES];

#[inline(always)]
fn zip(a: U, b: U, f: impl Fn(u32, u32) -> u32) -> U {
    std::array::from_fn(|i| f(a[i], b[i]))
}

impl Words for Portable {
    type U = U;
    #[inline(always)]
    unsafe fn splat_words(x: u32) -> U {
        [x; LANES]
    }
    #[inline(always)]
    unsafe fn load_words(p: *const u32) -> U {
        // SAFETY: guaranteed by the caller.
        unsafe { p.cast::<U>().read() }
    }
    #[inline(always)]
    unsafe fn store_words(p: *mut u32, v: U) {
        // SAFETY: guaranteed by the caller.
        unsafe { p.cast::<U>().write(v) };
    }
    #[inline(always)]
    unsafe fn add_words(a: U, b: U) -> U {
        zip(a, b, u32::wrapping_add)
    }
    #[inline(always)]
    unsafe fn sub_words(a: U, b: U) -> U {
        zip(a, b, u32::wrapping_sub)
    }
    #[inline(always)]
    unsafe fn xor_words(a: U, b: U) -> U {
        zip(a, b, |a, b| a ^ b)
    }
    #[inline(always)]
    unsafe fn and_words(a: U, b: U) -> U {
        zip(a, b, |a, b| a & b)
    }
    #[inline(always)]
    unsafe fn max_words(a: U, b: U) -> U {
        zip(a, b, u32::max)
    }
    #[inline(always)]
    unsafe fn mul_even(a: U, b: U) -> U {
        let product = |i: usize| u64::from(a[i & !1]) * u64::from(b[i & !1]);
        std::array::from_fn(|i| (product(i) >> (32 * (i & 1))) as u32)
    }
    #[inline(always)]
    unsafe fn odd_to_even(v: U) -> U {
        std::array::from_fn(|i| if i & 1 == 0 { v[i + 1] } else { 0 })
    }
    #[inline(always)]
    unsafe fn interleave(even: U, odd: U) -> U {
        std::array::from_fn(|i| if i & 1 == 0 { even[i] } else { odd[i - 1] })
    }
    #[inline(always)]
    unsafe fn shift_right<const N: u32>(v: U) -> U {
        v.map(|x| x >> N)
    }
    #[inline(always)]
    unsafe fn shift_left<const N: u32>(v: U) -> U {
        v.map(|x| x << N)
    }
    #[inline(always)]
    unsafe fn to_floats(v: U) -> V {
        v.map(|x| x as i32 as f32)
    }
    #[inline(always)]
    unsafe fn to_words(v: V) -> U {
        v.map(|x| x as i32 as u32)
    }
    #[inline(always)]
    unsafe fn bits(v: V) -> U {
        v.map(f32::to_bits)
    }
    #[inline(always)]
    unsafe fn from_bits(v: U) -> V {
        v.map(f32::from_bits)
    }
    #[inline(always)]
    unsafe fn less(a: V, b: V) -> u16 {
        a.iter().zip(&b).enumerate().fold(0, |mask, (i, (a, b))| mask | u16::from(a < b) << i)
    }
    #[inline(always)]
    unsafe fn where_at_least(v: U, a: V, b: V) -> U {
        std::array::from_fn(|i| if a[i] >= b[i] { v[i] } else { 0 })
    }
}
