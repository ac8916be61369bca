//! Measures the limits of a device's hardware: the reference values of benchmarks, and the figures of a profile.

use super::error::RegistryError;
use aio_backend::DeviceError;
use aio_orchestrator::{Costs, Figure, Peak, ReadLevel};

/// Measures the hardware of an open device.
pub trait Hardware: Send + Sync {
    /// Creates a meter with a buffer of at least `bytes` bytes.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`] if the buffer does not fit.
    fn meter(&self, bytes: u64) -> Result<Box<dyn Meter>, DeviceError>;

    /// Measures all figures of a profile. Nothing else should run meanwhile.
    ///
    /// # Errors
    /// Errors of the device and of the sampler.
    fn figures(&self, sampler: &Sampler<'_>) -> Result<Figures, RegistryError>;
}

/// Measures a device between steps.
pub trait Meter {
    /// Number of bytes read by [`Meter::read_seconds`].
    fn bytes(&self) -> u64;

    /// Seconds to read the buffer once.
    ///
    /// # Errors
    /// Errors of the device.
    fn read_seconds(&self) -> Result<f64, DeviceError>;

    /// Seconds to copy one half of the buffer to the other; `None` if the device does not measure copies separately.
    ///
    /// # Errors
    /// Errors of the device.
    fn copy_seconds(&self) -> Result<Option<f64>, DeviceError> {
        Ok(None)
    }

    /// Measures peak arithmetic throughput.
    ///
    /// # Errors
    /// Errors of the device.
    fn macs(&self) -> Result<Macs, DeviceError>;
}

/// Multiply-adds per second with operands in registers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Macs {
    /// 8-bit multiply-adds.
    pub int8: f64,
    /// Multiply-adds of plain weights. On a GPU each takes two bf16 products, one per half of a split activation.
    pub plain: f64,
}

/// The figures of a device profile.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// Read bandwidth by working set.
    pub reads: Vec<ReadLevel>,
    /// Multiply-adds per second with operands in registers.
    pub peaks: Vec<Peak>,
    /// Fixed costs of a step, besides its work.
    pub costs: Costs,
}

/// Takes the requested number of samples, or stops when the caller says so.
pub struct Sampler<'a> {
    /// Samples per figure.
    pub repetitions: u32,
    /// Returns true to stop.
    pub stopped: &'a dyn Fn() -> bool,
}

impl Sampler<'_> {
    /// Takes the samples of a figure, after one that is discarded.
    ///
    /// # Errors
    /// [`RegistryError::Interrupted`], [`RegistryError::NoTime`], and errors of the samples.
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
