//! Status codes of the runtime, and the wrapper that every exported runtime function runs in.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::task::{Error, record};

macro_rules! codes {
    ($($name:ident $value:literal $what:literal,)*) => {
        $(#[doc = $what] pub const $name: i32 = $value;)*
    };
}

codes! {
    INVALID_PARAM 100000 "A null pointer, a size of zero, an unknown enumerator.",
    UNINITIALIZE 100001 "`aclInit` has not been called.",
    REPEAT_INITIALIZE 100002 "`aclInit` was called again.",
    REPEAT_FINALIZE 100037 "`aclFinalize` was called again.",
    API_NOT_SUPPORT 200001 "The function is not simulated.",
    INTERNAL_ERROR 500000 "A defect of the simulator.",
    PARAM_INVALID 107000 "An argument that the runtime refuses.",
    INVALID_DEVICEID 107001 "No such device.",
    CONTEXT_NULL 107002 "The thread has no current context.",
    STREAM_CONTEXT 107003 "The stream belongs to another context.",
    EVENT_TIMESTAMP_INVALID 107006 "An event without a time.",

    EVENT_TIMESTAMP_REVERSAL 107007 "The end event is earlier than the start event.",
    INVALID_HANDLE 107017 "A handle that is not live.",
    INVALID_MALLOC_TYPE 107018 "An unknown allocation policy.",
    WAIT_TIMEOUT 107019 "The wait for an event ended without it.",
    CAPTURE_DEPENDENCY 107024 "A captured stream waits for work outside its capture.",
    STREAM_UNJOINED 107025 "A stream that joined the capture was not joined back.",
    MODEL_CAPTURED 107026 "The graph is still being captured.",
    STREAM_CAPTURED 107027 "The stream is being captured.",
    EVENT_CAPTURED 107028 "The event belongs to a capture.",
    STREAM_NOT_CAPTURED 107029 "The stream is not being captured.",
    CAPTURE_MODE_NOT_SUPPORT 107030 "The call is unsafe in the mode of an active capture.",
    STREAM_CAPTURE_IMPLICIT 107031 "The default stream cannot be captured.",
    CAPTURE_CONFLICT 107032 "Two captures would merge.",
    TASK_GROUP_STATUS 107033 "Begin and end of a task group or update do not pair.",
    TASK_GROUP_INTR 107034 "Work that a task group cannot hold.",
    CAPTURE_UNMATCHED 107036 "The capture began on another stream.",
    MODEL_RUNNING 107037 "The graph has replays that have not finished.",
    CAPTURE_WRONG_THREAD 107038 "The capture began in another thread.",
    MODEL_UPDATE_FAILED 107040 "An update with other tasks than the group's.",
    NOT_PERMITTED_CAPTURING 107041 "Synchronising and querying are illegal during capture.",
    FEATURE_NOT_SUPPORT 207000 "The runtime does not offer this.",
    MEMORY_ALLOCATION 207001 "Out of memory.",
    RESOURCE_ALLOC_FAIL 207005 "Out of streams.",
    NO_EVENT 207007 "Out of events.",
    STREAM_TASK_FULL 507002 "The stream's queue is full and cannot drain.",
    LOST_HEARTBEAT 507010 "The device does not answer.",
    MODEL_EXECUTE 507011 "A replay failed.",
    AICORE_EXCEPTION 507015 "A kernel failed.",
    STREAM_SYNC_TIMEOUT 507046 "The stream did not finish in time.",
    DEVICE_MEM_ERROR 507053 "A copy touched memory that is not live.",
    STREAM_CAPTURE_INVALIDATED 507903 "An illegal call has invalidated the capture.",
}

/// An error as a result.
pub fn refuse<T>(code: i32, message: impl Into<String>) -> Result<T, Error> {
    Err(Error { code, message: message.into() })
}

/// Runs the body of an exported function: no panic crosses the ABI, and an error leaves its text for this thread.
pub fn guard(body: impl FnOnce() -> Result<(), Error>) -> i32 {
    let error = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return 0,
        Ok(Err(error)) => error,
        Err(_) => Error { code: INTERNAL_ERROR, message: "EE9999: the simulator failed inside this call".into() },
    };
    record(&error);
    error.code
}

/// Writes an out-parameter, which must not be null.
///
/// # Safety
/// `out` is null or writable.
pub unsafe fn put<T>(out: *mut T, value: T, name: &str) -> Result<(), Error> {
    if out.is_null() {
        return refuse(INVALID_PARAM, format!("EH0002: {name} is null"));
    }
    // SAFETY: not null, and the caller vouches for the rest.
    unsafe { out.write_unaligned(value) };
    Ok(())
}

/// Refuses a null out-parameter before anything is done.
pub fn out<T>(pointer: *mut T, name: &str) -> Result<(), Error> {
    if pointer.is_null() { refuse(INVALID_PARAM, format!("EH0002: {name} is null")) } else { Ok(()) }
}
