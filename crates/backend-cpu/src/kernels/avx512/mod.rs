//! Kernels for AVX-512 with VNNI.
//!
//! One zmm register holds one vector of a decoded block: a lane per output row, four columns each.
//! Reached only through the function pointers of `super::Kernels`, made from an `Isa` that
//! detection gave out.

mod codes;
mod plain;
mod tile;

pub(super) use tile::tiles;
