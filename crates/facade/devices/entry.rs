//! What a device says of itself before it is opened, and what it is once it is open.

use super::error::RegistryError;
use super::measure::Hardware;
use super::options::{DeviceOptions, OptionSpec};
use aio_backend::{Device, DeviceError};
use std::fmt;
use std::sync::Arc;

/// One device of the registry.
pub trait DeviceEntry: Send + Sync {
    /// Its name, as people ask for it.
    fn name(&self) -> &'static str;

    /// What it is, in a few words.
    fn summary(&self) -> &'static str;

    /// The options that it has.
    fn options(&self) -> &'static [OptionSpec] {
        &[]
    }

    /// What there is of it on this machine, the best first. Opens nothing.
    ///
    /// # Errors
    /// [`DeviceError::Unavailable`] with the reason why there is none.
    fn list(&self) -> Result<Vec<Found>, DeviceError>;

    /// Opens it. [`Registry::open`](super::Registry::open) checks the options first.
    ///
    /// # Errors
    /// [`DeviceError::Unavailable`] with the reason.
    fn open(&self, options: &DeviceOptions) -> Result<Opened, DeviceError>;

    /// The name under which a machine keeps the profile of this device with `threads` threads; `None` if it is not measured.
    fn profile_name(&self, target: &str, threads: u32) -> Option<String> {
        let _ = (target, threads);
        None
    }

    /// Compiles kernels ahead, into the folder of the options; bytes of machine code.
    ///
    /// # Errors
    /// [`RegistryError::NoKernels`] if it has none, [`RegistryError::Kernels`].
    fn compile_kernels(&self, request: &KernelRequest<'_>, options: &DeviceOptions) -> Result<usize, RegistryError> {
        let _ = (request, options);
        Err(RegistryError::NoKernels { device: self.name() })
    }
}

/// An entry as data, for a device of one thread that is there on any machine, has no options and is not measured.
#[derive(Clone, Copy, Debug)]
pub struct SimpleEntry {
    /// See [`DeviceEntry::name`].
    pub name: &'static str,
    /// See [`DeviceEntry::summary`].
    pub summary: &'static str,
    /// The chip's own name.
    pub chip: &'static str,
    /// Makes the device.
    pub make: fn() -> Result<Arc<dyn Device>, DeviceError>,
}

impl DeviceEntry for SimpleEntry {
    fn name(&self) -> &'static str {
        self.name
    }

    fn summary(&self) -> &'static str {
        self.summary
    }

    fn list(&self) -> Result<Vec<Found>, DeviceError> {
        Ok(vec![Found { target: self.name.to_owned(), chip: self.chip.to_owned(), threads: 1 }])
    }

    fn open(&self, _: &DeviceOptions) -> Result<Opened, DeviceError> {
        Ok(Opened { device: (self.make)()?, chip: self.chip.to_owned(), threads: 1, hardware: None })
    }
}

/// A device that could be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The name of its target, `cpu-avx2` for example.
    pub target: String,
    /// The chip's own name.
    pub chip: String,
    /// Threads of a CPU, multiprocessors of a GPU.
    pub threads: u32,
}

/// Which kernels to compile ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelRequest<'a> {
    /// For which architecture, by the device's own numbers.
    pub architecture: u32,
    /// The kernel of bursts whose tasks run these kernels, instead of all others.
    pub burst: Option<&'a [String]>,
}

/// A device that is open.
#[derive(Clone)]
pub struct Opened {
    /// Where plans run.
    pub device: Arc<dyn Device>,
    /// The chip's own name.
    pub chip: String,
    /// Threads of a CPU, multiprocessors of a GPU.
    pub threads: u32,
    /// What measures it, if anything does.
    pub hardware: Option<Arc<dyn Hardware>>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opened {} on {}", self.device.target().name, self.chip)
    }
}
