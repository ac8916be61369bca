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

/// Thirty-two activations and what the kernels need of them.
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(16))]
pub struct ActBlock {
    /// Codes, -127..=127.
    pub q: [i8; BLOCK_COLS],
    /// Scale of the codes.
    pub d: f32,
    /// Minus the sum of the codes.
    pub neg_sum: i32,
    /// `d` times the sum of the codes. Not beside `d`: two neighbours get loaded as one and taken apart again.
    pub s: f32,
    /// Minus the sum of the first 16 codes.
    pub neg_sum_low: i32,
}

const _: () = assert!(size_of::<ActBlock>() == 48);

impl From<Q8Block> for ActBlock {
    fn from(b: Q8Block) -> ActBlock {
        let low: i32 = b.q[..16].iter().map(|q| i32::from(*q)).sum();
        ActBlock { q: b.q, d: b.d, s: b.d * b.sum as f32, neg_sum: -b.sum, neg_sum_low: -low }
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
