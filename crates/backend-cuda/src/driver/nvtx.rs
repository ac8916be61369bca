//! Ranges for profilers, which Nsight shows above the kernels of a step.
//!
//! NVTX functions do nothing until a profiler attaches. The library is `libnvtx3interop` from the wheel
//! `nvidia-nvtx-cu12`, or `libnvToolsExt` before version 12.9 and in toolkits, the only one that cudarc knows. Without
//! either, ranges are no-ops. Used for each step and each part of loading.

use libloading::Library;
use std::ffi::{CStr, c_char};
use std::sync::OnceLock;

/// Names of the library, newest first.
const NAMES: [&str; 3] = ["libnvtx3interop.so.1", "libnvToolsExt.so.1", "libnvToolsExt.so"];

type Start = unsafe extern "C" fn(*const c_char) -> u64;
type End = unsafe extern "C" fn(u64);

/// The functions used from the library, which stays open until the process ends.
struct Functions {
    start: Start,
    end: End,
    _library: Library,
}

fn functions() -> Option<&'static Functions> {
    static FUNCTIONS: OnceLock<Option<Functions>> = OnceLock::new();
    FUNCTIONS.get_or_init(|| NAMES.iter().find_map(|name| open(name))).as_ref()
}

fn open(name: &str) -> Option<Functions> {
    // SAFETY: the library's constructors are NVTX's.
    let library = unsafe { Library::new(name) }.ok()?;
    // SAFETY: NVTX declares it so (`nvtxRangeStartA` of nvToolsExt.h), in all versions.
    let start = *unsafe { library.get::<Start>(b"nvtxRangeStartA\0") }.ok()?;
    // SAFETY: as above.
    let end = *unsafe { library.get::<End>(b"nvtxRangeEnd\0") }.ok()?;
    Some(Functions { start, end, _library: library })
}

/// An open range, which ends when dropped, on any thread.
#[derive(Debug)]
pub(crate) struct Range(Option<u64>);

/// Starts a range.
pub(crate) fn range(name: &CStr) -> Range {
    // SAFETY: the library is open; it reads the text, which ends with a zero, before it returns.
    Range(functions().map(|f| unsafe { (f.start)(name.as_ptr()) }))
}

impl Drop for Range {
    fn drop(&mut self) {
        if let (Some(id), Some(f)) = (self.0, functions()) {
            // SAFETY: `range` began it with this library, which is open.
            unsafe { (f.end)(id) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_there_if_the_library_is() {
        let range = range(c"a test");
        assert_eq!(range.0.is_some(), functions().is_some());
        println!("NVTX: {range:?}");
    }
}
