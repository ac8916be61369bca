//! Compares the decoders with the Python package gguf 0.19.0.
//!
//! `testdata/<type>.blocks` are random blocks with reasonable f16 scales (seed 20240607), `.f32` their output of
//! `gguf.quants.dequantize`; `.encoded` is `gguf.quants.quantize` of `encode.input`. Checked in, so that the test needs
//! no Python.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::*;

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn data(name: &str) -> Vec<u8> {
    let path = format!("{}/src/quant/testdata/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn every_float_type_decodes_as_gguf_does() {
    for &dtype in DType::ALL.iter().filter(|t| t.is_float() && **t != DType::F32) {
        let expected = floats(&data(&format!("{dtype}.f32")));
        let mut got = vec![f32::NAN; expected.len()];
        dequantize(dtype, &data(&format!("{dtype}.blocks")), &mut got).unwrap();
        for (i, (g, e)) in got.iter().zip(&expected).enumerate() {
            // Compared as numbers: gguf writes -0 where a product gives +0.
            assert!(g == e, "{dtype} element {i}: {g} is not {e}");
        }
    }
}

#[test]
fn encoders_agree_with_gguf() {
    let input = floats(&data("encode.input"));
    for dtype in [DType::F16, DType::BF16, DType::Q4_0, DType::Q4_1, DType::Q8_0] {
        let expected = data(&format!("{dtype}.encoded"));
        let mut got = vec![0; expected.len()];
        encode(dtype, &input, &mut got).unwrap();
        let differing = got.iter().zip(&expected).filter(|(g, e)| g != e).count();
        assert_eq!(differing, 0, "{dtype}");
    }
}

#[test]
fn f32_round_trips() {
    let x = [1.5, -0.0, f32::INFINITY];
    let (mut bytes, mut y) = ([0; 12], [0.0; 3]);
    encode(DType::F32, &x, &mut bytes).unwrap();
    dequantize(DType::F32, &bytes, &mut y).unwrap();
    assert_eq!(x.map(f32::to_bits), y.map(f32::to_bits));
}

#[test]
fn wrong_lengths_and_types_are_refused() {
    let mut y = [0.0; 33];
    let dtype = DType::Q4_0;
    let partial = QuantError::PartialBlock { dtype, elems: 33 };
    assert_eq!(dequantize(dtype, &[0; 18], &mut y), Err(partial));
    let short = QuantError::ByteLength { dtype, elems: 32, expected: 18, got: 17 };
    assert_eq!(dequantize(dtype, &[0; 17], &mut y[..32]), Err(short));
    let dtype = DType::U8;
    assert_eq!(dequantize(dtype, &[0], &mut y[..1]), Err(QuantError::NotFloat { dtype }));
    let dtype = DType::Q6K;
    assert_eq!(encode(dtype, &[0.0; 256], &mut [0; 210]), Err(QuantError::NoEncoder { dtype }));
}

#[test]
fn activations_round_half_to_even_and_zero_stays_zero() {
    let mut x = [0.0; Q8_BLOCK];
    assert_eq!(quantize_q8(&x), Q8Block { d: 0.0, q: [0; Q8_BLOCK], sum: 0 });
    (x[0], x[1], x[2], x[3]) = (127.0, 2.5, -3.5, -127.0);
    let block = quantize_q8(&x);
    assert_eq!((block.d, &block.q[..5], block.sum), (1.0, &[127, 2, -4, -127, 0][..], -2));
    x[9] = f32::NAN;
    assert!(quantize_q8(&x).d.is_nan());
    assert_eq!(quantize_q8(&[1e-40; Q8_BLOCK]).d, 0.0);
}
