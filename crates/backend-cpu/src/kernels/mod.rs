//! The kernels and the table through which they are reached.
//!
//! A table is made once, from an `Isa` that detection gave out, and holds one function per job and
//! type; nothing is looked up by instruction set afterwards. Owned by the device, used by
//! executables.

mod attend;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub mod matmul;
mod portable;
pub mod tile;

use crate::isa::{Isa, IsaLevel};
use aio_ir::DType;
use matmul::MatmulArgs;
use tile::TileTable;

/// The kernels of one instruction-set level.
#[derive(Debug)]
pub struct Kernels {
    isa: Isa,
    tiles: Vec<Option<TileTable>>,
}

impl Kernels {
    /// The table of a level that this machine has.
    pub fn new(isa: Isa) -> Kernels {
        let tiles = DType::ALL.iter().map(|&dtype| tiles(isa.level(), dtype)).collect();
        Kernels { isa, tiles }
    }

    /// The level these kernels are for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Whether weights of this type can be multiplied.
    pub fn supports(&self, dtype: DType) -> bool {
        self.tiles[dtype as usize].is_some()
    }

    /// `y[M,N] (+)= x[M,K] * W[N,K]^T (+ bias)` for a range of groups of 16 output rows.
    ///
    /// # Safety
    /// Columns `16 * groups.start ..` up to `min(16 * groups.end, N)` of `rows` rows of `args.output`
    /// are valid, and nobody else uses them during the call.
    pub unsafe fn matmul(&self, args: &MatmulArgs<'_>) {
        let table = self.tiles[args.weights.dtype as usize].as_ref();
        let table = table.expect("the plan's weight type is supported");
        // SAFETY: the table is of this machine and type; the rest is the caller's promise.
        unsafe { matmul::run(table, args) };
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
mod tests;
