//! Device memory, and page-locked host memory for copies, freed when dropped.

use super::api::Ptr;
use super::runtime::Runtime;
use crate::error::AscendError;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;

/// `ACL_MEM_MALLOC_HUGE_FIRST`.
const HUGE_FIRST: u32 = 0;
const HOST_TO_DEVICE: i32 = 1;
const DEVICE_TO_HOST: i32 = 2;
const DEVICE_TO_DEVICE: i32 = 3;

/// A block of device memory. Empty blocks have address 0.
pub(crate) struct DeviceMemory {
    runtime: Arc<Runtime>,
    at: Ptr,
    bytes: usize,
}

// SAFETY: an address of the device; the methods only pass it to AscendCL.
unsafe impl Send for DeviceMemory {}
// SAFETY: as above.
unsafe impl Sync for DeviceMemory {}

impl DeviceMemory {
    /// Allocates memory with any contents.
    pub(crate) fn new(runtime: &Arc<Runtime>, bytes: usize) -> Result<DeviceMemory, AscendError> {
        let mut at = null_mut();
        if bytes > 0 {
            runtime.enter()?;
            // SAFETY: a live result.
            let code = unsafe { (runtime.api().aclrtMalloc)(&mut at, bytes, HUGE_FIRST) };
            runtime.check_memory("aclrtMalloc", code, bytes)?;
        }
        Ok(DeviceMemory { runtime: Arc::clone(runtime), at, bytes })
    }

    /// Allocates memory of zeros.
    pub(crate) fn zeroed(runtime: &Arc<Runtime>, bytes: usize) -> Result<DeviceMemory, AscendError> {
        let memory = DeviceMemory::new(runtime, bytes)?;
        memory.clear(0, bytes)?;
        Ok(memory)
    }

    /// Sets a part of the block to zeros, and waits.
    pub(crate) fn clear(&self, offset: usize, bytes: usize) -> Result<(), AscendError> {
        if bytes == 0 {
            return Ok(());
        }
        self.runtime.enter()?;
        let at = self.place(offset, bytes);
        // SAFETY: the part lies inside the block.
        let code = unsafe { (self.runtime.api().aclrtMemset)(at, bytes, 0, bytes) };
        self.runtime.check("aclrtMemset", code)
    }

    /// The address on the device.
    pub(crate) fn address(&self) -> u64 {
        self.at as u64
    }

    /// Size in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn pointer(&self) -> Ptr {
        self.at
    }

    fn place(&self, offset: usize, bytes: usize) -> Ptr {
        assert!(offset.checked_add(bytes).is_some_and(|end| end <= self.bytes), "a copy inside the block");
        self.at.wrapping_byte_add(offset)
    }

    /// Copies host data into the block, and waits.
    pub(crate) fn write(&self, offset: usize, data: &[u8]) -> Result<(), AscendError> {
        if data.is_empty() {
            return Ok(());
        }
        self.runtime.enter()?;
        let (to, n) = (self.place(offset, data.len()), data.len());
        // SAFETY: both sides have that length.
        let code = unsafe { (self.runtime.api().aclrtMemcpy)(to, n, data.as_ptr().cast(), n, HOST_TO_DEVICE) };
        self.runtime.check("aclrtMemcpy", code)
    }

    /// Copies a part of the block to the host, and waits.
    pub(crate) fn read(&self, offset: usize, bytes: usize) -> Result<Vec<u8>, AscendError> {
        let mut data = vec![0u8; bytes];
        if bytes > 0 {
            self.runtime.enter()?;
            let from = self.place(offset, bytes);
            // SAFETY: both sides have that length.
            let code = unsafe {
                (self.runtime.api().aclrtMemcpy)(data.as_mut_ptr().cast(), bytes, from, bytes, DEVICE_TO_HOST)
            };
            self.runtime.check("aclrtMemcpy", code)?;
        }
        Ok(data)
    }

    /// Copies a part of the block to another place in it, and waits. The parts do not overlap.
    pub(crate) fn copy_within(&self, from: usize, to: usize, bytes: usize) -> Result<(), AscendError> {
        if bytes == 0 || from == to {
            return Ok(());
        }
        self.runtime.enter()?;
        let (source, target) = (self.place(from, bytes), self.place(to, bytes));
        // SAFETY: both parts lie inside the block.
        let code = unsafe { (self.runtime.api().aclrtMemcpy)(target, bytes, source, bytes, DEVICE_TO_DEVICE) };
        self.runtime.check("aclrtMemcpy", code)
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        if !self.at.is_null() {
            self.runtime.enter_to_release();
            // SAFETY: a live block, used for the last time. A failure has no one to tell.
            unsafe { (self.runtime.api().aclrtFree)(self.at) };
        }
    }
}

/// Page-locked host memory, and the device memory that it is copied to or from.
pub(crate) struct Pinned {
    runtime: Arc<Runtime>,
    host: NonNull<u8>,
    /// The device's side.
    pub device: DeviceMemory,
}

// SAFETY: the host side is reached only through `&self` and `&mut self`, as a slice.
unsafe impl Send for Pinned {}

impl Pinned {
    /// Allocates both sides, the host's with zeros.
    pub(crate) fn new(runtime: &Arc<Runtime>, bytes: usize) -> Result<Pinned, AscendError> {
        let device = DeviceMemory::new(runtime, bytes)?;
        let mut host = NonNull::<u8>::dangling();
        if bytes > 0 {
            let mut at = null_mut();
            // SAFETY: a live result.
            let code = unsafe { (runtime.api().aclrtMallocHost)(&mut at, bytes) };
            runtime.check_memory("aclrtMallocHost", code, bytes)?;
            host = NonNull::new(at.cast()).ok_or_else(|| runtime.out_of_memory(bytes))?;
            // SAFETY: a block of that length, which nothing else uses yet.
            unsafe { host.as_ptr().write_bytes(0, bytes) };
        }
        Ok(Pinned { runtime: Arc::clone(runtime), host, device })
    }

    /// The host's side.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: initialised memory of this size. The device writes to it only in steps, which the owner waits for.
        unsafe { std::slice::from_raw_parts(self.host.as_ptr(), self.device.bytes) }
    }

    /// The host's side.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.host.as_ptr(), self.device.bytes) }
    }

    /// Starts the copy to the device on a stream.
    pub(super) fn send(&self, stream: Ptr) -> Result<(), AscendError> {
        self.copy(stream, self.device.at, self.host.as_ptr().cast(), HOST_TO_DEVICE)
    }

    /// Starts the copy from the device on a stream.
    pub(super) fn fetch(&self, stream: Ptr) -> Result<(), AscendError> {
        self.copy(stream, self.host.as_ptr().cast(), self.device.at, DEVICE_TO_HOST)
    }

    fn copy(&self, stream: Ptr, to: Ptr, from: Ptr, kind: i32) -> Result<(), AscendError> {
        let bytes = self.device.bytes;
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: both sides have that length and live until the owner has waited for the stream.
        let code = unsafe { (self.runtime.api().aclrtMemcpyAsync)(to, bytes, from, bytes, kind, stream) };
        self.runtime.check("aclrtMemcpyAsync", code)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if self.device.bytes > 0 {
            self.runtime.enter_to_release();
            // SAFETY: a live block, used for the last time. A failure has no one to tell.
            unsafe { (self.runtime.api().aclrtFreeHost)(self.host.as_ptr().cast()) };
        }
    }
}
