//! Conversion of elements of any plain type to and from f32 or i64, the types the oracle computes in.
//!
//! Ops without a dedicated kernel for a type run on pieces of a few hundred elements in these forms.

use aio_ir::{DType, quant};
use half::{bf16, f16};

/// Maximum elements of a piece.
pub(crate) const PIECE: usize = 256;

/// One integer element.
pub(crate) fn index_at(dtype: DType, bytes: &[u8], i: usize) -> i64 {
    let word = || u32::from_le_bytes([bytes[4 * i], bytes[4 * i + 1], bytes[4 * i + 2], bytes[4 * i + 3]]);
    match dtype {
        DType::I32 => i64::from(word() as i32),
        DType::U32 => i64::from(word()),
        DType::I8 => i64::from(bytes[i] as i8),
        _ => i64::from(bytes[i]),
    }
}

/// Elements `at`, `at + stride`, ... of a plain tensor as f32.
pub(crate) fn load_floats(dtype: DType, bytes: &[u8], at: usize, stride: usize, out: &mut [f32]) {
    let half = |i: usize| [bytes[2 * i], bytes[2 * i + 1]];
    match dtype {
        DType::F32 => spread(bytemuck::cast_slice(bytes), at, stride, out),
        DType::F16 => each(at, stride, out, |i| f16::from_le_bytes(half(i)).to_f32()),
        DType::BF16 => each(at, stride, out, |i| bf16::from_le_bytes(half(i)).to_f32()),
        _ => each(at, stride, out, |i| index_at(dtype, bytes, i) as f32),
    }
}

/// Elements `at`, `at + stride`, ... of a tensor of integers.
pub(crate) fn load_ints(dtype: DType, bytes: &[u8], at: usize, stride: usize, out: &mut [i64]) {
    each(at, stride, out, |i| index_at(dtype, bytes, i));
}

fn spread(x: &[f32], at: usize, stride: usize, out: &mut [f32]) {
    match stride {
        0 => out.fill(x[at]),
        1 => out.copy_from_slice(&x[at..at + out.len()]),
        _ => each(at, stride, out, |i| x[i]),
    }
}

fn each<T>(at: usize, stride: usize, out: &mut [T], get: impl Fn(usize) -> T) {
    for (i, out) in out.iter_mut().enumerate() {
        *out = get(at + i * stride);
    }
}

/// Rounds f32 to a plain float type.
pub(crate) fn store_floats(dtype: DType, values: &[f32], out: &mut [u8]) {
    if dtype == DType::F32 {
        return out.copy_from_slice(bytemuck::cast_slice(values));
    }
    quant::encode(dtype, values, out).expect("plain float types have encoders");
}

/// Stores integers, truncated to the type's width.
pub(crate) fn store_ints(dtype: DType, values: &[i64], out: &mut [u8]) {
    match dtype {
        DType::I32 | DType::U32 => {
            for (v, out) in values.iter().zip(out.as_chunks_mut::<4>().0) {
                *out = (*v as u32).to_le_bytes();
            }
        }
        DType::Bool => {
            for (v, out) in values.iter().zip(out) {
                *out = (*v & 1) as u8;
            }
        }
        _ => {
            for (v, out) in values.iter().zip(out) {
                *out = *v as u8;
            }
        }
    }
}

/// Truncates and saturates, as Rust's `as` does.
pub(crate) fn saturate(dtype: DType, v: f64) -> i64 {
    match dtype {
        DType::I32 => i64::from(v as i32),
        DType::U32 => i64::from(v as u32),
        DType::I8 => i64::from(v as i8),
        DType::U8 => i64::from(v as u8),
        _ => i64::from(v != 0.0),
    }
}
