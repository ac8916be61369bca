//! The matrix product `y[M,N] = x[M,K] * W[N,K]^T` over a range of output groups.
//!
//! Up to 24 activation rows share one pass over the packed groups; more rows go panel by panel while a block of groups stays
//! in cache. An output element is always summed over its columns in the same order, so it does not depend on the number of
//! rows or on the ranges. Called by executables, each thread with its own range.

use super::tile::{MAX_TILE_ROWS, PairArgs, PairFn, TileArgs, TileFn, TileTable};
use crate::activation::{ActBlock, MAX_PANEL_ROWS, act_blocks, act_row, panel_rows};
use crate::format::{GROUP_ROWS, group_bytes, layout};
use aio_ir::DType;
use std::ops::Range;

/// Packed bytes that stay in the first-level cache while a few panels pass.
const NEAR_BYTES: usize = 16 << 10;
/// Packed bytes that stay in the second-level cache while many panels pass.
const FAR_BYTES: usize = 384 << 10;
/// From this many panels on, the panel stays in the first-level cache and the weights in the second.
const MANY_PANELS: usize = 4;

/// The left operand.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// For block-format weights: `act_blocks(rows, cols)` blocks in panel order.
    Quantized(&'a [ActBlock]),
    /// For plain weights: f32 `[rows][cols]`.
    Plain(&'a [f32]),
}

/// A packed weight matrix.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    /// Type it was packed from.
    pub dtype: DType,
    /// Output rows, N.
    pub rows: usize,
    /// Columns, K.
    pub cols: usize,
    /// All packed groups.
    pub packed: &'a [u8],
}

/// The result: f32 rows `stride` floats apart. Threads write disjoint columns.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// Element (0, 0).
    pub start: *mut f32,
    /// Floats between the starts of consecutive rows.
    pub stride: usize,
}

// SAFETY: a plain address; code that writes through it upholds the contract of `Kernels::matmul`.
unsafe impl Send for Output {}
// SAFETY: as above.
unsafe impl Sync for Output {}

/// Arguments of a matrix product.
#[derive(Clone, Debug)]
pub struct MatmulArgs<'a> {
    /// The right operand.
    pub weights: Weights<'a>,
    /// The left operand.
    pub input: Input<'a>,
    /// Activation rows, M.
    pub rows: usize,
    /// Groups of 16 output rows to compute.
    pub groups: Range<usize>,
    /// Added to every row, N floats.
    pub bias: Option<&'a [f32]>,
    /// Added to every row: f32 rows with the layout of the output.
    pub residual: Option<&'a [f32]>,
    /// Destination of the results: column `n` of the output is weight row `n`.
    pub output: Output,
}

/// Computes the product with the tiles of `table`.
///
/// # Safety
/// `table` fits the weights' type and this machine; columns `16 * groups.start ..` up to
/// `min(16 * groups.end, N)` of `rows` output rows are valid and nothing else uses them meanwhile.
pub(super) unsafe fn run(table: &TileTable, args: &MatmulArgs<'_>) {
    let w = &args.weights;
    let group_len = group_bytes(w.dtype, w.cols).expect("the plan's weights have a packed form");
    assert!(args.groups.end * group_len <= w.packed.len(), "groups lie inside the packed matrix");
    let panels = args.rows.div_ceil(panel_rows(args.rows));
    let budget = if panels < MANY_PANELS { NEAR_BYTES } else { FAR_BYTES };
    // Always whole pairs.
    let block = (budget / group_len).next_multiple_of(2).max(2);
    let acts = Acts::new(args, group_len);
    for first in args.groups.clone().step_by(block) {
        let last = (first + block).min(args.groups.end);
        for panel in 0..panels {
            // SAFETY: as guaranteed by the caller; the groups are whole and the panel exists.
            unsafe { run_block(table, args, &acts, first..last, panel) };
        }
    }
}

/// From this many rows on, groups go in pairs; fewer are memory-bound, which favours a single stream.
const PAIR_ROWS: usize = 2;

/// Whether groups go in pairs.
fn goes_in_pairs(table: &TileTable, rows: usize) -> bool {
    rows >= PAIR_ROWS && !table.pairs().is_empty()
}

/// Rows and outputs that one call computes in a step of `rows` rows; the last calls may have fewer.
pub(super) fn call(table: &TileTable, rows: usize) -> (usize, usize) {
    let rows = rows.clamp(1, panel_rows(rows));
    match table.pairs().len() {
        most if goes_in_pairs(table, rows) => (rows.div_ceil(rows.div_ceil(most)), 2 * GROUP_ROWS),
        _ => (table.next(rows).0, GROUP_ROWS),
    }
}

/// One panel of activation rows times some groups.
///
/// # Safety
/// As `run`; the panel exists.
unsafe fn run_block(table: &TileTable, args: &MatmulArgs<'_>, acts: &Acts, groups: Range<usize>, panel: usize) {
    let panel_rows = panel_rows(args.rows);
    let rows = panel * panel_rows..args.rows.min((panel + 1) * panel_rows);
    let packed = |group: usize| args.weights.packed[group * acts.group_bytes..].as_ptr();
    let mut group = groups.start;
    if goes_in_pairs(table, rows.len()) {
        // The last group may have fewer rows than a pair function stores.
        let end = groups.end.min(args.weights.rows / GROUP_ROWS);
        while group + 2 <= end {
            // SAFETY: as guaranteed by the caller; two groups start here.
            unsafe { run_pair(table.pairs(), args, acts, packed(group), group, rows.clone()) };
            group += 2;
        }
    }
    for group in group..groups.end {
        // SAFETY: as guaranteed by the caller; a group starts here.
        unsafe { run_rows(table, args, acts, packed(group), group, rows.clone()) };
    }
}

/// The left operand, checked.
struct Acts {
    base: *const u8,
    /// Units of a group; columns for plain types.
    steps: usize,
    /// Bytes of a packed group.
    group_bytes: usize,
}

impl Acts {
    fn new(args: &MatmulArgs<'_>, group_bytes: usize) -> Acts {
        let w = &args.weights;
        match (args.input, layout(w.dtype)) {
            (Input::Quantized(blocks), Some(layout)) => {
                assert!(blocks.len() >= act_blocks(args.rows, w.cols), "activations cover the rows");
                let unit_cols = 32 * layout.scales.blocks();
                Acts { base: blocks.as_ptr().cast(), steps: w.cols / unit_cols, group_bytes }
            }
            (Input::Plain(x), None) => {
                assert!(x.len() >= args.rows * w.cols, "activations cover the rows");
                Acts { base: x.as_ptr().cast(), steps: w.cols, group_bytes }
            }
            _ => panic!("the plan's activations do not fit {} weights", w.dtype),
        }
    }

    /// Byte offset of `row`'s first element and the stride a tile function wants.
    fn at(&self, args: &MatmulArgs<'_>, row: usize) -> (usize, usize) {
        let cols = args.weights.cols;
        match args.input {
            Input::Quantized(_) => {
                let (first, stride) = act_row(row, args.rows, cols);
                (first * size_of::<ActBlock>(), stride)
            }
            Input::Plain(_) => (row * cols * size_of::<f32>(), cols),
        }
    }
}

/// Some activation rows of a panel times two groups of output rows.
///
/// # Safety
/// As `run`; `packed` is group `group`, and another follows it; both are whole.
unsafe fn run_pair(
    pairs: &[Option<PairFn>],
    args: &MatmulArgs<'_>,
    acts: &Acts,
    packed: *const u8,
    group: usize,
    rows: Range<usize>,
) {
    let column = group * GROUP_ROWS;
    let calls = rows.len().div_ceil(pairs.len());
    let mut row = rows.start;
    for call in 0..calls {
        // Calls of nearly equal size: the fewer rows, the larger the share of decoding.
        let take = (rows.end - row).div_ceil(calls - call);
        let (offset, stride) = acts.at(args, row);
        let at = row * args.output.stride + column;
        let pair_args = PairArgs {
            weights: packed,
            group_bytes: acts.group_bytes,
            // SAFETY: `Acts::new` checked that the rows lie inside the buffer.
            acts: unsafe { acts.base.add(offset) },
            stride,
            steps: acts.steps,
            part: call,
            parts: if args.rows <= MAX_PANEL_ROWS { calls } else { 0 },
            // The base may point before the buffer: tasks shift it so that columns keep their numbers.
            out: args.output.start.wrapping_add(at),
            out_stride: args.output.stride,
            bias: args.bias.map_or(std::ptr::null(), |bias| bias[column..column + 2 * GROUP_ROWS].as_ptr()),
            residual: args.residual.map_or(std::ptr::null(), |x| {
                let last = (take - 1) * args.output.stride + 2 * GROUP_ROWS;
                x[at..at + last].as_ptr()
            }),
        };
        let pair = pairs[take - 1].expect("the table's functions begin with one row");
        // SAFETY: the function has `take` rows in all operands; the caller owns these columns of the output.
        unsafe { pair(&pair_args) };
        row += take;
    }
}

/// Some activation rows of a panel times one group of output rows.
///
/// # Safety
/// As `run`; `packed` is group `group`.
unsafe fn run_rows(
    table: &TileTable,
    args: &MatmulArgs<'_>,
    acts: &Acts,
    packed: *const u8,
    group: usize,
    rows: Range<usize>,
) {
    let mut out = [[0f32; GROUP_ROWS]; MAX_TILE_ROWS];
    let (mut row, end) = (rows.start, rows.end);
    while row < end {
        let (take, tile): (usize, TileFn) = table.next(end - row);
        let (offset, stride) = acts.at(args, row);
        let tile_args = TileArgs {
            weights: packed,
            // SAFETY: `Acts::new` checked that the rows lie inside the buffer.
            acts: unsafe { acts.base.add(offset) },
            stride,
            steps: acts.steps,
            out: out.as_mut_ptr(),
        };
        // SAFETY: the tile has `take` rows in all operands.
        unsafe { tile(&tile_args) };
        for (m, sums) in out[..take].iter().enumerate() {
            // SAFETY: the caller owns these columns of the output.
            unsafe { store(args, sums, row + m, group) };
        }
        row += take;
    }
}

/// Adds bias and residual and stores 16 results of a row.
///
/// # Safety
/// As `run`.
unsafe fn store(args: &MatmulArgs<'_>, sums: &[f32; GROUP_ROWS], row: usize, group: usize) {
    let first = group * GROUP_ROWS;
    let len = GROUP_ROWS.min(args.weights.rows - first);
    // SAFETY: the row's columns `first..first + len` are valid and ours.
    let y = unsafe {
        // The base may point before the buffer: tasks shift it so that columns keep their numbers.
        let start = args.output.start.wrapping_add(row * args.output.stride + first);
        std::slice::from_raw_parts_mut(start, len)
    };
    let mut sums = *sums;
    if let Some(bias) = args.bias {
        for (sum, bias) in sums.iter_mut().zip(&bias[first..first + len]) {
            *sum += bias;
        }
    }
    if let Some(residual) = args.residual {
        let at = row * args.output.stride + first;
        for (sum, x) in sums.iter_mut().zip(&residual[at..at + len]) {
            *sum += x;
        }
    }
    y.copy_from_slice(&sums[..len]);
}
