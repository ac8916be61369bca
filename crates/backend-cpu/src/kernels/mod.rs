//! The kernels, and the table through which they are called.
//!
//! A table is built once, from a detected `Isa`, and holds one function per operation and type; nothing is selected by
//! instruction set afterwards. Owned by the device, used by executables.

pub mod attend;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub mod choose;
mod lanes;
mod levels;
pub mod matmul;
pub(crate) mod portable;
pub mod rows;
pub mod tile;

use crate::isa::{Isa, IsaLevel};
use aio_ir::DType;
use aio_ir::sampling::{Candidate, NO_TOKEN};
use attend::{AttendArgs, CombineArgs};
use choose::{NoisyArgs, Surveyed};
use levels::{RowFns, row_fns};
use matmul::MatmulArgs;
use rows::{Best, GateArgs, NormArgs, QuantizeArgs, RopeArgs};
use tile::TileTable;

/// The kernels of one instruction-set level.
#[derive(Debug)]
pub struct Kernels {
    isa: Isa,
    tiles: Vec<Option<TileTable>>,
    row_fns: RowFns,
}

impl Kernels {
    /// The table for a level that this machine has.
    pub fn new(isa: Isa) -> Kernels {
        let tiles = DType::ALL.iter().map(|&dtype| tiles(isa.level(), dtype)).collect();
        Kernels { isa, tiles, row_fns: row_fns(isa.level()) }
    }

    /// The level these kernels are for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Whether weights of this type can be multiplied.
    pub fn supports(&self, dtype: DType) -> bool {
        self.tiles[dtype as usize].is_some()
    }

    /// Rows and outputs that one call computes in a product of `rows` rows; `None` for a type that is not multiplied.
    pub(crate) fn product_call(&self, dtype: DType, rows: usize) -> Option<(usize, usize)> {
        self.tiles[dtype as usize].as_ref().map(|table| matmul::call(table, rows))
    }

    /// Pairs of a row and a query head that attention takes through a split at once.
    pub(crate) fn attend_pairs(&self) -> usize {
        self.row_fns.pairs
    }

    /// `y[M,N] (+)= x[M,K] * W[N,K]^T (+ bias)` for a range of groups of 16 output rows.
    ///
    /// # Safety
    /// Columns `16 * groups.start ..` up to `min(16 * groups.end, N)` of `rows` rows of `args.output`
    /// are valid, and nothing else uses them during the call.
    pub unsafe fn matmul(&self, args: &MatmulArgs<'_>) {
        let table = self.tiles[args.weights.dtype as usize].as_ref();
        let table = table.expect("the plan's weight type is supported");
        // SAFETY: the table is of this machine and type; the rest is guaranteed by the caller.
        unsafe { matmul::run(table, args) };
    }

    /// Root-mean-square norm of a row.
    pub fn norm(&self, args: NormArgs<'_>) {
        // SAFETY: the machine has the level, as `self.isa` proves.
        unsafe { (self.row_fns.norm)(args) }
    }

    /// Quantises a row of activations to 8 bits.
    ///
    /// # Safety
    /// The row's blocks at `args.out` are valid, and nothing else uses them during the call.
    pub unsafe fn quantize(&self, args: QuantizeArgs<'_>) {
        // SAFETY: the machine has the level; the rest is guaranteed by the caller.
        unsafe { (self.row_fns.quantize)(args) }
    }

    /// `silu(gate) * up`.
    pub fn silu_mul(&self, args: GateArgs<'_>) {
        // SAFETY: the machine has the level, as `self.isa` proves.
        unsafe { (self.row_fns.silu_mul)(args) }
    }

    /// `gelu(gate) * up`, in the tanh form.
    pub fn gelu_mul(&self, args: GateArgs<'_>) {
        // SAFETY: the machine has the level, as `self.isa` proves.
        unsafe { (self.row_fns.gelu_mul)(args) }
    }

    /// Rotary embedding of one head.
    pub fn rope(&self, args: RopeArgs<'_>) {
        // SAFETY: the machine has the level, as `self.isa` proves.
        unsafe { (self.row_fns.rope)(args) }
    }

    /// The largest element of `x`, whose element 0 has index `first` in its row. Join parts with
    /// `Best::or`.
    pub fn argmax(&self, x: &[f32], first: u32) -> Best {
        // SAFETY: the machine has the level, as `self.isa` proves.
        let best = unsafe { (self.row_fns.argmax)(x) };
        if best.index == NO_TOKEN { best } else { Best { index: best.index + first, ..best } }
    }

    /// Fills `out` with the largest logit of each block of 64.
    pub fn survey(&self, x: &[f32], out: &mut [f32]) {
        // SAFETY: the machine has the level, as `self.isa` proves.
        unsafe { (self.row_fns.survey)(x, out) }
    }

    /// Writes the tokens with a logit of at least `floor` to `out`, which must have room, in order of id. Returns their
    /// number. A NaN counts as negative infinity.
    pub fn gather(&self, row: Surveyed<'_>, floor: f32, out: &mut [Candidate]) -> usize {
        // SAFETY: the machine has the level, as `self.isa` proves.
        unsafe { (self.row_fns.gather)(row, floor, out) }
    }

    /// The sum of `aio_ir::sampling::weight` over all tokens with a logit of at least `floor`; `top` is the largest.
    pub fn mass(&self, row: Surveyed<'_>, top: f32, floor: f32) -> u64 {
        // SAFETY: the machine has the level, as `self.isa` proves.
        unsafe { (self.row_fns.mass)(row, top, floor) }
    }

    /// The arg-max of a part of a row after temperature and noise. Join parts with `Best::or`.
    pub fn noisy_best(&self, args: NoisyArgs<'_>) -> Best {
        // SAFETY: the machine has the level, as `self.isa` proves.
        unsafe { (self.row_fns.noisy_best)(args) }
    }

    /// The best token after temperature and noise of a list, in any order. A NaN counts as negative infinity.
    pub fn noisy_list(&self, list: &[Candidate], temperature: f32, noise: [u32; 4]) -> Best {
        // SAFETY: the machine has the level, as `self.isa` proves.
        unsafe { (self.row_fns.noisy_list)(list, temperature, noise) }
    }

    /// One split of attention for one key-value head; see `attend`.
    ///
    /// # Safety
    /// The pages named are inside the layer's memory and nothing writes to them during the call; the
    /// partial results of these rows, this head's group and this split are valid, and nobody
    /// else uses them during the call.
    pub unsafe fn attend(&self, args: AttendArgs<'_>) {
        // SAFETY: the machine has the level; the rest is guaranteed by the caller.
        unsafe { (self.row_fns.attend)(args) }
    }

    /// Joins the splits of a row and query head.
    ///
    /// # Safety
    /// `attend` has filled the partial results of `args.splits`, and nothing writes to them.
    pub unsafe fn combine(&self, args: CombineArgs<'_>) {
        // SAFETY: the machine has the level; the rest is guaranteed by the caller.
        unsafe { (self.row_fns.combine)(args) }
    }
}

#[cfg(target_arch = "x86_64")]
fn tiles(level: IsaLevel, dtype: DType) -> Option<TileTable> {
    match level {
        IsaLevel::Portable => portable::tiles(dtype),
        IsaLevel::Avx2 => avx2::tiles(dtype),
        IsaLevel::Avx512Vnni => avx512::tiles(dtype),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn tiles(_: IsaLevel, dtype: DType) -> Option<TileTable> {
    portable::tiles(dtype)
}

#[cfg(test)]
pub(crate) mod tests;
