//! Device memory, and pinned and mapped host memory: owned and bounds-checked.
//!
//! The safe interface to the driver's copies: the owner of a [`Memory`] can only read and write inside it.

use super::Driver;
use crate::error::CudaError;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

/// An owned allocation of device memory.
pub(crate) struct Memory {
    driver: Arc<dyn Driver>,
    at: u64,
    bytes: usize,
}

impl Memory {
    /// Allocates memory with arbitrary content.
    pub(crate) fn new(driver: &Arc<dyn Driver>, bytes: usize) -> Result<Memory, CudaError> {
        // At least one byte, so that the address is never null.
        let at = driver.allocate(bytes.max(1))?;
        Ok(Memory { driver: Arc::clone(driver), at, bytes })
    }

    /// Allocates zeroed memory.
    pub(crate) fn zeroed(driver: &Arc<dyn Driver>, bytes: usize) -> Result<Memory, CudaError> {
        let memory = Memory::new(driver, bytes)?;
        memory.clear(0, bytes)?;
        Ok(memory)
    }

    /// Its device address.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// Its size in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn check(&self, offset: usize, len: usize) {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.bytes), "{offset} + {len} of {}", self.bytes);
    }

    /// Starts clearing a range.
    pub(crate) fn clear(&self, offset: usize, len: usize) -> Result<(), CudaError> {
        self.check(offset, len);
        if len == 0 {
            return Ok(());
        }
        // SAFETY: `check` found the bytes inside this allocation, which lives as long as `self`.
        unsafe { self.driver.clear(self.at + offset as u64, len) }
    }

    /// Copies bytes to the device and waits, since the driver may read them in place.
    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), CudaError> {
        self.begin_write(offset, bytes)?;
        self.driver.synchronize()
    }

    fn begin_write(&self, offset: usize, bytes: &[u8]) -> Result<(), CudaError> {
        self.check(offset, bytes.len());
        if bytes.is_empty() {
            return Ok(());
        }
        // SAFETY: as in `clear`; `write` waits while it borrows the bytes, the caller of `write_pinned` leaves them
        // unchanged.
        unsafe { self.driver.write(self.at + offset as u64, bytes) }
    }

    /// Starts copying bytes of pinned memory from `at` on, which the caller must not change until the device is done.
    pub(crate) fn write_pinned(&self, offset: usize, from: &Pinned, at: usize, len: usize) -> Result<(), CudaError> {
        self.begin_write(offset, &from.bytes()[at..at + len])
    }

    /// Copies bytes to the host and waits.
    pub(crate) fn read(&self, offset: usize, len: usize) -> Result<Vec<u8>, CudaError> {
        self.check(offset, len);
        let mut bytes = vec![0; len];
        // SAFETY: the vector has `len` bytes and lives beyond `synchronize`.
        unsafe { self.begin_read(offset, len, bytes.as_mut_ptr())? };
        self.driver.synchronize()?;
        Ok(bytes)
    }

    /// Starts copying bytes to the host.
    ///
    /// # Safety
    /// `len` bytes at `to` may be written, and stay allocated until the device is done.
    pub(crate) unsafe fn begin_read(&self, offset: usize, len: usize, to: *mut u8) -> Result<(), CudaError> {
        self.check(offset, len);
        if len == 0 {
            return Ok(());
        }
        // SAFETY: as in `clear`; for `to` the caller's promise.
        unsafe { self.driver.read(to, self.at + offset as u64, len) }
    }

    /// Starts copying bytes to pinned memory, which the caller must not use until the device is done.
    pub(crate) fn read_pinned(&self, offset: usize, len: usize, to: &mut Pinned, at: usize) -> Result<(), CudaError> {
        let to = &mut to.bytes_mut()[at..at + len];
        // SAFETY: pinned memory stays in place, and its owner waits before reading or freeing it.
        unsafe { self.begin_read(offset, len, to.as_mut_ptr()) }
    }

    /// Starts copying within the allocation. The ranges must not overlap.
    pub(crate) fn copy_within(&self, from: usize, to: usize, len: usize) -> Result<(), CudaError> {
        self.check(from, len);
        self.check(to, len);
        debug_assert!(from.abs_diff(to) >= len);
        if len == 0 {
            return Ok(());
        }
        // SAFETY: as in `clear`; pages are disjoint.
        unsafe { self.driver.copy(self.at + to as u64, self.at + from as u64, len) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: `allocate` gave the address; the owner is gone, and the driver waits for running work.
        unsafe { self.driver.free(self.at) }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory of {} bytes", self.bytes)
    }
}

/// An owned allocation of pinned host memory, initially zeros.
pub(crate) struct Pinned {
    driver: Arc<dyn Driver>,
    at: *mut u8,
    bytes: usize,
}

// SAFETY: the memory is owned and reached through `&self` and `&mut self` alone.
unsafe impl Send for Pinned {}
// SAFETY: as above: `&Pinned` only reads.
unsafe impl Sync for Pinned {}

impl Pinned {
    pub(crate) fn new(driver: &Arc<dyn Driver>, bytes: usize) -> Result<Pinned, CudaError> {
        let bytes = bytes.max(1);
        let at = driver.allocate_host(bytes)?;
        // SAFETY: `allocate_host` gave this many bytes.
        unsafe { at.write_bytes(0, bytes) };
        Ok(Pinned { driver: Arc::clone(driver), at, bytes })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: `new` took and cleared the bytes, and they are this value's alone.
        unsafe { std::slice::from_raw_parts(self.at, self.bytes) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.at, self.bytes) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: `allocate_host` gave the address for as many bytes; the driver waits for running work.
        unsafe { self.driver.free_host(self.at, self.bytes) }
    }
}

impl fmt::Debug for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pinned of {} bytes", self.bytes)
    }
}

/// An owned allocation of host memory, in words, that kernels and host access concurrently. Initially zeros.
pub(crate) struct Mapped {
    driver: Arc<dyn Driver>,
    words: *mut u32,
    count: usize,
    at: u64,
}

// SAFETY: the memory is owned, and reached through atomic words alone.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Mapped {
    pub(crate) fn new(driver: &Arc<dyn Driver>, count: usize) -> Result<Mapped, CudaError> {
        let count = count.max(1);
        let (words, at) = driver.allocate_mapped(4 * count)?;
        // SAFETY: `allocate_mapped` gave this many bytes.
        unsafe { words.write_bytes(0, 4 * count) };
        Ok(Mapped { driver: Arc::clone(driver), words: words.cast(), count, at })
    }

    /// Its device address.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// The words.
    pub(crate) fn words(&self) -> &[AtomicU32] {
        // SAFETY: `new` took and cleared the bytes, whose address is a multiple of 256; everyone sharing them stores
        // whole words.
        unsafe { std::slice::from_raw_parts(self.words.cast(), self.count) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: `allocate_mapped` gave the address for as many bytes; the driver waits for running work.
        unsafe { self.driver.free_host(self.words.cast(), 4 * self.count) }
    }
}
