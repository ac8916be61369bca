//! Matrix products of every weight type.

use super::{Rng, at_every_level, nmse};
use crate::activation::{ActBlock, act_blocks, act_row};
use crate::kernels::Kernels;
use crate::kernels::matmul::{Input, MatmulArgs, Output, Weights};
use crate::memory::AlignedBytes;
use crate::pack::{PackArgs, groups_of, pack, packed_bytes};
use aio_ir::DType;
use aio_ir::quant::{dequantize, quantize_q8};
use bytemuck::Zeroable;
use half::f16;

const SEED: u64 = 11;

/// Random bytes of a weight matrix with scales of sane size.
fn random_weights(dtype: DType, rows: usize, cols: usize, rng: &mut Rng) -> Vec<u8> {
    let halves: &[usize] = match dtype {
        DType::Q2K => &[80, 82],
        DType::Q3K => &[108],
        DType::Q6K => &[208],
        DType::Q4K | DType::Q5K | DType::Q4_1 | DType::Q5_1 => &[0, 2],
        _ => &[0],
    };
    let mut bytes = vec![0; dtype.row_bytes(cols as u64).unwrap() as usize * rows];
    for block in bytes.chunks_exact_mut(dtype.block_bytes()) {
        for byte in block.iter_mut() {
            *byte = rng.next() as u8;
        }
        let value = rng.normal() * 0.02;
        match dtype {
            DType::F32 => block.copy_from_slice(&value.to_le_bytes()),
            DType::BF16 => block.copy_from_slice(&half::bf16::from_f32(value).to_le_bytes()),
            _ => {
                for &at in halves {
                    let v = f16::from_f32(rng.normal() * 0.02);
                    block[at..at + 2].copy_from_slice(&v.to_le_bytes());
                }
            }
        }
    }
    bytes
}

struct Case {
    dtype: DType,
    rows: usize,
    cols: usize,
    packed: AlignedBytes,
    dense: Vec<f32>,
}

impl Case {
    fn new(dtype: DType, rows: usize, cols: usize) -> Case {
        let source = random_weights(dtype, rows, cols, &mut Rng(SEED));
        let mut dense = vec![0.0; rows * cols];
        dequantize(dtype, &source, &mut dense).unwrap();
        let mut packed = AlignedBytes::zeroed(packed_bytes(dtype, rows, cols).unwrap());
        let groups = 0..groups_of(rows);
        pack(&PackArgs { dtype, rows, cols, source: &source, groups }, &mut packed).unwrap();
        Case { dtype, rows, cols, packed, dense }
    }

    /// Results of `m` rows, two group ranges, with a residual of 0.25 if asked; 0.5 stays beyond what is written.
    fn run(&self, kernels: &Kernels, x: &[f32], m: usize, residual: bool) -> Vec<f32> {
        let stride = self.rows + 3;
        let mut y = vec![0.5f32; m * stride];
        let blocks = quantize(x, m, self.cols);
        let input = if self.dtype.is_quantized() { Input::Quantized(&blocks) } else { Input::Plain(x) };
        let weights = Weights { dtype: self.dtype, rows: self.rows, cols: self.cols, packed: &self.packed };
        let output = Output { start: y.as_mut_ptr(), stride };
        let quarters = vec![0.25f32; m * stride];
        let residual = residual.then_some(&quarters[..]);
        let all = groups_of(self.rows);
        for groups in [0..all / 2, all / 2..all] {
            let args = MatmulArgs { weights, input, rows: m, groups, bias: None, residual, output };
            // SAFETY: `y` has `m` rows of `stride` floats and only this thread uses it.
            unsafe { kernels.matmul(&args) };
        }
        let (rows, tails): (Vec<_>, Vec<_>) = y.chunks_exact(stride).map(|r| r.split_at(self.rows)).unzip();
        assert!(tails.iter().all(|t| *t == [0.5; 3]), "nothing is written beyond a row");
        rows.concat()
    }

    /// The product with quantised activations in f64.
    fn reference(&self, x: &[f32], m: usize) -> Vec<f64> {
        let x: Vec<f32> = if self.dtype.is_quantized() {
            let blocks = x.chunks_exact(32).map(|b| quantize_q8(b.try_into().unwrap()));
            blocks.flat_map(|b| b.q.map(|q| b.d * f32::from(q))).collect()
        } else {
            x.to_vec()
        };
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        let rows = x.chunks_exact(self.cols).take(m);
        rows.flat_map(|x| self.dense.chunks_exact(self.cols).map(move |w| dot(x, w))).collect()
    }
}

fn quantize(x: &[f32], m: usize, cols: usize) -> Vec<ActBlock> {
    let mut blocks = vec![ActBlock::zeroed(); act_blocks(m, cols)];
    for (row, x) in x.chunks_exact(cols).take(m).enumerate() {
        let (first, stride) = act_row(row, m, cols);
        for (b, x) in x.chunks_exact(32).enumerate() {
            blocks[first + b * stride] = quantize_q8(x.try_into().unwrap()).into();
        }
    }
    blocks
}

fn float_types() -> impl Iterator<Item = DType> {
    DType::ALL.iter().copied().filter(|t| t.is_float())
}

/// Column counts: one block, an odd number of blocks; plain types any number.
fn col_counts(dtype: DType) -> [usize; 2] {
    match dtype.block_elems() {
        1 => [7, 130],
        32 => [32, 32 * 7],
        elems => [elems, 3 * elems],
    }
}

#[test]
fn products_of_every_type_agree_with_the_reference() {
    at_every_level("products", |kernels| {
        for dtype in float_types() {
            for (rows, cols) in [(1, col_counts(dtype)[0]), (53, col_counts(dtype)[1])] {
                let case = Case::new(dtype, rows, cols);
                for m in [1, 3, 16, 21] {
                    let x = Rng(SEED + 1).normals(m * cols);
                    let error = nmse(&case.run(kernels, &x, m, false), &case.reference(&x, m));
                    let level = kernels.isa().level();
                    assert!(error < 1e-10, "{dtype} {rows}x{cols} m {m} at {level}, seed {SEED}: {error:e}");
                }
            }
        }
    });
}

#[test]
fn a_row_has_the_same_bits_in_every_batch() {
    at_every_level("row independence", |kernels| {
        for dtype in float_types() {
            let cols = col_counts(dtype)[1];
            let case = Case::new(dtype, 85, cols);
            let x = Rng(SEED + 2).normals(80 * cols);
            let alone: Vec<Vec<f32>> = x.chunks_exact(cols).map(|row| case.run(kernels, row, 1, false)).collect();
            for m in (1..=33).chain([80]) {
                let together = case.run(kernels, &x, m, false);
                for (row, y) in together.chunks_exact(85).enumerate() {
                    let equal = y.iter().zip(&alone[row]).all(|(a, b)| a.to_bits() == b.to_bits());
                    let level = kernels.isa().level();
                    assert!(equal, "{dtype} at {level}: row {row} of {m} differs, seed {SEED}");
                }
            }
        }
    });
}

#[test]
fn the_residual_is_added() {
    at_every_level("residual", |kernels| {
        // Five groups: one alone and two pairs, the last of which is cut short.
        let case = Case::new(DType::Q4_1, 75, 64);
        let x = Rng(SEED).normals(17 * 64);
        for m in [1, 2, 7, 17] {
            let (plain, added) = (case.run(kernels, &x, m, false), case.run(kernels, &x, m, true));
            assert!(plain.iter().zip(&added).all(|(p, a)| (p + 0.25).to_bits() == a.to_bits()), "{m} rows");
        }
    });
}
