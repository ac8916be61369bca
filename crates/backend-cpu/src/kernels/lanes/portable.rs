//! Sixteen lanes as an array.
//!
//! For targets without special kernels; the compiler is left to vectorise.

use super::{LANES, Lanes};
use crate::kernels::portable::fused;
use half::f16;
use std::ops::Range;

/// The portable level.
pub(in crate::kernels) enum Portable {}

type V = [f32; LANES];

/// Folds the lanes by halving.
#[inline(always)]
fn halve(mut v: V, f: impl Fn(f32, f32) -> f32) -> f32 {
    for width in [8, 4, 2, 1] {
        for i in 0..width {
            v[i] = f(v[i], v[i + width]);
        }
    }
    v[0]
}

#[inline(always)]
fn zip(a: V, b: V, f: impl Fn(f32, f32) -> f32) -> V {
    std::array::from_fn(|i| f(a[i], b[i]))
}

impl Lanes for Portable {
    type V = V;
    const PAIRS: usize = 2;
    #[inline]
    unsafe fn prefetch(_: *const u8) {}
    #[inline(always)]
    unsafe fn splat(x: f32) -> V {
        [x; LANES]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> V {
        // SAFETY: guaranteed by the caller.
        unsafe { p.cast::<V>().read() }
    }
    #[inline(always)]
    unsafe fn load_half(p: *const f16) -> V {
        // SAFETY: guaranteed by the caller.
        unsafe { p.cast::<[f16; LANES]>().read() }.map(f16::to_f32)
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: V) {
        // SAFETY: guaranteed by the caller.
        unsafe { p.cast::<V>().write(v) };
    }
    #[inline(always)]
    unsafe fn add(a: V, b: V) -> V {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(a: V, b: V) -> V {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(a: V, b: V) -> V {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(a: V, b: V) -> V {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn fma(a: V, b: V, c: V) -> V {
        std::array::from_fn(|i| fused(a[i], b[i], c[i]))
    }
    #[inline(always)]
    unsafe fn max(a: V, b: V) -> V {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn scale_exponent(v: V, t: V) -> V {
        zip(v, t, |v, t| f32::from_bits(v.to_bits().wrapping_add(t.to_bits() << 23)))
    }
    #[inline(always)]
    unsafe fn store_low_bytes(out: *mut i8, v: [V; 2]) -> [i32; 2] {
        let bytes = v.map(|v| v.map(|x| x.to_bits() as i8));
        // SAFETY: guaranteed by the caller.
        unsafe { out.cast::<[[i8; LANES]; 2]>().write(bytes) };
        bytes.map(|bytes| bytes.iter().map(|b| i32::from(*b)).sum())
    }
    #[inline(always)]
    unsafe fn keep(v: V, lanes: Range<usize>, other: f32) -> V {
        std::array::from_fn(|i| if lanes.contains(&i) { v[i] } else { other })
    }
    #[inline(always)]
    unsafe fn any_not_finite(v: V) -> bool {
        v.iter().any(|x| !x.is_finite())
    }
    #[inline(always)]
    unsafe fn sum(v: V) -> f32 {
        halve(v, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn largest(v: V) -> f32 {
        halve(v, |a, b| if a > b { a } else { b })
    }
}
