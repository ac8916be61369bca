//! Scalar reference decoders of every float element type, and the activation quantiser.
//!
//! This is the one definition of what a weight's bytes mean, shared by kernels, interpreter and tests. It is written to
//! be read and checked, not to be fast. Called by the interpreter, by the packing of back ends and by their tests.

mod activation;
mod kquants;
mod legacy32;
mod plain;

pub use activation::{Q8_BLOCK, Q8Block, quantize_q8};
pub use kquants::{k4_scale_min, q3_scales};
pub use legacy32::IQ4_NL_VALUES;

use crate::DType;

/// Why a buffer could not be decoded or encoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantError {
    /// The type is not a float type.
    #[error("{dtype} holds no real numbers")]
    NotFloat {
        /// The requested type.
        dtype: DType,
    },
    /// This module has no encoder for the type.
    #[error("no encoder for {dtype}")]
    NoEncoder {
        /// The requested type.
        dtype: DType,
    },
    /// The number of elements is not a whole number of blocks.
    #[error("{elems} elements are not a whole number of {dtype} blocks")]
    PartialBlock {
        /// The requested type.
        dtype: DType,
        /// Elements on the f32 side.
        elems: usize,
    },
    /// The byte buffer does not match the number of elements.
    #[error("{elems} elements of {dtype} take {expected} bytes, not {got}")]
    ByteLength {
        /// The requested type.
        dtype: DType,
        /// Elements on the f32 side.
        elems: usize,
        /// Bytes that these elements take.
        expected: u64,
        /// Bytes given.
        got: usize,
    },
}

fn check(dtype: DType, elems: usize, bytes: usize) -> Result<(), QuantError> {
    if !dtype.is_float() {
        return Err(QuantError::NotFloat { dtype });
    }
    let expected = dtype.row_bytes(elems as u64).ok_or(QuantError::PartialBlock { dtype, elems })?;
    if expected != bytes as u64 {
        return Err(QuantError::ByteLength { dtype, elems, expected, got: bytes });
    }
    Ok(())
}

/// Decodes `bytes`, whole blocks of `dtype`, into `out`, in order.
///
/// Each product and sum is rounded to f32 separately, as in the Python package gguf.
pub fn dequantize(dtype: DType, bytes: &[u8], out: &mut [f32]) -> Result<(), QuantError> {
    check(dtype, out.len(), bytes.len())?;
    let block_fn: fn(&[u8], &mut [f32]) = match dtype {
        DType::F32 => plain::decode_f32,
        DType::F16 => plain::decode_f16,
        DType::BF16 => plain::decode_bf16,
        DType::Q4_0 => legacy32::decode_q4_0,
        DType::Q4_1 => legacy32::decode_q4_1,
        DType::Q5_0 => legacy32::decode_q5_0,
        DType::Q5_1 => legacy32::decode_q5_1,
        DType::Q8_0 => legacy32::decode_q8_0,
        DType::IQ4NL => legacy32::decode_iq4_nl,
        DType::Q2K => kquants::decode_q2_k,
        DType::Q3K => kquants::decode_q3_k,
        DType::Q4K => kquants::decode_q4_k,
        DType::Q5K => kquants::decode_q5_k,
        DType::Q6K => kquants::decode_q6_k,
        DType::I32 | DType::U32 | DType::I8 | DType::U8 | DType::Bool => {
            return Err(QuantError::NotFloat { dtype });
        }
    };
    let blocks = bytes.chunks_exact(dtype.block_bytes());
    for (block, y) in blocks.zip(out.chunks_exact_mut(dtype.block_elems())) {
        block_fn(block, y);
    }
    Ok(())
}

/// Whether [`encode`] can write the type.
pub fn has_encoder(dtype: DType) -> bool {
    encoder(dtype).is_some()
}

/// Encodes one block.
type Encoder = fn(&[f32], &mut [u8]);

fn encoder(dtype: DType) -> Option<Encoder> {
    match dtype {
        DType::F32 => Some(plain::encode_f32),
        DType::F16 => Some(plain::encode_f16),
        DType::BF16 => Some(plain::encode_bf16),
        DType::Q4_0 => Some(legacy32::encode_q4_0),
        DType::Q4_1 => Some(legacy32::encode_q4_1),
        DType::Q8_0 => Some(legacy32::encode_q8_0),
        _ => None,
    }
}

/// Encodes `values` as whole blocks of `dtype` with ggml's rounding.
///
/// Only f32, f16, bf16, q4_0, q4_1 and q8_0 have an encoder. It is for tests and synthetic models, and does not search
/// for better scales.
pub fn encode(dtype: DType, values: &[f32], out: &mut [u8]) -> Result<(), QuantError> {
    check(dtype, values.len(), out.len())?;
    let block_fn = encoder(dtype).ok_or(QuantError::NoEncoder { dtype })?;
    let blocks = out.chunks_exact_mut(dtype.block_bytes());
    for (x, block) in values.chunks_exact(dtype.block_elems()).zip(blocks) {
        block_fn(x, block);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
