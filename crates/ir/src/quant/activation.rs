//! The activation quantiser: 8 bits, one f32 scale per 32 values.
//!
//! Weights in block formats are multiplied in integers, so their activations are quantised on the fly. Every back end
//! reproduces this definition bit for bit. Called by the interpreter and by the tests of back ends.

/// Number of values that share a scale.
pub const Q8_BLOCK: usize = 32;

/// Thirty-two quantised values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Q8Block {
    /// The scale: a value is approximately `d * q`.
    pub d: f32,
    /// Codes in -127..=127.
    pub q: [i8; Q8_BLOCK],
    /// Sum of the codes.
    pub sum: i32,
}

/// Adding and subtracting this rounds |x| < 2^22 to an integer, ties to even.
const ROUND: f32 = 12_582_912.0;

/// Quantises 32 values: `d = amax / 127`, `q = round_half_even(x * (1 / d))`.
///
/// A block whose scale would be subnormal becomes zeros (`d = 0`). Infinite or NaN input gives an infinite or NaN
/// scale, never a panic.
pub fn quantize_q8(x: &[f32; Q8_BLOCK]) -> Q8Block {
    // `f32::max` would drop a NaN.
    let amax = x.iter().fold(0.0f32, |m, v| if v.abs() > m || v.is_nan() { v.abs() } else { m });
    let d = amax / 127.0;
    if d < f32::MIN_POSITIVE {
        return Q8Block { d: 0.0, q: [0; Q8_BLOCK], sum: 0 };
    }
    let inv = 1.0 / d;
    let q = x.map(|v| (v * inv + ROUND - ROUND) as i8);
    Q8Block { d, q, sum: q.iter().map(|&q| i32::from(q)).sum() }
}
