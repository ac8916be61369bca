//! Reserved addresses and physical memory mapped into them. What a piece of physical memory holds moves with it.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::{Mutex, MutexGuard, PoisonError};

use memmap2::{MmapMut, MmapOptions};

use crate::rt::block::{self, Kind};
use crate::rt::code::{INVALID_HANDLE, INVALID_PARAM, MEMORY_ALLOCATION, PARAM_INVALID, guard, out, put, refuse};
use crate::rt::state::{due, enter, initialised, ready};
use crate::task::Error;

/// Physical memory comes in pieces of this size.
const GRANULE: usize = 2 << 20;

/// `aclrtPhysicalMemProp`.
#[repr(C)]
pub struct Property {
    handle_type: i32,
    allocation_type: i32,
    attribute: i32,
    location_id: u32,
    location_type: i32,
    reserve: u64,
}

struct Physical {
    bytes: usize,
    mapped: Option<usize>,
    content: Vec<u8>,
}

struct Table {
    ranges: BTreeMap<usize, MmapMut>,
    physical: BTreeMap<usize, Physical>,
    next: usize,
}

static TABLE: Mutex<Table> =
    Mutex::new(Table { ranges: BTreeMap::new(), physical: BTreeMap::new(), next: 0x6b00_0000_0000 });

fn table() -> MutexGuard<'static, Table> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Live reservations and pieces of physical memory, for the check that nothing leaks.
pub fn live() -> usize {
    let table = table();
    table.ranges.len() + table.physical.len()
}

/// Unmaps and frees everything, when the device is released.
pub fn release_all() {
    let mut table = table();
    for physical in std::mem::take(&mut table.physical).into_values() {
        // What the table says is mapped is in the map of blocks.
        physical.mapped.into_iter().for_each(|start| drop(block::disown(start)));
        block::refund(physical.bytes as u64);
    }
    table.ranges.clear();
}

/// `aclrtMemGetAllocationGranularity`: 2 MiB.
///
/// # Safety
/// `granularity` is null or writable.
pub unsafe extern "C" fn granularity(prop: *const Property, option: u32, granularity: *mut usize) -> i32 {
    guard(|| {
        ready()?;
        if prop.is_null() || option > 1 {
            return refuse(INVALID_PARAM, format!("EH0002: property {prop:?}, option {option}"));
        }
        // SAFETY: as this function's.
        unsafe { put(granularity, GRANULE, "granularity") }
    })
}

/// `aclrtReserveMemAddress`.
///
/// # Safety
/// `address` is null or writable.
pub unsafe extern "C" fn reserve(
    address: *mut *mut c_void,
    bytes: usize,
    alignment: usize,
    expected: *mut c_void,
    _flags: u64,
) -> i32 {
    guard(|| {
        out(address, "virPtr")?;
        ready()?;
        if bytes == 0 || alignment != 0 || !expected.is_null() {
            return refuse(
                PARAM_INVALID,
                format!("EE1001: reserve of {bytes} bytes, alignment {alignment}, at {expected:?}"),
            );
        }
        let wanted = MmapOptions::new().len(bytes).no_reserve_swap().map_anon();
        let mut range =
            wanted.or_else(|e| refuse(MEMORY_ALLOCATION, format!("EL0004: cannot reserve {bytes} bytes: {e}")))?;
        let start = range.as_mut_ptr() as usize;
        table().ranges.insert(start, range);
        // SAFETY: as this function's.
        unsafe { put(address, start as *mut c_void, "virPtr") }
    })
}

/// `aclrtReleaseMemAddress`: nothing may be mapped in it.
pub extern "C" fn release(address: *mut c_void) -> i32 {
    guard(|| {
        initialised()?;
        let (start, mut table) = (address as usize, table());
        let Some(range) = table.ranges.get(&start) else {
            return refuse(PARAM_INVALID, format!("EE1001: {address:?} is not the start of a reservation"));
        };
        let inside = start..start + range.len();
        if table.physical.values().any(|p| p.mapped.is_some_and(|m| inside.contains(&m))) {
            return refuse(PARAM_INVALID, format!("EE1001: the reservation at {address:?} still has memory mapped"));
        }
        table.ranges.remove(&start);
        Ok(())
    })
}

/// `aclrtMallocPhysical`.
///
/// # Safety
/// `handle` is null or writable.
pub unsafe extern "C" fn malloc_physical(
    handle: *mut *mut c_void,
    bytes: usize,
    prop: *const Property,
    _flags: u64,
) -> i32 {
    guard(|| {
        out(handle, "handle")?;
        if prop.is_null() || bytes == 0 || !bytes.is_multiple_of(GRANULE) {
            return refuse(
                INVALID_PARAM,
                format!("EH0002: {bytes} bytes of physical memory (a multiple of {GRANULE} is needed)"),
            );
        }
        let mut world = enter()?;
        if due(&mut world.inject.malloc) {
            return refuse(MEMORY_ALLOCATION, "EL0004: out of device memory, as asked for");
        }
        block::charge(bytes as u64, world.device.hbm_bytes as u64)?;
        drop(world);
        let mut table = table();
        table.next += 16;
        let new = table.next;
        table.physical.insert(new, Physical { bytes, mapped: None, content: Vec::new() });
        // SAFETY: as this function's.
        unsafe { put(handle, new as *mut c_void, "handle") }
    })
}

fn physical(table: &mut Table, handle: *mut c_void) -> Result<&mut Physical, Error> {
    let dead = || refuse(INVALID_HANDLE, format!("EE1001: {handle:?} is not live physical memory"));
    table.physical.get_mut(&(handle as usize)).map_or_else(dead, Ok)
}

/// `aclrtFreePhysical`.
pub extern "C" fn free_physical(handle: *mut c_void) -> i32 {
    guard(|| {
        initialised()?;
        let mut table = table();
        let found = physical(&mut table, handle)?;
        if found.mapped.is_some() {
            return refuse(PARAM_INVALID, format!("EE1001: the physical memory {handle:?} is still mapped"));
        }
        block::refund(found.bytes as u64);
        table.physical.remove(&(handle as usize));
        Ok(())
    })
}

/// `aclrtMapMem`.
pub extern "C" fn map(address: *mut c_void, bytes: usize, offset: usize, handle: *mut c_void, _flags: u64) -> i32 {
    guard(|| {
        let execute = enter()?.execute;
        let (start, mut table) = (address as usize, table());
        let range = table.ranges.range(..=start).next_back().map(|(&s, r)| s + r.len());
        if range.is_none_or(|end| start.checked_add(bytes).is_none_or(|e| e > end)) {
            return refuse(PARAM_INVALID, format!("EE1001: {address:?} + {bytes} is not inside one reservation"));
        }
        let found = physical(&mut table, handle)?;
        if found.mapped.is_some() || offset != 0 || bytes != found.bytes {
            return refuse(
                PARAM_INVALID,
                format!("EE1001: physical memory is mapped once and whole ({} bytes)", found.bytes),
            );
        }
        block::adopt(Kind::Device, start, bytes, execute)?;
        found.mapped = Some(start);
        let content = std::mem::take(&mut found.content);
        if !content.is_empty() {
            // SAFETY: the range lies in a reservation of ours, and nothing else was mapped there.
            unsafe { std::ptr::copy_nonoverlapping(content.as_ptr(), start as *mut u8, content.len()) };
        }
        Ok(())
    })
}

/// `aclrtUnmapMem`.
pub extern "C" fn unmap(address: *mut c_void) -> i32 {
    guard(|| {
        initialised()?;
        let (start, mut table) = (address as usize, table());
        let Some(found) = table.physical.values_mut().find(|p| p.mapped == Some(start)) else {
            return refuse(PARAM_INVALID, format!("EE1001: nothing is mapped at {address:?}"));
        };
        let backed = block::kind_of(start).is_some_and(|(_, backed)| backed);
        block::disown(start)?;
        found.mapped = None;
        if backed {
            // SAFETY: the range lies in a reservation of ours, which outlives its mappings.
            let held = unsafe { std::slice::from_raw_parts_mut(start as *mut u8, found.bytes) };
            found.content = held.to_vec();
            held.fill(0);
        }
        Ok(())
    })
}
