//! Errors of driver calls, with the driver's names for them.

use crate::error::CudaError;
use cudarc::driver::DriverError;

/// The driver's name of an error.
pub(super) fn reason(e: DriverError) -> String {
    let name = e.error_name().map(|n| n.to_string_lossy().into_owned());
    name.unwrap_or_else(|_| format!("error {}", e.0 as u32))
}

/// The error of a call.
pub(super) fn failed(call: &'static str) -> impl Fn(DriverError) -> CudaError {
    move |e| CudaError::Call { call, reason: reason(e) }
}
