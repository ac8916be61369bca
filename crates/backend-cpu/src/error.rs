//! Errors raised in several places.

use crate::memory::AlignedBytes;
use aio_backend::DeviceError;
use aio_plan::Task;

/// No kernel fits a task.
pub(crate) fn unsupported(task: &Task, reason: impl Into<String>) -> DeviceError {
    DeviceError::Unsupported { device: "cpu".to_owned(), kind: task.kind.name().name(), reason: reason.into() }
}

/// Zeroed memory, or an error that names its purpose.
pub(crate) fn allocate(bytes: usize, what: impl FnOnce() -> String) -> Result<AlignedBytes, DeviceError> {
    AlignedBytes::try_zeroed(bytes).ok_or_else(|| DeviceError::OutOfMemory { what: what(), bytes: bytes as u64 })
}
