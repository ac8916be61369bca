//! One NPU: its context and streams, status checks, and what only the simulated Ascend has.

use super::api::{Api, Ptr};
use super::library::AclLibrary;
use crate::error::AscendError;
use std::ffi::{CStr, CString};
use std::ptr::{null, null_mut};
use std::sync::Arc;

/// `aclInit` was called before, by us or by another user of the library.
const REPEATED: i32 = 100_002;
/// Codes of failed allocations.
const NO_MEMORY: [i32; 4] = [200_000, 207_001, 207_018, 300_000];
/// `ACL_HBM_MEM`.
const HBM: u32 = 1;

/// An open NPU.
pub(crate) struct Runtime {
    library: AclLibrary,
    number: i32,
    context: Ptr,
    /// The stream of all steps.
    stream: Ptr,
    /// The stream that is captured, and that updates captured tasks.
    side: Ptr,
}

// SAFETY: handles of AscendCL may be used by any thread whose current context is the NPU's; `enter` sees to that.
unsafe impl Send for Runtime {}
// SAFETY: as above; AscendCL synchronises calls on one stream itself.
unsafe impl Sync for Runtime {}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").field("library", &self.library).field("number", &self.number).finish()
    }
}

/// NPUs that the library finds. Initialises it.
pub(crate) fn devices(library: &AclLibrary) -> Result<u32, AscendError> {
    let api = library.api();
    // SAFETY: a null path asks for the default configuration.
    match unsafe { (api.aclInit)(null()) } {
        0 | REPEATED => {}
        code => return Err(failed(api, "aclInit", code)),
    }
    let mut count = 0;
    // SAFETY: a live result.
    check(api, "aclrtGetDeviceCount", unsafe { (api.aclrtGetDeviceCount)(&mut count) })?;
    if count == 0 { Err(AscendError::NoDevice) } else { Ok(count) }
}

fn failed(api: &Api, call: &'static str, code: i32) -> AscendError {
    // SAFETY: the text is null or ends in a zero, and lives until this thread's next call.
    let text = unsafe { (api.aclGetRecentErrMsg)() };
    // SAFETY: not null, and as above.
    let message = if text.is_null() { String::new() } else { unsafe { CStr::from_ptr(text) }.to_string_lossy().into() };
    AscendError::Call { call, code, message }
}

fn check(api: &Api, call: &'static str, code: i32) -> Result<(), AscendError> {
    if code == 0 { Ok(()) } else { Err(failed(api, call, code)) }
}

impl Runtime {
    /// Opens an NPU.
    pub(crate) fn open(library: AclLibrary, number: u32) -> Result<Arc<Runtime>, AscendError> {
        let found = devices(&library)?;
        if number >= found {
            return Err(AscendError::NoSuchDevice { number, found });
        }
        let number = number as i32;
        // SAFETY: a number below the count.
        check(library.api(), "aclrtSetDevice", unsafe { (library.api().aclrtSetDevice)(number) })?;
        // From here on it is dropped as a whole, so that a failure leaves nothing behind.
        let nothing = null_mut();
        let mut runtime = Runtime { library, number, context: nothing, stream: nothing, side: nothing };
        let Runtime { library, context, stream, side, .. } = &mut runtime;
        let api = library.api();
        // SAFETY: live results, handles of this library.
        unsafe {
            check(api, "aclrtCreateContext", (api.aclrtCreateContext)(context, number))?;
            check(api, "aclrtSetCurrentContext", (api.aclrtSetCurrentContext)(*context))?;
            check(api, "aclrtCreateStream", (api.aclrtCreateStream)(stream))?;
            check(api, "aclrtCreateStream", (api.aclrtCreateStream)(side))?;
        }
        Ok(Arc::new(runtime))
    }

    pub(super) fn api(&self) -> &Api {
        self.library.api()
    }

    pub(super) fn check(&self, call: &'static str, code: i32) -> Result<(), AscendError> {
        check(self.api(), call, code)
    }

    /// The same for a call that allocates.
    pub(super) fn check_memory(&self, call: &'static str, code: i32, bytes: usize) -> Result<(), AscendError> {
        if NO_MEMORY.contains(&code) { Err(self.out_of_memory(bytes)) } else { self.check(call, code) }
    }

    /// The error of an allocation that failed.
    pub(super) fn out_of_memory(&self, bytes: usize) -> AscendError {
        AscendError::OutOfMemory { bytes: bytes as u64, modelled: self.is_simulated() }
    }

    /// Makes the NPU current in this thread.
    pub(super) fn enter(&self) -> Result<(), AscendError> {
        // SAFETY: a live context.
        self.check("aclrtSetCurrentContext", unsafe { (self.api().aclrtSetCurrentContext)(self.context) })
    }

    /// The same before handles are released, which a lost NPU does not stop.
    pub(super) fn enter_to_release(&self) {
        // A failure has no one to tell; the release is tried all the same.
        let _ = self.enter();
    }

    pub(super) fn stream(&self) -> Ptr {
        self.stream
    }

    pub(super) fn side(&self) -> Ptr {
        self.side
    }

    /// Whether times are modelled.
    pub(crate) fn is_simulated(&self) -> bool {
        self.library.is_simulated()
    }

    /// Whether it has the operator of [`super::Call::Rotate`].
    pub(crate) fn rotates(&self) -> bool {
        let api = self.api();
        api.aclnnApplyRotaryPosEmbV2GetWorkspaceSize.is_some() && api.aclnnApplyRotaryPosEmbV2.is_some()
    }

    /// The library.
    pub(crate) fn library(&self) -> &AclLibrary {
        &self.library
    }

    /// The chip's name, such as `Ascend910B2`.
    pub(crate) fn chip(&self) -> String {
        if self.enter().is_err() {
            return String::new();
        }
        // SAFETY: the text is null or ends in a zero, and is the library's.
        let name = unsafe { (self.api().aclrtGetSocName)() };
        // SAFETY: not null, and as above.
        if name.is_null() { String::new() } else { unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned() }
    }

    /// Free device memory in bytes.
    pub(crate) fn free_bytes(&self) -> Option<u64> {
        self.enter().ok()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: live results.
        let code = unsafe { (self.api().aclrtGetMemInfo)(HBM, &mut free, &mut total) };
        (code == 0).then_some(free as u64)
    }

    /// The host's modelled time in nanoseconds; `None` on a real NPU.
    pub(crate) fn modelled_ns(&self) -> Option<u64> {
        // SAFETY: no parameters.
        self.api().aioSimHostTime.map(|time| unsafe { time() })
    }

    /// Sets a property of the simulated Ascend.
    pub(crate) fn control(&self, setting: &'static str, key: &str, value: &str) -> Result<(), AscendError> {
        let Some(control) = self.api().aioSimControl else { return Err(AscendError::NotSimulated { setting }) };
        let text = |s: &str| CString::new(s.replace('\0', " ")).unwrap_or_default();
        let (key, value) = (text(key), text(value));
        // SAFETY: both texts end in a zero and live through the call.
        self.check("aioSimControl", unsafe { control(key.as_ptr(), value.as_ptr()) })
    }

    /// The modelled trace so far, which starts afresh.
    pub(crate) fn take_trace(&self) -> Result<String, AscendError> {
        self.text("a trace", self.api().aioSimTraceText)
    }

    /// The simulator's report: clock, counters, live handles and constants, as JSON.
    pub(crate) fn report(&self) -> Result<String, AscendError> {
        self.text("a report", self.api().aioSimReport)
    }

    /// The text that a function of the simulator gives.
    fn text(
        &self,
        setting: &'static str,
        text: Option<unsafe extern "C" fn(*mut std::ffi::c_char, usize) -> usize>,
    ) -> Result<String, AscendError> {
        let Some(text) = text else { return Err(AscendError::NotSimulated { setting }) };
        // SAFETY: without a buffer it only says how much it needs.
        let mut buffer = vec![0u8; unsafe { text(null_mut(), 0) }];
        // SAFETY: the buffer has that length.
        let used = unsafe { text(buffer.as_mut_ptr().cast(), buffer.len()) };
        buffer.truncate(used.min(buffer.len()).saturating_sub(1));
        Ok(String::from_utf8_lossy(&buffer).into_owned())
    }

    /// Waits for all steps that were started.
    pub(crate) fn synchronize(&self) -> Result<(), AscendError> {
        self.enter()?;
        // SAFETY: a live stream.
        self.check("aclrtSynchronizeStream", unsafe { (self.api().aclrtSynchronizeStream)(self.stream) })
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.enter_to_release();
        let api = self.library.api();
        // SAFETY: live handles, used for the last time; null where opening failed.
        unsafe {
            for stream in [self.side, self.stream].into_iter().filter(|s| !s.is_null()) {
                (api.aclrtDestroyStream)(stream);
            }
            if !self.context.is_null() {
                (api.aclrtDestroyContext)(self.context);
            }
            (api.aclrtResetDevice)(self.number);
        }
    }
}
