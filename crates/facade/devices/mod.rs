//! Devices as a registry: one entry a device, used by the command line, benchmarks, conformance tests and examples.
//!
//! An entry ([`DeviceEntry`]) says what the device is called, what there is of it on this machine, which options it takes and
//! how it is opened; an opened device ([`Opened`]) may bring what measures its hardware. Options are data ([`DeviceOptions`]):
//! the library reads no environment, so whoever opens a device names folders and switches. A back end that is not part of
//! aio is added at run time:
//!
//! ```
//! # use aio::devices::{DeviceEntry, DeviceOptions, Found, Opened, Registry};
//! # use aio::backend::{DeviceError, null::NullDevice};
//! struct Null;
//!
//! impl DeviceEntry for Null {
//!     fn name(&self) -> &'static str {
//!         "null"
//!     }
//!     fn summary(&self) -> &'static str {
//!         "A device that runs nothing"
//!     }
//!     fn list(&self) -> Result<Vec<Found>, DeviceError> {
//!         Ok(vec![Found { target: "null".to_owned(), chip: "none".to_owned(), threads: 1 }])
//!     }
//!     fn open(&self, _: &DeviceOptions) -> Result<Opened, DeviceError> {
//!         Ok(Opened::unmeasured(NullDevice::default(), "none"))
//!     }
//! }
//!
//! let mut devices = Registry::with_defaults();
//! devices.add(Null)?;
//! let opened = devices.open("null", &DeviceOptions::new())?;
//! assert_eq!(opened.device.target().name, "null");
//! # Ok::<(), aio::devices::RegistryError>(())
//! ```

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
pub use entry::{DeviceEntry, Found, KernelRequest, Opened};
pub use error::RegistryError;
pub use host::processor;
pub use interp::ORACLE;
pub use measure::{Figures, Hardware, Macs, Meter, Sampler};
pub use options::{DeviceOptions, OptionForm, OptionSpec, OptionValue};
pub use registry::Registry;
