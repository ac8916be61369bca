//! Errors of AscendCL and its library, before conversion to errors of a device.

use aio_backend::DeviceError;
use std::path::PathBuf;

/// The device's name in errors.
pub(crate) const DEVICE: &str = "ascend";

/// An error of AscendCL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AscendError {
    /// The library cannot be opened.
    #[error("AscendCL cannot be opened from `{path}`: {reason}")]
    Library {
        /// The file, folder or library name.
        path: PathBuf,
        /// The loader's message.
        reason: String,
    },
    /// The library lacks a function.
    #[error("AscendCL has no function `{name}`")]
    Symbol {
        /// The function.
        name: &'static str,
    },
    /// There is no NPU.
    #[error("AscendCL finds no NPU")]
    NoDevice,
    /// The NPU has no such number.
    #[error("there is no NPU {number}; AscendCL finds {found}")]
    NoSuchDevice {
        /// The number asked for.
        number: u32,
        /// NPUs that there are.
        found: u32,
    },
    /// A setting is for the simulated Ascend only.
    #[error("{setting} applies to the simulated Ascend only")]
    NotSimulated {
        /// The setting.
        setting: &'static str,
    },
    /// An allocation failed.
    #[error("out of {}: {bytes} bytes", memory(*.modelled))]
    OutOfMemory {
        /// The size requested.
        bytes: u64,
        /// Whether the memory is that of the modelled chip.
        modelled: bool,
    },
    /// A call failed.
    #[error("{call}: error {code}{}{message}", if .message.is_empty() { "" } else { ": " })]
    Call {
        /// The function.
        call: &'static str,
        /// Its status.
        code: i32,
        /// AscendCL's text; may be empty.
        message: String,
    },
}

/// Whose memory it is: that of the simulated Ascend has nothing to do with this machine's.
fn memory(modelled: bool) -> &'static str {
    if modelled { "the modelled chip's memory" } else { "device memory" }
}

impl AscendError {
    /// Converts it to the reason why a device is unavailable.
    pub(crate) fn unavailable(self) -> DeviceError {
        DeviceError::Unavailable { device: DEVICE.to_owned(), reason: self.to_string() }
    }

    /// Converts it to an error of an open device that allocates memory for `what`.
    pub(crate) fn taking(self, what: &str) -> DeviceError {
        match self {
            AscendError::OutOfMemory { bytes, modelled } => {
                let of = if modelled { ", in the modelled chip's memory," } else { "" };
                DeviceError::OutOfMemory { what: format!("{what}{of}"), bytes }
            }
            other => other.into(),
        }
    }
}

impl From<AscendError> for DeviceError {
    fn from(e: AscendError) -> DeviceError {
        match e {
            memory @ AscendError::OutOfMemory { .. } => memory.taking("the device"),
            other => DeviceError::Failed(other.to_string()),
        }
    }
}
