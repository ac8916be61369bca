//! Packing: converts the blocks of a model file to the tiles that tensor cores read (`kernels/cuda/README.md`,
//! "Weights").
//!
//! A pure function of a matrix, distributed over threads by tiles of 16 rows. Called at upload, once per matrix.

mod source;

use crate::format::{Form, Format, TILE_ROWS};
use aio_backend::threads::work_together;
use aio_ir::{DType, quant};
use half::bf16;
use source::{half_at, run_codes};
use std::sync::{Mutex, PoisonError};

/// Maximum columns of a step.
const MAX_COLS: usize = 256;
/// Bytes of a fragment.
const FRAGMENT: usize = 512;

/// A weight matrix as the model file stores it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    pub dtype: DType,
    pub rows: usize,
    pub cols: usize,
    /// Row-major bytes, `rows` times those of `cols` elements.
    pub bytes: &'a [u8],
}

impl<'a> Matrix<'a> {
    /// The bytes of row `r`; `None` past the last row.
    fn row(&self, r: usize) -> Option<&'a [u8]> {
        let len = self.cols / self.dtype.block_elems() * self.dtype.block_bytes();
        (r < self.rows).then(|| &self.bytes[r * len..][..len])
    }
}

/// Packs a matrix into `out`, of [`Form::bytes`] bytes, with several threads.
pub(crate) fn pack(matrix: Matrix<'_>, form: Form, threads: usize, out: &mut [u8]) {
    let tile = form.tile_bytes(matrix.cols).max(1);
    let tiles = out.len() / tile;
    let share = tiles.div_ceil(threads.max(1)).max(1);
    let parts = Mutex::new(out.chunks_mut(share * tile).enumerate());
    let next = || parts.lock().unwrap_or_else(PoisonError::into_inner).next();
    work_together(threads.min(tiles.div_ceil(share)), || {
        while let Some((i, part)) = next() {
            for (t, out) in part.chunks_exact_mut(tile).enumerate() {
                pack_tile(matrix, form, (i * share + t) * TILE_ROWS, out);
            }
        }
    });
}

/// Packs the 16 rows from `first` on.
fn pack_tile(matrix: Matrix<'_>, form: Form, first: usize, out: &mut [u8]) {
    out.fill(0);
    let rows: [Option<&[u8]>; TILE_ROWS] = std::array::from_fn(|r| matrix.row(first + r));
    match form {
        Form::Split => pack_split(matrix, &rows, out),
        Form::Same(format @ (Format::Bf16 | Format::F16)) => {
            let element = |row: &[u8], c: usize| u16::from_le_bytes([row[2 * c], row[2 * c + 1]]);
            for (s, step) in out.chunks_exact_mut(format.step_bytes()).enumerate() {
                fragments16(step, |r, c| {
                    let c = s * format.step_cols() + c;
                    rows[r].filter(|_| c < matrix.cols).map_or(0, |row| element(row, c))
                });
            }
        }
        Form::Same(format) => {
            for (s, step) in out.chunks_exact_mut(format.step_bytes()).enumerate() {
                pack_step(matrix, format, &rows, s * format.step_cols(), step);
            }
        }
    }
}

/// Packs the nearest bf16 numbers of each row, followed by those of the remainder.
fn pack_split(matrix: Matrix<'_>, rows: &[Option<&[u8]>; TILE_ROWS], out: &mut [u8]) {
    let cols = matrix.cols;
    let mut halves = vec![0u16; TILE_ROWS * 2 * cols];
    let mut values = vec![0f32; cols];
    for (row, halves) in rows.iter().zip(halves.chunks_exact_mut((2 * cols).max(1))) {
        let Some(row) = row else { continue };
        quant::dequantize(matrix.dtype, row, &mut values).expect("`Matrix::row` gives whole blocks of a float type");
        let (high, low) = halves.split_at_mut(cols);
        for ((&x, high), low) in values.iter().zip(high).zip(low) {
            let nearest = bf16::from_f32(x);
            *high = nearest.to_bits();
            // The remainder of an infinity is not a number.
            let left = if nearest.is_finite() { x - nearest.to_f32() } else { 0.0 };
            *low = bf16::from_f32(left).to_bits();
        }
    }
    for (s, step) in out.chunks_exact_mut(Format::Bf16.step_bytes()).enumerate() {
        fragments16(step, |r, c| {
            let c = s * Format::Bf16.step_cols() + c;
            if c < 2 * cols { halves[r * 2 * cols + c] } else { 0 }
        });
    }
}

/// Four fragments of 16 columns of 16-bit elements.
fn fragments16(step: &mut [u8], element: impl Fn(usize, usize) -> u16) {
    for (f, fragment) in step.chunks_exact_mut(FRAGMENT).enumerate() {
        for (i, word) in fragment.chunks_exact_mut(4).enumerate() {
            let (lane, j) = (i / 4, i % 4);
            let (r, c) = (lane / 4 + 8 * (j % 2), 16 * f + 2 * (lane % 4) + 8 * (j / 2));
            word[..2].copy_from_slice(&element(r, c).to_le_bytes());
            word[2..].copy_from_slice(&element(r, c + 1).to_le_bytes());
        }
    }
}

/// Codes of the 16 rows in one step, row by row.
type Codes = [[u8; MAX_COLS]; TILE_ROWS];

/// A step of a block format: its codes, followed by its scales.
fn pack_step(matrix: Matrix<'_>, format: Format, rows: &[Option<&[u8]>; TILE_ROWS], col: usize, step: &mut [u8]) {
    let mut codes: Codes = [[0; MAX_COLS]; TILE_ROWS];
    let width = format.step_cols().min(matrix.cols - col);
    for (row, codes) in rows.iter().zip(&mut codes) {
        let Some(row) = row else { continue };
        for (run, codes) in codes[..width].chunks_exact_mut(32).enumerate() {
            codes.copy_from_slice(&run_codes(matrix.dtype, row, col / 32 + run));
        }
    }
    let blocks = width / 32;
    match format {
        Format::Q8_0 => fragments8(&codes, &mut step[..1024]),
        Format::Q4_0 | Format::Q4_1 => nibble_pairs(&codes, &mut step[..512]),
        Format::Q4K => nibble_pairs(&codes, &mut step[..2048]),
        Format::Q6K => {
            nibble_pairs(&codes, &mut step[..1024]);
            high_bits(&codes, &mut step[1024..1536]);
        }
        Format::Bf16 | Format::F16 => unreachable!("plain types have no codes"),
    }
    for (r, row) in rows.iter().enumerate() {
        let Some(row) = row else { continue };
        let place = ScaleRow { g: r % 8, h: r / 8 };
        match format {
            Format::Q4K => place.super4(&row[col / 256 * 144..][..144], &mut step[2048..]),
            Format::Q6K => place.super6(&row[col / 256 * 210..][..210], col / 128 % 2, &mut step[1536..]),
            _ => (0..blocks).for_each(|b| place.block(format, row, col / 32 + b, b, step)),
        }
    }
}

/// The position of a row's scales among those of its tile.
struct ScaleRow {
    g: usize,
    h: usize,
}

impl ScaleRow {
    /// The scale, and minimum if there is one, of block `block` of a row, the `b`-th of the step.
    fn block(&self, format: Format, row: &[u8], block: usize, b: usize, step: &mut [u8]) {
        let mut put = |at: usize, half: [u8; 2]| step[at + 2 * self.h..][..2].copy_from_slice(&half);
        match format {
            Format::Q8_0 => put(1024 + 32 * b + 4 * self.g, half_at(row, 34 * block)),
            Format::Q4_0 => put(512 + 32 * b + 4 * self.g, half_at(row, 18 * block)),
            _ => {
                put(512 + 64 * b + 8 * self.g, half_at(row, 20 * block));
                put(512 + 64 * b + 8 * self.g + 4, half_at(row, 20 * block + 2));
            }
        }
    }

    /// The head of a super-block of q4_k.
    fn super4(&self, block: &[u8], out: &mut [u8]) {
        for j in 0..8 {
            let (scale, minimum) = quant::k4_scale_min(&block[4..16], j);
            let at = 32 * self.g + 16 * self.h + j;
            (out[at], out[at + 8]) = (scale, minimum);
        }
        let at = 256 + 8 * self.g + 2 * self.h;
        out[at..at + 2].copy_from_slice(&block[..2]);
        out[at + 4..at + 6].copy_from_slice(&block[2..4]);
    }

    /// The scales of half a super-block of q6_k.
    fn super6(&self, block: &[u8], half: usize, out: &mut [u8]) {
        out[16 * self.g + 8 * self.h..][..8].copy_from_slice(&block[192 + 8 * half..][..8]);
        out[128 + 4 * self.g + 2 * self.h..][..2].copy_from_slice(&block[208..210]);
    }
}

/// The row and column of byte `i` of a fragment of 32 columns.
fn byte_place(i: usize) -> (usize, usize) {
    let (lane, j, byte) = (i / 16, i % 16 / 4, i % 4);
    (lane / 4 + 8 * (j % 2), 4 * (lane % 4) + 16 * (j / 2) + byte)
}

fn fragments8(codes: &Codes, out: &mut [u8]) {
    for (f, fragment) in out.chunks_exact_mut(FRAGMENT).enumerate() {
        for (i, byte) in fragment.iter_mut().enumerate() {
            let (r, c) = byte_place(i);
            *byte = codes[r][32 * f + c];
        }
    }
}

/// The low nibbles of 64 columns per fragment: the first 32 in low nibbles, the others in high nibbles.
fn nibble_pairs(codes: &Codes, out: &mut [u8]) {
    for (f, fragment) in out.chunks_exact_mut(FRAGMENT).enumerate() {
        for (i, byte) in fragment.iter_mut().enumerate() {
            let (r, c) = byte_place(i);
            *byte = codes[r][64 * f + c] & 15 | codes[r][64 * f + 32 + c] << 4;
        }
    }
}

/// Bits 4 and 5 of the codes of four blocks in each byte.
fn high_bits(codes: &Codes, out: &mut [u8]) {
    for (i, byte) in out.iter_mut().enumerate() {
        let (r, c) = byte_place(i);
        *byte = (0..4).fold(0, |bits, b| bits | (codes[r][32 * b + c] >> 4 & 3) << (2 * b));
    }
}

#[cfg(test)]
mod tests;
