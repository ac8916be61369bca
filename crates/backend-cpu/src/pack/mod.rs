//! Packing of weights into the interleaved form of `crate::format`.
//!
//! Packing is a pure function of 16-row groups, so each thread packs its own chunks, which places their pages near it. Called
//! when a model is loaded or an artefact is written.

mod planes;
mod source;

pub(crate) use planes::{Decoded, read as read_codes};

use crate::format::{BLOCK_COLS, Format, FormatVisitor, GROUP_ROWS, Scales, group_bytes, with_format};
use aio_ir::DType;
use std::ops::Range;

/// Why weights cannot be packed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// The type has no packed form with this many columns.
    #[error("no packed form of {dtype} with {cols} columns")]
    NoForm {
        /// The weights' type.
        dtype: DType,
        /// Columns of the matrix.
        cols: usize,
    },
    /// A buffer's length does not match the shape.
    #[error("{what} has {got} bytes, not {expected}")]
    Length {
        /// Which buffer.
        what: &'static str,
        /// Bytes required by the shape.
        expected: usize,
        /// Bytes given.
        got: usize,
    },
}

/// A weight matrix as stored in the model file, and the part to pack.
#[derive(Clone, Debug)]
pub struct PackArgs<'a> {
    /// Type of the weights.
    pub dtype: DType,
    /// Output rows of the matrix; the last group is padded with rows of zeros.
    pub rows: usize,
    /// Columns of the matrix, its inner dimension.
    pub cols: usize,
    /// The matrix, row after row, `rows * dtype.row_bytes(cols)` bytes.
    pub source: &'a [u8],
    /// Which groups of 16 rows to pack.
    pub groups: Range<usize>,
}

/// Groups of 16 that `rows` output rows take.
pub const fn groups_of(rows: usize) -> usize {
    rows.div_ceil(GROUP_ROWS)
}

/// Bytes of a packed matrix; `None` if it has no packed form.
pub fn packed_bytes(dtype: DType, rows: usize, cols: usize) -> Option<usize> {
    group_bytes(dtype, cols)?.checked_mul(groups_of(rows))
}

/// Packs `args.groups` into `out`, whose length must match exactly.
pub fn pack(args: &PackArgs<'_>, out: &mut [u8]) -> Result<(), PackError> {
    let (dtype, cols) = (args.dtype, args.cols);
    let group = group_bytes(dtype, cols).filter(|b| *b > 0).ok_or(PackError::NoForm { dtype, cols })?;
    let row_bytes = cols / dtype.block_elems() * dtype.block_bytes();
    expect_len("the source matrix", args.source.len(), row_bytes * args.rows)?;
    expect_len("the packed buffer", out.len(), group * args.groups.len())?;
    for (index, out) in args.groups.clone().zip(out.chunks_exact_mut(group)) {
        let rows: [Option<&[u8]>; GROUP_ROWS] = std::array::from_fn(|r| {
            let row = index * GROUP_ROWS + r;
            (row < args.rows).then(|| &args.source[row * row_bytes..][..row_bytes])
        });
        let visitor = PackGroup { dtype, rows: &rows, out };
        if with_format(dtype, visitor).is_none() {
            pack_plain(&rows, dtype.block_bytes(), out);
        }
    }
    Ok(())
}

fn expect_len(what: &'static str, got: usize, expected: usize) -> Result<(), PackError> {
    if got == expected { Ok(()) } else { Err(PackError::Length { what, expected, got }) }
}

/// Plain types: column by column, the elements of the 16 rows.
fn pack_plain(rows: &[Option<&[u8]>; GROUP_ROWS], elem_bytes: usize, out: &mut [u8]) {
    for (k, column) in out.chunks_exact_mut(elem_bytes * GROUP_ROWS).enumerate() {
        for (row, elem) in rows.iter().zip(column.chunks_exact_mut(elem_bytes)) {
            match row {
                Some(row) => elem.copy_from_slice(&row[k * elem_bytes..][..elem_bytes]),
                None => elem.fill(0),
            }
        }
    }
}

struct PackGroup<'a, 'r> {
    dtype: DType,
    rows: &'a [Option<&'r [u8]>; GROUP_ROWS],
    out: &'a mut [u8],
}

impl FormatVisitor for PackGroup<'_, '_> {
    type Out = ();

    fn visit<F: Format>(self) {
        let head_bytes = F::SCALES.bytes();
        let source_block = self.dtype.block_bytes();
        debug_assert_eq!(self.dtype.block_elems(), BLOCK_COLS * F::SCALES.blocks());
        for (unit, out) in self.out.chunks_exact_mut(F::UNIT_BYTES).enumerate() {
            let blocks = self.rows.map(|row| row.map(|row| &row[unit * source_block..][..source_block]));
            let (head, body) = out.split_at_mut(head_bytes);
            pack_head(self.dtype, F::SCALES, &blocks, head);
            for (run, out) in body.chunks_exact_mut(F::CODES.bytes()).enumerate() {
                let codes = interleave(self.dtype, &blocks, run);
                planes::write(F::CODES, &codes, out);
            }
        }
    }
}

/// The codes of 16 rows in one block of 32 columns, as the eight vectors of a decoded block.
fn interleave(dtype: DType, blocks: &[Option<&[u8]>; GROUP_ROWS], run: usize) -> Decoded {
    let mut vectors = [[0u8; 64]; 8];
    for (r, block) in blocks.iter().enumerate() {
        let Some(block) = block else { continue };
        let codes = source::codes(dtype, block, run);
        for (vector, four) in vectors.iter_mut().zip(codes.chunks_exact(4)) {
            vector[4 * r..4 * r + 4].copy_from_slice(four);
        }
    }
    vectors
}

fn pack_head(dtype: DType, scales: Scales, blocks: &[Option<&[u8]>; GROUP_ROWS], head: &mut [u8]) {
    head.fill(0);
    let halves = 1 + usize::from(!matches!(scales, Scales::D | Scales::Super16));
    for (r, block) in blocks.iter().enumerate() {
        let Some(block) = block else { continue };
        for (i, half) in source::halves(dtype, block).into_iter().take(halves).enumerate() {
            head[32 * i + 2 * r..][..2].copy_from_slice(&half);
        }
        if scales.blocks() > 1 {
            for (j, byte) in source::small_scales(dtype, block).into_iter().enumerate() {
                head[32 * halves + 16 * j + r] = byte;
            }
        }
    }
}

#[cfg(test)]
mod tests;
