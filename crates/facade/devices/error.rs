//! What can go wrong before a device is at work: names and options that do not exist, and measurements.

use aio_backend::DeviceError;

/// An error of the registry.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RegistryError {
    /// No entry has this name.
    #[error("there is no device `{name}`; there are {}", known.join(", "))]
    UnknownDevice {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<&'static str>,
    },
    /// Two entries with one name.
    #[error("there is a device `{name}` already")]
    Taken {
        /// The name.
        name: &'static str,
    },
    /// The device has no such option.
    #[error("device {device} has no option `{option}`; {}", options(known))]
    UnknownOption {
        /// The device.
        device: &'static str,
        /// The option.
        option: String,
        /// The options that it has.
        known: Vec<&'static str>,
    },
    /// The option's value is none that the device takes.
    #[error("option `{option}` of device {device} takes {expected}")]
    OptionValue {
        /// The device.
        device: &'static str,
        /// The option.
        option: &'static str,
        /// What it takes.
        expected: String,
    },
    /// Nothing measures the device.
    #[error("device {device} brings no measurements, so it has no profile")]
    NotMeasured {
        /// The device.
        device: &'static str,
    },
    /// The device has no kernels that could be compiled ahead.
    #[error("device {device} has no kernels to compile ahead")]
    NoKernels {
        /// The device.
        device: &'static str,
    },
    /// Kernels do not compile.
    #[error("{reason}")]
    Kernels {
        /// Why.
        reason: String,
    },
    /// The caller ended a measurement.
    #[error("interrupted")]
    Interrupted,
    /// A sample that is no finite number.
    #[error("a measurement took no time")]
    NoTime,
    /// The device itself.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

fn options(known: &[&str]) -> String {
    if known.is_empty() { "it has none".to_owned() } else { format!("it has {}", known.join(", ")) }
}
