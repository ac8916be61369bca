//! Packed steps, decoded according to the README alone, have the values of the model file.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::*;
use half::f16;

/// Pseudo-random bytes whose f16 fields are small numbers.
fn matrix_bytes(dtype: DType, rows: usize, cols: usize) -> Vec<u8> {
    let len = rows * dtype.row_bytes(cols as u64).unwrap() as usize;
    let mut state = 0x9E37_79B9u32;
    let mut bytes: Vec<u8> = (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect();
    let halves: &[usize] = match dtype {
        DType::Q4_1 | DType::Q4K => &[0, 2],
        DType::Q6K => &[208],
        DType::Q8_0 | DType::Q4_0 => &[0],
        _ => &[],
    };
    for (i, block) in bytes.chunks_exact_mut(dtype.block_bytes()).enumerate() {
        for &at in halves {
            block[at..at + 2].copy_from_slice(&f16::from_f32(0.01 * (1 + i % 7 + at) as f32).to_le_bytes());
        }
        match dtype {
            DType::F32 => block.copy_from_slice(&(i as f32 * 0.37 - 100.0).to_le_bytes()),
            DType::BF16 | DType::F16 => block[1] &= 0x3F,
            _ => {}
        }
    }
    bytes
}

fn float(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// Offset of a tile's element in a fragment of 16 columns.
fn at16(r: usize, c: usize) -> usize {
    16 * (4 * (r % 8) + c % 8 / 2) + 4 * (r / 8 + 2 * (c / 8)) + 2 * (c % 2)
}

/// Offset of a tile's element in a fragment of 32 columns.
fn at8(r: usize, c: usize) -> usize {
    16 * (4 * (r % 8) + c % 16 / 4) + 4 * (r / 8 + 2 * (c / 16)) + c % 4
}

/// The value at row r and column c of a step.
fn value(format: Format, step: &[u8], r: usize, c: usize) -> f32 {
    let (g, h, b) = (r % 8, r / 8, c / 32);
    let nibble = || f32::from(step[512 * (c / 64) + at8(r, c % 32)] >> (4 * (c / 32 % 2)) & 15);
    match format {
        Format::Bf16 | Format::F16 => {
            let at = 512 * (c / 16) + at16(r, c % 16);
            let bits = u16::from_le_bytes([step[at], step[at + 1]]);
            if format == Format::F16 { f16::from_bits(bits).to_f32() } else { bf16::from_bits(bits).to_f32() }
        }
        Format::Q8_0 => float(step, 1024 + 32 * b + 4 * g + 2 * h) * f32::from(step[512 * b + at8(r, c % 32)] as i8),
        Format::Q4_0 => float(step, 512 + 32 * b + 4 * g + 2 * h) * (nibble() - 8.0),
        Format::Q4_1 => {
            let at = 512 + 64 * b + 8 * g + 2 * h;
            float(step, at) * nibble() + float(step, at + 4)
        }
        Format::Q4K => {
            let (small, d) = (2048 + 32 * g + 16 * h, 2304 + 8 * g + 2 * h);
            let (scale, minimum) = (f32::from(step[small + b]), f32::from(step[small + 8 + b]));
            float(step, d) * scale * nibble() - float(step, d + 4) * minimum
        }
        Format::Q6K => {
            let high = step[1024 + at8(r, c % 32)] >> (2 * b) & 3;
            let scale = f32::from(step[1536 + 16 * g + 8 * h + c / 16] as i8);
            float(step, 1664 + 4 * g + 2 * h) * scale * (nibble() + 16.0 * f32::from(high) - 32.0)
        }
    }
}

#[test]
fn packed_matrices_have_the_values_of_the_file() {
    for dtype in [DType::BF16, DType::F16, DType::Q8_0, DType::Q4_0, DType::Q4_1, DType::Q4K, DType::Q6K] {
        for (rows, cols) in [(37, 256), (16, 512), (1, if dtype.block_elems() == 256 { 768 } else { 96 })] {
            let bytes = matrix_bytes(dtype, rows, cols);
            let mut want = vec![0.0; rows * cols];
            quant::dequantize(dtype, &bytes, &mut want).unwrap();
            let form = Form::of(dtype).unwrap();
            let format = form.format();
            let mut out = vec![0xEE; form.bytes(rows, cols)];
            pack(Matrix { dtype, rows, cols, bytes: &bytes }, form, 3, &mut out);
            let steps = cols.div_ceil(format.step_cols());
            for (i, want) in want.iter().enumerate() {
                let (row, col) = (i / cols, i % cols);
                let step = row / 16 * steps + col / format.step_cols();
                let step = &out[step * format.step_bytes()..][..format.step_bytes()];
                let got = value(format, step, row % 16, col % format.step_cols());
                assert_eq!(got, *want, "{dtype} [{rows}, {cols}] at {row}, {col}");
            }
        }
    }
}

#[test]
fn what_lies_beyond_the_matrix_is_zero() {
    for dtype in [DType::BF16, DType::Q8_0, DType::Q4_1, DType::Q4K, DType::Q6K, DType::F32] {
        let cols = dtype.block_elems().max(32);
        let bytes = vec![0x11; dtype.row_bytes(cols as u64).unwrap() as usize];
        let form = Form::of(dtype).unwrap();
        let mut out = vec![0xEE; form.bytes(1, cols)];
        pack(Matrix { dtype, rows: 1, cols, bytes: &bytes }, form, 1, &mut out);
        // Row 1 is lane group 1, whose first lane is lane 4.
        let (lane, used) = (&out[4 * 16..8 * 16], &out[..16]);
        assert!(lane.iter().all(|&b| b == 0), "{dtype}");
        assert!(used.iter().any(|&b| b != 0), "{dtype}");
    }
}

#[test]
fn other_types_keep_sixteen_bits() {
    for dtype in [DType::F32, DType::Q5_0] {
        let (rows, cols) = (3, 96);
        let bytes = match dtype {
            DType::F32 => matrix_bytes(dtype, rows, cols),
            _ => vec![0x2c; rows * dtype.row_bytes(cols as u64).unwrap() as usize],
        };
        let mut want = vec![0.0; rows * cols];
        quant::dequantize(dtype, &bytes, &mut want).unwrap();
        assert_eq!(Form::of(dtype), Some(Form::Split));
        let mut out = vec![0; Form::Split.bytes(rows, cols)];
        pack(Matrix { dtype, rows, cols, bytes: &bytes }, Form::Split, 2, &mut out);
        let at = |r: usize, c: usize| value(Format::Bf16, &out[c / 64 * 2048..], r, c % 64);
        for (i, want) in want.iter().enumerate() {
            let (r, c) = (i / cols, i % cols);
            let got = at(r, c) + at(r, cols + c);
            assert!((got - want).abs() <= want.abs() / 131_072.0, "{dtype} {r}, {c}: {got} for {want}");
        }
    }
    assert_eq!(Form::of(DType::I32), None);
}
