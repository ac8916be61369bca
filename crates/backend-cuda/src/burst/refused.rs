//! The error of a plan that cannot run in a burst.

use crate::error::DEVICE;
use aio_backend::DeviceError;

/// Makes the error from a reason.
pub(super) fn refused(reason: String) -> DeviceError {
    DeviceError::NoBurst { device: DEVICE.to_owned(), reason }
}
