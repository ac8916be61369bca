//! Decodes one row of a packed matrix: the embedding table is packed because the output head may share it.

use crate::format::{BLOCK_COLS, Format, FormatVisitor, GROUP_ROWS, group_bytes, with_format};
use crate::kernels::portable::block_scales;
use crate::pack::read_codes;
use aio_ir::DType;
use aio_ir::quant;

/// Decodes row `row` of a packed matrix with `out.len()` columns. For block formats the numbers are those of the model
/// file up to f32 rounding of scale products.
///
/// # Panics
/// If the packed matrix is shorter than the row's group: the plan's shapes rule that out.
pub fn unpack_row(dtype: DType, packed: &[u8], row: usize, out: &mut [f32]) {
    let group_len = group_bytes(dtype, out.len()).expect("the plan's weights have a packed form");
    let group = &packed[row / GROUP_ROWS * group_len..][..group_len];
    let visitor = UnpackRow { group, row: row % GROUP_ROWS, out };
    if with_format(dtype, visitor).is_none() {
        let visitor = PlainRow { dtype, group, row: row % GROUP_ROWS };
        visitor.read(out);
    }
}

struct UnpackRow<'a> {
    group: &'a [u8],
    row: usize,
    out: &'a mut [f32],
}

impl FormatVisitor for UnpackRow<'_> {
    type Out = ();

    fn visit<F: Format>(self) {
        let (head_len, block_len, blocks) = (F::SCALES.bytes(), F::CODES.bytes(), F::SCALES.blocks());
        for (i, out) in self.out.chunks_exact_mut(BLOCK_COLS).enumerate() {
            let unit = &self.group[i / blocks * F::UNIT_BYTES..][..F::UNIT_BYTES];
            let (head, body) = unit.split_at(head_len);
            let codes = read_codes(F::CODES, &body[i % blocks * block_len..][..block_len]);
            let scales = block_scales::<F>(head, i % blocks);
            for (k, out) in out.iter_mut().enumerate() {
                let code = i32::from(codes[k / 4][4 * self.row + k % 4]);
                let offset = if F::SHIFT == 0 { 0 } else { 1 << F::SHIFT };
                let half = k / 16;
                *out = (code - offset) as f32 * scales.d[half][self.row] + scales.m[half][self.row];
            }
        }
    }
}

struct PlainRow<'a> {
    dtype: DType,
    group: &'a [u8],
    row: usize,
}

impl PlainRow<'_> {
    fn read(&self, out: &mut [f32]) {
        let size = self.dtype.block_bytes();
        for (column, out) in self.group.chunks_exact(size * GROUP_ROWS).zip(out) {
            let element = &column[self.row * size..][..size];
            quant::dequantize(self.dtype, element, std::slice::from_mut(out)).expect("one element of a plain type");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::{PackArgs, groups_of, pack, packed_bytes};

    /// Reproducible bytes whose scales are finite.
    fn source(dtype: DType, elems: usize) -> Vec<u8> {
        let mut state = 0x9E37_79B9u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..elems / dtype.block_elems() * dtype.block_bytes())
            .map(|i| if i % 2 == 1 { next() & 0x3B } else { next() })
            .collect()
    }

    #[test]
    fn every_type_unpacks_to_what_the_reference_decodes() {
        for &dtype in DType::ALL.iter().filter(|t| t.is_float()) {
            let (rows, cols) = (19, 512);
            let bytes = source(dtype, rows * cols);
            let mut packed = vec![0; packed_bytes(dtype, rows, cols).unwrap()];
            pack(&PackArgs { dtype, rows, cols, source: &bytes, groups: 0..groups_of(rows) }, &mut packed).unwrap();
            let mut want = vec![0.0; rows * cols];
            quant::dequantize(dtype, &bytes, &mut want).unwrap();
            for row in [0, 7, 18] {
                let mut got = vec![0.0; cols];
                unpack_row(dtype, &packed, row, &mut got);
                for (g, w) in got.iter().zip(&want[row * cols..]) {
                    assert!((g - w).abs() <= 1e-5 * w.abs().max(1e-3), "{dtype}: {g} {w}");
                }
            }
        }
    }
}
