//! Packing: planes read back as written, padding is zero, wrong lengths are refused.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::*;
use crate::format::Codes;

#[test]
fn planes_round_trip() {
    for (codes, limit) in [
        (Codes::Nibble, 16),
        (Codes::Five, 32),
        (Codes::Six, 64),
        (Codes::Three, 8),
        (Codes::Two, 4),
        (Codes::Byte, 256),
    ] {
        let mut vectors = [[0u8; 64]; 8];
        for (i, code) in vectors.as_flattened_mut().iter_mut().enumerate() {
            *code = (i.wrapping_mul(2_654_435_761) >> 7) as u8 & (limit - 1) as u8;
        }
        let mut bytes = vec![0xAA; codes.bytes()];
        planes::write(codes, &vectors, &mut bytes);
        assert_eq!(planes::read(codes, &bytes), vectors, "{codes:?}");
    }
}

#[test]
fn the_packed_form_is_about_as_small_as_the_file() {
    for &dtype in DType::ALL.iter().filter(|t| t.is_float()) {
        let file = dtype.row_bytes(256).unwrap() * 16;
        let packed = group_bytes(dtype, 256).unwrap() as u64;
        assert!(packed >= file && packed * 25 <= file * 26, "{dtype}: {packed} for {file}");
    }
}

#[test]
fn missing_rows_are_zero_and_chunks_equal_the_whole() {
    let (rows, cols, dtype) = (35, 64, DType::Q5_1);
    let source: Vec<u8> = (0..rows * 48).map(|i| (i * 37 % 251) as u8).collect();
    let args = |groups| PackArgs { dtype, rows, cols, source: &source, groups };
    let mut whole = vec![1; packed_bytes(dtype, rows, cols).unwrap()];
    pack(&args(0..3), &mut whole).unwrap();
    let mut last = vec![2; whole.len() / 3];
    pack(&args(2..3), &mut last).unwrap();
    assert_eq!(last, whole[2 * whole.len() / 3..]);
    assert_eq!(&last[6..32], &[0; 26], "scales of rows 35.. are zero");
    let mut bf16 = vec![7; 2 * 16 * 2];
    let args = PackArgs { dtype: DType::BF16, rows: 1, cols: 2, source: &[1, 2, 3, 4], groups: 0..1 };
    pack(&args, &mut bf16).unwrap();
    assert_eq!((&bf16[..4], &bf16[32..36]), (&[1, 2, 0, 0][..], &[3, 4, 0, 0][..]));
}

#[test]
fn wrong_shapes_are_refused() {
    let mut out = [0; 4];
    let args = PackArgs { dtype: DType::Q4K, rows: 1, cols: 32, source: &[], groups: 0..1 };
    assert_eq!(pack(&args, &mut out), Err(PackError::NoForm { dtype: DType::Q4K, cols: 32 }));
    let args = PackArgs { dtype: DType::F32, rows: 1, cols: 1, source: &[0; 3], groups: 0..1 };
    let refused = PackError::Length { what: "the source matrix", expected: 4, got: 3 };
    assert_eq!(pack(&args, &mut out), Err(refused));
}
