//! CPU back end: packed weights, kernels and a thread pool.
//!
//! Weights are interleaved so that a cache line feeds one dot-product step, activations are
//! quantised to 8 bits on the fly, and every result is summed in an order fixed by its own row.
//! Used by the engine through the back-end traits.

pub mod activation;
pub mod format;
pub mod isa;
pub mod kernels;
pub mod memory;
pub mod pack;
pub mod pool;
