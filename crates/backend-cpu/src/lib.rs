//! CPU back end: packed weights, kernels and a thread pool.
//!
//! Weights are interleaved so that a cache line feeds one dot-product step, activations are
//! quantised to 8 bits on the fly, and every result is summed in an order fixed by its own row.
//! [`CpuDevice`] implements the back-end traits; used by the engine.

pub mod activation;
mod bounds;
mod device;
mod engine;
mod error;
mod executable;
pub mod format;
pub mod isa;
pub mod kernels;
pub mod memory;
pub mod pack;
pub mod pool;
pub mod probe;
mod record;
mod resident;
mod states;
mod step;
mod tasks;
mod tensor_loc;
pub mod unpack;
mod weights;

pub use device::{CpuDevice, CpuOptions, IMAGE_FORM, MAX_THREADS};
pub use isa::IsaLevel;

/// Hash of the sources of this crate that decide what lies in an artefact, hexadecimal.
pub const SOURCE_HASH: &str = env!("AIO_SOURCE_HASH");
