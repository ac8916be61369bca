//! CUDA back end.

pub mod args;
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
mod resident;
mod states;
mod weights;

pub use device::{CudaDevice, CudaOptions};
#[cfg(feature = "emulation")]
pub use driver::emulation::{ArgsField, EmulationOptions, ThreadOrder, emulated_fields};
pub use error::CudaError;
pub use images::{Cubin, KernelImages, Source};
