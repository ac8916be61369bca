//! Errors from selecting and opening a device: unknown names and options, and failed measurements.

use aio_backend::DeviceError;

/// An error of the registry.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RegistryError {
    /// No entry has this name.
    #[error("unknown device `{name}`; known: {}", known.join(", "))]
    UnknownDevice {
        /// The name requested.
        name: String,
        /// The names that exist.
        known: Vec<&'static str>,
    },
    /// Two entries have the same name.
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
        /// The options that it supports.
        known: Vec<&'static str>,
    },
    /// The device does not accept the option's value.
    #[error("option `{option}` of device {device} takes {expected}")]
    OptionValue {
        /// The device.
        device: &'static str,
        /// The option.
        option: &'static str,
        /// The values allowed.
        expected: String,
    },
    /// The device cannot be measured.
    #[error("device {device} cannot be measured, so it has no profile")]
    NotMeasured {
        /// The device.
        device: &'static str,
    },
    /// The device has no kernels to compile ahead of time.
    #[error("device {device} has no kernels to compile ahead")]
    NoKernels {
        /// The device.
        device: &'static str,
    },
    /// Kernels do not compile.
    #[error("{reason}")]
    Kernels {
        /// The reason.
        reason: String,
    },
    /// The caller stopped a measurement.
    #[error("interrupted")]
    Interrupted,
    /// A sample is not a finite number.
    #[error("a measurement took no time")]
    NoTime,
    /// The device reported an error.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

fn options(known: &[&str]) -> String {
    if known.is_empty() { "it has none".to_owned() } else { format!("it has {}", known.join(", ")) }
}
