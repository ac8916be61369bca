//! Refusals of the operator half: the aclnn status codes and the guard round each exported function.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::task::{Error, Fault, record};

/// A required pointer is null.
pub const PARAM_NULLPTR: i32 = 161_001;
/// A parameter breaks a documented rule.
pub const PARAM_INVALID: i32 = 161_002;
/// Internal error of an operator.
pub const INNER: i32 = 561_000;
/// Tiling refuses the shapes or the lengths.
pub const TILING: i32 = 561_002;
/// No kernel for this operator or this combination of types.
pub const FIND_KERNEL: i32 = 561_003;
/// The executor is missing, used up or destroyed.
pub const INNER_NULLPTR: i32 = 561_103;
/// A parameter of a call that is no operator is invalid.
pub const ACL_INVALID_PARAM: i32 = 100_000;
/// A kernel of the cube units failed on the device.
pub const AICORE_EXCEPTION: i32 = 507_015;

/// A required pointer is null.
pub fn null(name: &str) -> Error {
    Error { code: PARAM_NULLPTR, message: format!("EZ1001: {name} must not be a null pointer") }
}

/// A parameter breaks a rule.
pub fn invalid(message: impl Into<String>) -> Error {
    Error { code: PARAM_INVALID, message: format!("EZ1001: {}", message.into()) }
}

/// Tiling refuses the call.
pub fn tiling(message: impl Into<String>) -> Error {
    Error { code: TILING, message: format!("EZ9999: {}", message.into()) }
}

/// There is no kernel for the call.
pub fn no_kernel(message: impl Into<String>) -> Error {
    Error { code: FIND_KERNEL, message: format!("EZ9999: {}", message.into()) }
}

/// A kernel failed on the device.
pub fn fault(message: impl Into<String>) -> Fault {
    Fault { code: AICORE_EXCEPTION, message: format!("EZ9999: {}", message.into()) }
}

/// Runs an exported function: keeps the text of a refusal, and turns a panic into `on_panic`.
pub fn guard(on_panic: i32, call: impl FnOnce() -> Result<(), Error>) -> i32 {
    let outcome = catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|_| Err(Error { code: on_panic, message: "EZ9999: internal error of the simulator".into() }));
    match outcome {
        Ok(()) => 0,
        Err(error) => {
            record(&error);
            error.code
        }
    }
}

/// Like [`guard`] for a function that returns a handle: null when refused.
pub fn guard_handle(call: impl FnOnce() -> Result<usize, Error>) -> usize {
    let mut handle = 0;
    let code = guard(500_000, || {
        handle = call()?;
        Ok(())
    });
    if code == 0 { handle } else { 0 }
}
