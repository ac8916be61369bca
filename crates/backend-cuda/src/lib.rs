//! CUDA back end: plans as captured graphs of the kernels in `kernels/cuda`, on a GPU or on an emulation of one.
//!
//! [`CudaDevice`] is the device; everything else is reached through `aio-backend`'s traits. A plan is lowered once, when it
//! is loaded: each task becomes a few launches with every address and size filled in (`lower`), all of them one graph. A
//! step is then one copy to the device, one graph, one wait. What differs from step to step, kernels read from device
//! memory: counts from a header, inputs from fixed places.
//!
//! - Many steps of one sequence can be one launch (`burst`).
//! - No toolkit is needed to build: the driver and the compiler of kernels are opened at run time, and what is missing is
//!   an error with a reason ([`CudaError`]), never a panic.
//! - Above the seam of `driver`, all code is the same for a GPU and for the emulation, which compiles the same kernels with
//!   a C++ compiler. So all but one module is tested on any machine.
//! - Kernels follow indices without looking; `checks` looks at what a step binds before it runs.
//! - `unsafe` stands in `driver`, where memory and launches are handed over, in `executable`, `burst` and `probe`, which begin
//!   launches; `executable` also writes results to the caller's memory. Each block says why it holds.
//!
//! The contract with the kernels is `kernels/cuda/README.md`; `args`, `format` and `pack` are its Rust side.

pub mod args;
mod burst;
mod checks;
mod copies;
pub mod device;
mod driver;
pub mod error;
mod executable;
mod format;
mod images;
mod lower;
mod pack;
mod probe;
mod resident;
mod states;
mod tally;
mod weights;

pub use device::{CudaDevice, CudaOptions, Gpu};
#[cfg(feature = "emulation")]
pub use driver::emulation::{ArgsField, EmulationOptions, ThreadOrder, emulated_fields};
pub use error::CudaError;
pub use images::{Cubin, KernelImages, Source};
pub use probe::Probe;
pub use resident::GraphsNeed;
