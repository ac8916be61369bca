//! Devices as a registry: one entry a device, used by the command line, benchmarks, conformance tests and examples.
//!
//! An entry ([`DeviceEntry`]) says what the device is called, what there is of it on this machine, which options it takes and
//! how it is opened; an opened device ([`Opened`]) may bring what measures its hardware. Options are data ([`DeviceOptions`]):
//! the library reads no environment, so whoever opens a device names folders and switches. A back end that is not part of
//! aio is added at run time:
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
//! `examples/custom_backend.rs` is a whole one.

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
