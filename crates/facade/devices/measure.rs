//! What the hardware of a device could do at best: the denominators of benchmarks, and the figures of a profile.

use super::error::RegistryError;
use aio_backend::DeviceError;
use aio_orchestrator::{Costs, Figure, Peak, ReadLevel};

/// Measures the hardware of an open device.
pub trait Hardware: Send + Sync {
    /// A meter whose buffer has at least `bytes` bytes.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`].
    fn meter(&self, bytes: u64) -> Result<Box<dyn Meter>, DeviceError>;

    /// All figures of a profile. Nothing else should run meanwhile.
    ///
    /// # Errors
    /// Those of the device and of the sampler.
    fn figures(&self, sampler: &Sampler<'_>) -> Result<Figures, RegistryError>;
}

/// Measures a device between steps.
pub trait Meter {
    /// Bytes of a read.
    fn bytes(&self) -> u64;

    /// Seconds to read the buffer once.
    ///
    /// # Errors
    /// Those of the device.
    fn read_seconds(&self) -> Result<f64, DeviceError>;

    /// Seconds to copy one half of the buffer to the other, where that is a measure of its own.
    ///
    /// # Errors
    /// Those of the device.
    fn copy_seconds(&self) -> Result<Option<f64>, DeviceError> {
        Ok(None)
    }

    /// What the arithmetic reaches.
    ///
    /// # Errors
    /// Those of the device.
    fn macs(&self) -> Result<Macs, DeviceError>;
}

/// Multiply-adds a second from registers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Macs {
    /// 8-bit ones.
    pub int8: f64,
    /// Those of plain weights. On a GPU one of them is two products of bf16, since activations are two such numbers each.
    pub plain: f64,
}

/// The figures of a device profile.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// Read bandwidth by working set.
    pub reads: Vec<ReadLevel>,
    /// Multiply-adds from registers.
    pub peaks: Vec<Peak>,
    /// What a step costs beside its work.
    pub costs: Costs,
}

/// Takes samples, as many as the caller wants, until the caller says stop.
pub struct Sampler<'a> {
    /// Samples of each figure.
    pub repetitions: u32,
    /// Whether to stop.
    pub stopped: &'a dyn Fn() -> bool,
}

impl Sampler<'_> {
    /// The figure of some samples, after one that does not count.
    ///
    /// # Errors
    /// [`RegistryError::Interrupted`], [`RegistryError::NoTime`], and those of the samples.
    pub fn figure(&self, mut sample: impl FnMut() -> Result<f64, DeviceError>) -> Result<Figure, RegistryError> {
        sample()?;
        let mut samples = Vec::new();
        for _ in 0..self.repetitions {
            if (self.stopped)() {
                return Err(RegistryError::Interrupted);
            }
            samples.push(sample()?);
        }
        Figure::of(&samples).ok_or(RegistryError::NoTime)
    }
}
