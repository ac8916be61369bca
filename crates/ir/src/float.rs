//! Maximum and minimum of two floats that propagate NaN, as in numpy and IEEE 754-2019 (`maximum`, `minimum`).
//!
//! `f32::max` ignores NaN, which would hide a broken number. The oracle and the CPU kernels use these for `max`, `min`
//! and `relu`.

/// The larger; NaN if one is NaN.
#[inline(always)]
pub fn maximum(a: f32, b: f32) -> f32 {
    if a > b || a.is_nan() { a } else { b }
}

/// The smaller; NaN if one is NaN.
#[inline(always)]
pub fn minimum(a: f32, b: f32) -> f32 {
    if a < b || a.is_nan() { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_stays_on_either_side() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        for x in [0.0, 1.0, inf, -inf, nan] {
            assert!(maximum(x, nan).is_nan() && maximum(nan, x).is_nan(), "{x}");
            assert!(minimum(x, nan).is_nan() && minimum(nan, x).is_nan(), "{x}");
        }
        assert_eq!(
            (maximum(1.0, 2.0), maximum(-inf, inf), minimum(1.0, 2.0), minimum(-inf, inf)),
            (2.0, inf, 1.0, -inf)
        );
    }
}
