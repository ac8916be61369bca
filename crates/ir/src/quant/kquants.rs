//! The k-quants: super-blocks of 256 elements whose small scales are themselves quantised.
//!
//! Elements are stored in runs of 32 that share bytes, one run per bit position: a byte of 2-bit codes holds elements
//! `l`, `l + 32`, `l + 64`, `l + 96` of its half. Called by `super::dequantize` with one super-block at a time; packing
//! reuses the scale readers.

use half::f16;

fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Two bits of element `i` (0..256) in 64 bytes of 2-bit codes.
fn crumb(qs: &[u8], i: usize) -> u8 {
    let (half, run, l) = (i / 128, i / 32 % 4, i % 32);
    qs[32 * half + l] >> (2 * run) & 3
}

/// Four bits of element `i` (0..256) in the 128 bytes of q4_k and q5_k.
fn nibble64(qs: &[u8], i: usize) -> u8 {
    let (chunk, high, l) = (i / 64, i / 32 % 2, i % 32);
    qs[32 * chunk + l] >> (4 * high) & 15
}

/// 6-bit scale and minimum of run `j` (0..8) in the 12 scale bytes of q4_k and q5_k.
pub fn k4_scale_min(scales: &[u8], j: usize) -> (u8, u8) {
    if j < 4 {
        return (scales[j] & 63, scales[j + 4] & 63);
    }
    let low = scales[j + 4];
    ((low & 15) | (scales[j - 4] >> 6) << 4, (low >> 4) | (scales[j] >> 6) << 4)
}

/// The 16 signed scales (-32..=31) in the 12 scale bytes of q3_k.
pub fn q3_scales(scales: &[u8]) -> [i8; 16] {
    std::array::from_fn(|j| {
        let low = scales[j % 8] >> (4 * (j / 8)) & 15;
        let high = scales[8 + j % 4] >> (2 * (j / 4)) & 3;
        (low | high << 4) as i8 - 32
    })
}

pub(super) fn decode_q2_k(block: &[u8], y: &mut [f32]) {
    let (scales, qs) = (&block[..16], &block[16..80]);
    let (d, dmin) = (half_at(block, 80), half_at(block, 82));
    for (i, y) in y.iter_mut().enumerate() {
        let s = scales[i / 16];
        *y = d * f32::from(s & 15) * f32::from(crumb(qs, i)) - dmin * f32::from(s >> 4);
    }
}

pub(super) fn decode_q3_k(block: &[u8], y: &mut [f32]) {
    let (high, qs) = (&block[..32], &block[32..96]);
    let scales = q3_scales(&block[96..108]);
    let d = half_at(block, 108);
    for (i, y) in y.iter_mut().enumerate() {
        let third = high[i % 32] >> (i / 32) & 1;
        let q = (crumb(qs, i) | third << 2) as i8 - 4;
        *y = d * f32::from(scales[i / 16]) * f32::from(q);
    }
}

pub(super) fn decode_q4_k(block: &[u8], y: &mut [f32]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    let (scales, qs) = (&block[4..16], &block[16..]);
    for (i, y) in y.iter_mut().enumerate() {
        let (s, m) = k4_scale_min(scales, i / 32);
        *y = d * f32::from(s) * f32::from(nibble64(qs, i)) - dmin * f32::from(m);
    }
}

pub(super) fn decode_q5_k(block: &[u8], y: &mut [f32]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    let (scales, high, qs) = (&block[4..16], &block[16..48], &block[48..]);
    for (i, y) in y.iter_mut().enumerate() {
        let (s, m) = k4_scale_min(scales, i / 32);
        let fifth = high[i % 32] >> (i / 32) & 1;
        let q = nibble64(qs, i) | fifth << 4;
        *y = d * f32::from(s) * f32::from(q) - dmin * f32::from(m);
    }
}

pub(super) fn decode_q6_k(block: &[u8], y: &mut [f32]) {
    let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let d = half_at(block, 208);
    for (i, y) in y.iter_mut().enumerate() {
        let (half, run, l) = (i / 128, i / 32 % 4, i % 32);
        let nibble = low[64 * half + 32 * (run % 2) + l] >> (4 * (run / 2)) & 15;
        let q = (nibble | crumb(high, i) << 4) as i8 - 32;
        *y = d * f32::from(scales[i / 16] as i8) * f32::from(q);
    }
}
