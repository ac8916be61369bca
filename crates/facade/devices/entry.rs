//! A device in the registry: what it declares before it is opened, and the opened device.

use super::error::RegistryError;
use super::measure::Hardware;
use super::options::{DeviceOptions, OptionSpec};
use aio_backend::{Device, DeviceError};
use std::fmt;
use std::sync::Arc;

/// One device of the registry.
pub trait DeviceEntry: Send + Sync {
    /// The name that users select it by.
    fn name(&self) -> &'static str;

    /// A short description.
    fn summary(&self) -> &'static str;

    /// The options that it supports.
    fn options(&self) -> &'static [OptionSpec] {
        &[]
    }

    /// Lists the chips found on this machine, best first, with options that say where to look. Opens nothing.
    ///
    /// # Errors
    /// [`DeviceError::Unavailable`] with the reason if there is none.
    fn list(&self, options: &DeviceOptions) -> Result<Vec<Found>, DeviceError>;

    /// Opens the device. [`Registry::open`](super::Registry::open) checks the options first.
    ///
    /// # Errors
    /// [`DeviceError::Unavailable`] with the reason.
    fn open(&self, options: &DeviceOptions) -> Result<Opened, DeviceError>;

    /// Name of the stored profile of this device with `threads` threads; `None` if it is not measured.
    fn profile_name(&self, target: &str, threads: u32) -> Option<String> {
        let _ = (target, threads);
        None
    }

    /// Compiles kernels ahead of time into the folder given in the options. Returns the bytes of machine code.
    ///
    /// # Errors
    /// [`RegistryError::NoKernels`] if the device has none to compile, [`RegistryError::Kernels`] if compilation fails.
    fn compile_kernels(&self, request: &KernelRequest<'_>, options: &DeviceOptions) -> Result<usize, RegistryError> {
        let _ = (request, options);
        Err(RegistryError::NoKernels { device: self.name() })
    }
}

/// An entry as plain data, for a single-threaded device that is always available, has no options and is not measured.
#[derive(Clone, Copy, Debug)]
pub struct SimpleEntry {
    /// See [`DeviceEntry::name`].
    pub name: &'static str,
    /// See [`DeviceEntry::summary`].
    pub summary: &'static str,
    /// The chip's name.
    pub chip: &'static str,
    /// Creates the device.
    pub make: fn() -> Result<Arc<dyn Device>, DeviceError>,
}

impl DeviceEntry for SimpleEntry {
    fn name(&self) -> &'static str {
        self.name
    }

    fn summary(&self) -> &'static str {
        self.summary
    }

    fn list(&self, _: &DeviceOptions) -> Result<Vec<Found>, DeviceError> {
        Ok(vec![Found { target: self.name.to_owned(), chip: self.chip.to_owned(), threads: 1 }])
    }

    fn open(&self, _: &DeviceOptions) -> Result<Opened, DeviceError> {
        Ok(Opened { device: (self.make)()?, chip: self.chip.to_owned(), threads: 1, hardware: None })
    }
}

/// A device that can be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Name of its target, such as `cpu-avx2`.
    pub target: String,
    /// The chip's name.
    pub chip: String,
    /// Threads of a CPU, multiprocessors of a GPU.
    pub threads: u32,
}

/// The kernels to compile ahead of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelRequest<'a> {
    /// Target architecture, in the device's own numbering.
    pub architecture: u32,
    /// If set, compiles only the burst kernel for tasks that run these kernels, instead of all other kernels.
    pub burst: Option<&'a [String]>,
}

/// An open device.
#[derive(Clone)]
pub struct Opened {
    /// The device that runs plans.
    pub device: Arc<dyn Device>,
    /// The chip's name.
    pub chip: String,
    /// Threads of a CPU, multiprocessors of a GPU.
    pub threads: u32,
    /// Measures the hardware; `None` if the device is not measured.
    pub hardware: Option<Arc<dyn Hardware>>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opened {} on {}", self.device.target().name, self.chip)
    }
}
