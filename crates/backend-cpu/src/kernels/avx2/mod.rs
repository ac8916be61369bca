//! Kernels for AVX2 with FMA and F16C.
//!
//! A decoded vector of 16 output rows is two ymm registers of eight rows. Reached only through
//! the function pointers of `super::Kernels`, made from an `Isa` that detection gave out.

mod codes;
mod plain;
mod tile;

pub(super) use tile::tiles;
