//! Block formats of 32 elements with f16 scales: q4_0, q4_1, q5_0, q5_1, q8_0, iq4_nl.
//!
//! In the 4- and 5-bit formats byte `j` holds element `j` in its low nibble and element `j + 16` in its high one. The
//! fifth bits of all 32 elements form one little-endian word. Called by `super::dequantize` and `super::encode` with
//! one block at a time.

use half::f16;

/// The 16 values that iq4_nl indices select.
pub const IQ4_NL_VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

fn put_half(block: &mut [u8], at: usize, v: f32) {
    block[at..at + 2].copy_from_slice(&f16::from_f32(v).to_le_bytes());
}

/// Nibble of element `i` in a block's 16 bytes `qs`.
fn nibble(qs: &[u8], i: usize) -> u8 {
    if i < 16 { qs[i] & 15 } else { qs[i - 16] >> 4 }
}

/// Fifth bit of element `i`, moved to bit 4.
fn fifth_bit(qh: &[u8], i: usize) -> u8 {
    (qh[i / 8] >> (i % 8) & 1) << 4
}

pub(super) fn decode_q4_0(block: &[u8], y: &mut [f32]) {
    let d = half_at(block, 0);
    for (i, y) in y.iter_mut().enumerate() {
        *y = d * (f32::from(nibble(&block[2..], i)) - 8.0);
    }
}

pub(super) fn decode_q4_1(block: &[u8], y: &mut [f32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    for (i, y) in y.iter_mut().enumerate() {
        *y = d * f32::from(nibble(&block[4..], i)) + m;
    }
}

pub(super) fn decode_q5_0(block: &[u8], y: &mut [f32]) {
    let d = half_at(block, 0);
    for (i, y) in y.iter_mut().enumerate() {
        let q = nibble(&block[6..], i) | fifth_bit(&block[2..6], i);
        *y = d * (f32::from(q) - 16.0);
    }
}

pub(super) fn decode_q5_1(block: &[u8], y: &mut [f32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    for (i, y) in y.iter_mut().enumerate() {
        let q = nibble(&block[8..], i) | fifth_bit(&block[4..8], i);
        *y = d * f32::from(q) + m;
    }
}

pub(super) fn decode_q8_0(block: &[u8], y: &mut [f32]) {
    let d = half_at(block, 0);
    for (y, &q) in y.iter_mut().zip(&block[2..]) {
        *y = d * f32::from(q as i8);
    }
}

pub(super) fn decode_iq4_nl(block: &[u8], y: &mut [f32]) {
    let d = half_at(block, 0);
    for (i, y) in y.iter_mut().enumerate() {
        *y = d * f32::from(IQ4_NL_VALUES[usize::from(nibble(&block[2..], i))]);
    }
}

/// `1 / d`, or 0 for a block of zeros.
fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

/// Writes 32 four-bit values; `q` maps an element to its value, clamped to 15.
fn put_nibbles(qs: &mut [u8], x: &[f32], q: impl Fn(f32) -> f32) {
    let code = |v: f32| (q(v) as u8).min(15);
    for j in 0..16 {
        qs[j] = code(x[j]) | code(x[j + 16]) << 4;
    }
}

pub(super) fn encode_q4_0(x: &[f32], block: &mut [u8]) {
    // The value farthest from zero, with its sign, maps exactly to -8.
    let far = x.iter().fold(0.0f32, |far, &v| if v.abs() > far.abs() { v } else { far });
    let d = far / -8.0;
    put_half(block, 0, d);
    let inv = inverse(d);
    put_nibbles(&mut block[2..], x, |v| v * inv + 8.5);
}

pub(super) fn encode_q4_1(x: &[f32], block: &mut [u8]) {
    let low = x.iter().copied().fold(f32::MAX, f32::min);
    let high = x.iter().copied().fold(f32::MIN, f32::max);
    let d = (high - low) / 15.0;
    put_half(block, 0, d);
    put_half(block, 2, low);
    let inv = inverse(d);
    put_nibbles(&mut block[4..], x, |v| (v - low) * inv + 0.5);
}

pub(super) fn encode_q8_0(x: &[f32], block: &mut [u8]) {
    let d = x.iter().fold(0.0f32, |m, v| m.max(v.abs())) / 127.0;
    put_half(block, 0, d);
    let inv = inverse(d);
    for (q, v) in block[2..].iter_mut().zip(x) {
        *q = (v * inv).round() as i8 as u8;
    }
}
