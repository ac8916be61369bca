//! Device and pinned memory: allocation, release, queries.

use std::ffi::c_void;

use crate::rt::block::{self, Kind};
use crate::rt::code::{INVALID_MALLOC_TYPE, INVALID_PARAM, MEMORY_ALLOCATION, PARAM_INVALID, guard, out, put, refuse};
use crate::rt::device::current;
use crate::rt::state::{due, enter, initialised, ready};
use crate::rt::thread;
use crate::task::Error;

/// Allocations are rounded up to this many bytes.
const ROUND: usize = 32;
/// Each allocation takes this many bytes more.
const EXTRA: usize = 32;
/// Policies 0 to 7, or one of the flags.
const FLAGS: u32 = 0x10_1100;

fn allocate(bytes: usize, policy: u32) -> Result<usize, Error> {
    if bytes == 0 {
        return refuse(INVALID_PARAM, "EH0002: size is 0");
    }
    if (policy & !FLAGS) > 7 {
        return refuse(INVALID_MALLOC_TYPE, format!("EE1001: unknown allocation policy {policy:#x}"));
    }
    let mut world = enter()?;
    current(&world)?;
    thread::spend(world.host.alloc_ns);
    if due(&mut world.inject.malloc) {
        return refuse(MEMORY_ALLOCATION, "EL0004: out of device memory, as asked for");
    }
    let limit = world.device.hbm_bytes as u64;
    let charged = bytes.checked_next_multiple_of(ROUND).and_then(|b| b.checked_add(EXTRA));
    let Some(charged) = charged else {
        return refuse(MEMORY_ALLOCATION, format!("EL0004: out of device memory: {bytes} bytes wanted"));
    };
    let execute = world.execute;
    drop(world);
    block::allocate(Kind::Device, bytes, charged as u64, limit, execute)
}

/// `aclrtMalloc`, `aclrtMallocAlign32` and `aclrtMallocCached`.
///
/// # Safety
/// `address` is null or writable.
pub unsafe extern "C" fn malloc(address: *mut *mut c_void, bytes: usize, policy: u32) -> i32 {
    guard(|| {
        out(address, "devPtr")?;
        // SAFETY: as this function's.
        unsafe { put(address, allocate(bytes, policy)? as *mut c_void, "devPtr") }
    })
}

/// `aclrtFree`: does not wait for work that uses the block; that work fails when it runs.
pub extern "C" fn free(address: *mut c_void) -> i32 {
    guard(|| {
        if address.is_null() {
            return refuse(INVALID_PARAM, "EH0002: devPtr is null");
        }
        initialised()?;
        block::free(Kind::Device, address as usize)
    })
}

/// `aclrtMallocHost`: page-locked memory.
///
/// # Safety
/// `address` is null or writable.
pub unsafe extern "C" fn malloc_host(address: *mut *mut c_void, bytes: usize) -> i32 {
    guard(|| {
        out(address, "hostPtr")?;
        if bytes == 0 {
            return refuse(INVALID_PARAM, "EH0002: size is 0");
        }
        let mut world = enter()?;
        current(&world)?;
        if due(&mut world.inject.malloc) {
            return refuse(MEMORY_ALLOCATION, "EL0004: out of host memory, as asked for");
        }
        drop(world);
        let start = block::allocate(Kind::Pinned, bytes, 0, u64::MAX, true)?;
        // SAFETY: as this function's.
        unsafe { put(address, start as *mut c_void, "hostPtr") }
    })
}

/// `aclrtFreeHost`.
pub extern "C" fn free_host(address: *mut c_void) -> i32 {
    guard(|| {
        if address.is_null() {
            return refuse(INVALID_PARAM, "EH0002: hostPtr is null");
        }
        initialised()?;
        block::free(Kind::Pinned, address as usize)
    })
}

/// `aclrtHostRegister`: page-locks memory of the caller; the device address is the same.
///
/// # Safety
/// `address` points to `bytes` bytes until it is unregistered; `device` is null or writable.
pub unsafe extern "C" fn host_register(address: *mut c_void, bytes: u64, kind: u32, device: *mut *mut c_void) -> i32 {
    guard(|| {
        out(address, "ptr")?;
        out(device, "devPtr")?;
        ready()?;
        if kind != 0 || bytes == 0 {
            return refuse(PARAM_INVALID, format!("EE1001: register of {bytes} bytes with type {kind}"));
        }
        let bytes = usize::try_from(bytes).or_else(|_| refuse(PARAM_INVALID, "EE1001: size"))?;
        block::adopt(Kind::Pinned, address as usize, bytes, true)?;
        // SAFETY: as this function's.
        unsafe { put(device, address, "devPtr") }
    })
}

/// `aclrtHostUnregister`.
pub extern "C" fn host_unregister(address: *mut c_void) -> i32 {
    guard(|| block::disown(address as usize))
}

/// `aclrtGetMemInfo`: the whole memory is one pool, whatever part is asked for.
///
/// # Safety
/// `free` and `total` are null or writable.
pub unsafe extern "C" fn get_mem_info(attr: u32, free: *mut usize, total: *mut usize) -> i32 {
    guard(|| {
        out(free, "free")?;
        out(total, "total")?;
        let world = enter()?;
        current(&world)?;
        if attr > 16 {
            return refuse(PARAM_INVALID, format!("EE1001: unknown memory attribute {attr}"));
        }
        // Attributes of plain DDR: this chip has none.
        let all = if matches!(attr, 0 | 2 | 3 | 6 | 7) { 0 } else { world.device.hbm_bytes as usize };
        let left = all.saturating_sub(block::usage().0 as usize);
        // SAFETY: as this function's.
        unsafe { put(free, left, "free").and_then(|()| put(total, all, "total")) }
    })
}
