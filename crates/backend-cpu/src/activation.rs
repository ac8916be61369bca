//! Quantised activations in the order the matrix kernels read them.
//!
//! Rows are grouped into panels of 16; up to 24 rows form a single panel. Within a panel, the blocks of a column position
//! are adjacent, so a tile of rows reads one contiguous stream at constant offsets. Written by the row kernels, read by the
//! matrix kernels.

use crate::format::BLOCK_COLS;
use aio_ir::quant::Q8Block;

/// Rows of a full panel when there are several panels.
pub const PANEL_ROWS: usize = 16;
/// Up to this many rows form one panel, so a step that verifies sixteen drafts reads its weights once.
pub const MAX_PANEL_ROWS: usize = 24;

/// Rows of every panel but the last.
pub const fn panel_rows(rows: usize) -> usize {
    if rows <= MAX_PANEL_ROWS { MAX_PANEL_ROWS } else { PANEL_ROWS }
}

/// The bits of 3 * 2^22 as f32. Adding an integer of magnitude below 2^22 gives the bits of that float plus the integer.
/// Integer sums that start here are therefore valid floats; one fused multiply-add subtracts 3 * 2^22 again, exactly.
pub const FLOAT_BITS: i32 = 0x4B40_0000;
/// The number that `FLOAT_BITS` encodes.
pub const FLOAT_OFFSET: f32 = 12_582_912.0;
/// Eight-bit codes are stored unsigned, plus this offset.
const CODE_OFFSET: i32 = 128;

/// Thirty-two activations and the derived values that kernels need.
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(16))]
pub struct ActBlock {
    /// Codes, -127..=127.
    pub q: [i8; BLOCK_COLS],
    /// Scale of the codes.
    pub d: f32,
    /// Initial value of a sum of products with weights stored plus 128: `FLOAT_BITS` minus 128 times the sum of the codes.
    pub start: i32,
    /// `d` times the sum of the codes. Kept apart from `d`: adjacent, the two would be loaded together and then split.
    pub s: f32,
    /// `start` for the first 16 codes alone.
    pub start_low: i32,
}

const _: () = assert!(size_of::<ActBlock>() == 48);

/// Initial value of a sum of products with codes of this sum.
#[inline(always)]
pub const fn start_of(sum: i32) -> i32 {
    FLOAT_BITS - CODE_OFFSET * sum
}

impl ActBlock {
    /// Minus the sum of the codes.
    #[inline(always)]
    pub const fn neg_sum(&self) -> i32 {
        (self.start - FLOAT_BITS) / CODE_OFFSET
    }

    /// Minus the sum of the first or second 16 codes.
    #[inline(always)]
    pub const fn neg_sum_of(&self, half: usize) -> i32 {
        (self.start_of(half) - FLOAT_BITS) / CODE_OFFSET
    }

    /// `start` for the first or second 16 codes.
    #[inline(always)]
    pub const fn start_of(&self, half: usize) -> i32 {
        if half == 0 { self.start_low } else { FLOAT_BITS + (self.start - self.start_low) }
    }
}

impl From<Q8Block> for ActBlock {
    fn from(b: Q8Block) -> ActBlock {
        let low: i32 = b.q[..16].iter().map(|q| i32::from(*q)).sum();
        ActBlock { q: b.q, d: b.d, s: b.d * b.sum as f32, start: start_of(b.sum), start_low: start_of(low) }
    }
}

/// Blocks that `rows` rows of `cols` columns take.
pub const fn act_blocks(rows: usize, cols: usize) -> usize {
    rows * (cols / BLOCK_COLS)
}

/// Index of a row's first block, and the distance between its blocks.
pub const fn act_row(row: usize, rows: usize, cols: usize) -> (usize, usize) {
    let panel = panel_rows(rows);
    let first_of_panel = row / panel * panel;
    let left = rows - first_of_panel;
    let stride = if left < panel { left } else { panel };
    (first_of_panel * (cols / BLOCK_COLS) + row % panel, stride)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_has_one_place() {
        for rows in [1, 15, 16, 17, 24, 25, 40] {
            let mut seen = vec![false; act_blocks(rows, 96)];
            for row in 0..rows {
                let (first, stride) = act_row(row, rows, 96);
                for b in 0..3 {
                    assert!(!std::mem::replace(&mut seen[first + b * stride], true));
                }
            }
            assert!(seen.into_iter().all(|s| s));
        }
    }
}
