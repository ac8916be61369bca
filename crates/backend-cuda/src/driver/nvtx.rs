//! Ranges for profilers: what Nsight shows above the kernels of a step.
//!
//! NVTX is a library (`libnvToolsExt`, of a toolkit or the wheel `nvidia-nvtx-cu12`) whose functions do nothing until a
//! profiler attaches. Where it is not there, ranges are nothing at all. Used for each step and each part of loading.

use cudarc::nvtx::sys;
use std::ffi::CStr;
use std::sync::OnceLock;

/// A range under way; it ends when it is dropped, on whichever thread.
#[derive(Debug)]
pub(crate) struct Range(Option<sys::nvtxRangeId_t>);

/// Whether the library is there.
fn present() -> bool {
    static PRESENT: OnceLock<bool> = OnceLock::new();
    // SAFETY: it opens the library, whose constructors are NVTX's.
    *PRESENT.get_or_init(|| unsafe { sys::is_culib_present() })
}

/// Begins a range.
pub(crate) fn range(name: &CStr) -> Range {
    if !present() {
        return Range(None);
    }
    // SAFETY: the library is there; it reads the text, which ends with a zero, before it returns.
    Range(Some(unsafe { sys::nvtxRangeStartA(name.as_ptr()) }))
}

impl Drop for Range {
    fn drop(&mut self) {
        if let Some(id) = self.0 {
            // SAFETY: `range` began it with this library.
            unsafe { sys::nvtxRangeEnd(id) }
        }
    }
}
