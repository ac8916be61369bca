//! The frame of every entry point: no panic crosses it, and a failure becomes a status with its message.

use crate::raw::report;
use crate::status::{Error, Failure, Outcome, Status};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs a call. Returns its status; the message of a failure goes to `error` if that is not null.
///
/// # Safety
/// `error` is null, or writable for as many bytes as its first four say, and for four at least.
pub(crate) unsafe fn call(error: *mut Error, work: impl FnOnce() -> Outcome) -> i32 {
    // What a panic leaves behind is behind locks that may be used again, and the status says so.
    let outcome = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
        Err(Failure::new(Status::Internal, format!("a fault of the library: {text}")))
    });
    let Err(failure) = outcome else { return Status::Ok as i32 };
    // SAFETY: the caller's promise.
    unsafe { report(error, &failure) };
    failure.status as i32
}
