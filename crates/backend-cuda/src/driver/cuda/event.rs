//! Events in a stream, for the time between two of them. Used by the driver in `cuda.rs` to measure.

use super::failed::failed;
use crate::error::CudaError;
use cudarc::driver::{result, sys};

/// A timed event in the stream. Its context must be current on the thread while it is used.
pub(super) struct Event(sys::CUevent);

impl Event {
    pub(super) fn new() -> Result<Event, CudaError> {
        let event = result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT);
        Ok(Event(event.map_err(failed("cuEventCreate"))?))
    }

    pub(super) fn record(&self, stream: sys::CUstream) -> Result<(), CudaError> {
        // SAFETY: `new` made the event, and the stream is `Cuda::open`'s.
        unsafe { result::event::record(self.0, stream) }.map_err(failed("cuEventRecord"))
    }

    /// Seconds from this event to a later one.
    ///
    /// # Safety
    /// Both were recorded on a stream that has passed them.
    pub(super) unsafe fn seconds_to(&self, later: &Event) -> Result<f64, CudaError> {
        // SAFETY: the caller's promise.
        let ms = unsafe { result::event::elapsed(self.0, later.0) }.map_err(failed("cuEventElapsedTime"))?;
        Ok(f64::from(ms) / 1e3)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: `new` made the event, which has no other owner.
        let _ = unsafe { result::event::destroy(self.0) };
    }
}
