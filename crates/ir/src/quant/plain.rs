//! Plain types: one element per block, little-endian.
//!
//! Separate from the block formats because back ends multiply these weights with f32 activations. Called by
//! `super::dequantize` and `super::encode` with one element at a time.

use half::{bf16, f16};

pub(super) fn decode_f32(block: &[u8], y: &mut [f32]) {
    y[0] = f32::from_le_bytes([block[0], block[1], block[2], block[3]]);
}

pub(super) fn decode_f16(block: &[u8], y: &mut [f32]) {
    y[0] = f16::from_le_bytes([block[0], block[1]]).to_f32();
}

pub(super) fn decode_bf16(block: &[u8], y: &mut [f32]) {
    y[0] = bf16::from_le_bytes([block[0], block[1]]).to_f32();
}

pub(super) fn encode_f32(x: &[f32], block: &mut [u8]) {
    block.copy_from_slice(&x[0].to_le_bytes());
}

pub(super) fn encode_f16(x: &[f32], block: &mut [u8]) {
    block.copy_from_slice(&f16::from_f32(x[0]).to_le_bytes());
}

pub(super) fn encode_bf16(x: &[f32], block: &mut [u8]) {
    block.copy_from_slice(&bf16::from_f32(x[0]).to_le_bytes());
}
