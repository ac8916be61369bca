//! A registry of devices, one entry each, used by the command line, benchmarks, conformance tests and examples.
//!
//! An entry ([`DeviceEntry`]) gives the device's name and options, lists the chips on this machine, and opens the
//! device. An opened device ([`Opened`]) may come with an object that measures its hardware. Options are data
//! ([`DeviceOptions`]): the library reads no environment variables, so the caller sets folders and switches. Add a back
//! end from outside aio at run time:
//!
//! ```
//! # use aio::backend::null::NullDevice;
//! # use aio::devices::{DeviceOptions, Registry, SimpleEntry};
//! # use std::sync::Arc;
//! let mut devices = Registry::with_defaults();
//! devices.add(SimpleEntry {
//!     name: "null",
//!     summary: "A device that runs nothing",
//!     chip: "none",
//!     make: || Ok(Arc::new(NullDevice::default())),
//! })?;
//! let opened = devices.open("null", &DeviceOptions::new())?;
//! assert_eq!(opened.device.target().name, "null");
//! # Ok::<(), aio::devices::RegistryError>(())
//! ```
//!
//! See `examples/custom_backend.rs` for a complete back end.

#[cfg(feature = "ascend")]
mod ascend;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod entry;
mod error;
mod host;
mod interp;
mod measure;
pub mod options;
mod registry;

#[cfg(feature = "cuda")]
pub use cuda::kernel_images;
pub use entry::{DeviceEntry, Found, KernelRequest, Opened, SimpleEntry};
pub use error::RegistryError;
pub use host::processor;
pub use interp::ORACLE;
pub use measure::{Figures, Hardware, Macs, Meter, Sampler};
pub use options::{DeviceOptions, OptionForm, OptionSpec, OptionValue};
pub use registry::Registry;
