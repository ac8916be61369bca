//! CUDA back end: plans as captured graphs of the kernels in `kernels/cuda`, on a GPU or an emulated one.
//!
//! [`CudaDevice`] is the device; everything else is reached through `aio-backend`'s traits. A plan is lowered once,
//! when it is loaded: each task becomes a few launches with every address and size filled in (`lower`), all in one
//! graph. A step is then one copy to the device, one graph launch, one wait. Kernels read everything that differs
//! between steps from device memory: counts from a header, inputs from fixed addresses.
//!
//! - Many steps of one sequence can be one launch (`burst`).
//! - Building needs no toolkit: the driver and the kernel compiler are opened at run time, and a missing one is an
//!   error with a reason ([`CudaError`]), never a panic.
//! - Above the `driver` interface all code is the same for a GPU and for the emulation, which compiles the same kernels
//!   with a C++ compiler. So all but one module is tested on any machine.
//! - Kernels use indices unchecked; the plan's checks validate what a step binds before it runs.
//! - `unsafe` is used in `driver`, which hands over memory and launches, and in `executable`, `burst` and `probe`,
//!   which start launches; `executable` also writes results to the caller's memory. Each block says why it is sound.
//!
//! The contract with the kernels is `kernels/cuda/README.md`; `args`, `format` and `pack` are its Rust side.

pub mod args;
mod burst;
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
mod weights;

pub use device::{CudaDevice, CudaOptions, Gpu};
#[cfg(feature = "emulation")]
pub use driver::emulation::{ArgsField, EmulationOptions, ThreadOrder, emulated_fields};
pub use error::CudaError;
pub use images::{Cubin, KernelImages, Source};
pub use probe::Probe;
pub use resident::GraphsNeed;

/// Version of the kernel compiler NVRTC that this process can open, `(major, minor)`; `None` if there is none. Kernels that
/// are not built in need it; it needs no GPU.
pub fn compiler_version() -> Option<(i32, i32)> {
    driver::compiler_found()
}
