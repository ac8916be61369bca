//! Quantised activations in the order in which the matrix kernels read them.
//!
//! Rows are cut into panels of 16; up to 24 rows are one panel. Inside a panel the blocks of one column position lie side by
//! side, so that a tile of rows walks one contiguous stream with constant offsets. Written by
//! the row kernels, read by the matrix kernels.

use crate::format::BLOCK_COLS;
use aio_ir::quant::Q8Block;

/// Rows of a full panel where there are several.
pub const PANEL_ROWS: usize = 16;
/// Up to so many rows are one panel: a step that checks sixteen drafts reads its weights once.
pub const MAX_PANEL_ROWS: usize = 24;

/// Rows of every panel but the last.
pub const fn panel_rows(rows: usize) -> usize {
    if rows <= MAX_PANEL_ROWS { MAX_PANEL_ROWS } else { PANEL_ROWS }
}

/// The bits of 3 * 2^22 as f32. An integer below 2^22 in size that is added to them makes the bits of that float plus the
/// integer: sums that begin here are floats as they are, and one fused multiply-add takes 3 * 2^22 off again, exactly.
pub const FLOAT_BITS: i32 = 0x4B40_0000;
/// `FLOAT_BITS` as the number that they are.
pub const FLOAT_OFFSET: f32 = 12_582_912.0;
/// Unsigned codes of eight bits are stored plus this.
const CODE_OFFSET: i32 = 128;

/// Thirty-two activations and what the kernels need of them.
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(16))]
pub struct ActBlock {
    /// Codes, -127..=127.
    pub q: [i8; BLOCK_COLS],
    /// Scale of the codes.
    pub d: f32,
    /// Where the sum of products with weights plus 128 begins: `FLOAT_BITS` minus 128 times the sum of the codes.
    pub start: i32,
    /// `d` times the sum of the codes. Not beside `d`: two neighbours get loaded as one and taken apart again.
    pub s: f32,
    /// `start` for the first 16 codes alone.
    pub start_low: i32,
}

const _: () = assert!(size_of::<ActBlock>() == 48);

/// Where the products of codes with this sum begin.
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

/// Where a row's blocks lie: the first one's index and the distance between neighbours.
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
