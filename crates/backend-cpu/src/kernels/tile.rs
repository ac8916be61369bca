//! The tile: 16 output rows by a few activation rows, over all columns.
//!
//! Each instruction set compiles one tile function per weight type and row count; the matrix driver selects them through
//! this table. Filled at load, read by `super::matmul`.

use crate::format::GROUP_ROWS;

/// Arguments of a tile function.
#[derive(Debug)]
pub struct TileArgs {
    /// The packed group.
    pub weights: *const u8,
    /// Block formats: the tile's first `ActBlock`. Plain types: the tile's first f32.
    pub acts: *const u8,
    /// Block formats: blocks between consecutive column positions. Plain types: floats between consecutive rows.
    pub stride: usize,
    /// Block formats: units of the group. Plain types: columns.
    pub steps: usize,
    /// Results, 16 floats per activation row.
    pub out: *mut [f32; GROUP_ROWS],
}

/// A tile function.
///
/// # Safety
/// The machine has the instruction set; `weights` is a whole packed group of `steps`; `acts` has the
/// table's number of rows of as many columns; `out` is valid for as many rows.
pub type TileFn = unsafe fn(&TileArgs);

/// Arguments of a pair function.
#[derive(Debug)]
pub struct PairArgs {
    /// The first packed group; the second follows it.
    pub weights: *const u8,
    /// Bytes of a group.
    pub group_bytes: usize,
    /// The first row's first `ActBlock`.
    pub acts: *const u8,
    /// Blocks between consecutive column positions.
    pub stride: usize,
    /// Units of a group.
    pub steps: usize,
    /// Index of this call among those over the pair, each with other rows. Each prefetches its part of the next pair.
    pub part: usize,
    /// Number of calls over the pair; 0 disables prefetching of the next pair.
    pub parts: usize,
    /// Results, 32 floats per activation row.
    pub out: *mut f32,
    /// Floats between consecutive rows of the results.
    pub out_stride: usize,
    /// Added to every row, 32 floats; may be null.
    pub bias: *const f32,
    /// Added to the results, in their layout; may be null.
    pub residual: *const f32,
}

/// A function for two groups and the table's number of rows.
///
/// # Safety
/// The machine has the instruction set; `weights` is two whole packed groups of `steps` units; `acts` has the table's
/// number of rows of as many columns; `out`, and what is added, are valid for as many rows.
pub type PairFn = unsafe fn(&PairArgs);

/// Most rows of a tile.
pub const MAX_TILE_ROWS: usize = 16;
/// Most rows of a pair function.
const MAX_PAIR_ROWS: usize = 6;

/// The tile functions of a weight type, by row count.
#[derive(Clone, Copy, Debug)]
pub struct TileTable {
    fns: [Option<TileFn>; MAX_TILE_ROWS + 1],
    /// Every row count from 1 to this one has a function.
    dense: usize,
    pairs: [Option<PairFn>; MAX_PAIR_ROWS],
}

impl TileTable {
    /// Functions for 1, 2, .. rows, and perhaps one for 16.
    pub fn new(dense: &[TileFn], full: Option<TileFn>) -> TileTable {
        let mut fns = [None; MAX_TILE_ROWS + 1];
        for (entry, f) in fns[1..].iter_mut().zip(dense) {
            *entry = Some(*f);
        }
        fns[MAX_TILE_ROWS] = full.or(fns[MAX_TILE_ROWS]);
        TileTable { fns, dense: dense.len(), pairs: [None; MAX_PAIR_ROWS] }
    }

    /// The same, plus functions of two groups for 1, 2, .. rows.
    pub fn with_pairs(mut self, pairs: &[PairFn]) -> TileTable {
        for (entry, f) in self.pairs.iter_mut().zip(pairs) {
            *entry = Some(*f);
        }
        self
    }

    /// The next tile of a panel with `rows` rows left (1 or more): its row count and function.
    pub fn next(&self, rows: usize) -> (usize, TileFn) {
        let rows = rows.min(MAX_TILE_ROWS);
        let take = if self.fns[rows].is_some() { rows } else { rows.div_ceil(rows.div_ceil(self.dense)) };
        (take, self.fns[take].expect("every count up to `dense` has a function"))
    }

    /// The functions for two groups, the first for one row; empty if this level has none.
    pub fn pairs(&self) -> &[Option<PairFn>] {
        let len = self.pairs.iter().take_while(|f| f.is_some()).count();
        &self.pairs[..len]
    }
}
