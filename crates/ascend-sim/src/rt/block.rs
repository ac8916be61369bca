//! The map of simulated memory: every range that a copy or a kernel touches is looked up here before it is touched.
//!
//! Device memory is ordinary host memory, so a device address is a host address. Without execution, addresses have no
//! memory, which lets a model be walked without its weights.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::rt::code::{MEMORY_ALLOCATION, PARAM_INVALID, refuse};
use crate::task::{Access, Error};

/// Where a block lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Device memory.
    Device,
    /// Page-locked host memory.
    Pinned,
}

/// Memory behind a block.
#[derive(Debug, PartialEq, Eq)]
enum Backing {
    /// Allocated by this map.
    Owned(Layout),
    /// Owned by a reservation, or by the caller (registered host memory); `false` for an address only.
    Borrowed(bool),
    /// An address only.
    None,
}

/// A block, live or in quarantine.
#[derive(Debug)]
struct Block {
    bytes: usize,
    charged: u64,
    kind: Kind,
    live: bool,
    backing: Backing,
}

/// Freed blocks stay unusable until this many bytes of younger ones have been freed, so that a use after free is named.
const QUARANTINE: usize = 64 << 20;
/// Alignment that `aclrtMalloc` guarantees.
const ALIGN: usize = 64;
/// First address without memory.
const NOWHERE: usize = 0x2000_0000_0000;

struct Map {
    blocks: BTreeMap<usize, Block>,
    freed: VecDeque<usize>,
    held: usize,
    used: u64,
    next: usize,
}

static MAP: Mutex<Map> =
    Mutex::new(Map { blocks: BTreeMap::new(), freed: VecDeque::new(), held: 0, used: 0, next: NOWHERE });

fn map() -> MutexGuard<'static, Map> {
    MAP.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Map {
    /// The block that contains an address, or the one that ends just before it.
    fn around(&self, addr: usize) -> Option<(usize, &Block)> {
        self.blocks.range(..=addr).next_back().map(|(&start, block)| (start, block))
    }

    fn release(&mut self, start: usize) {
        let Some(block) = self.blocks.remove(&start) else { return };
        if let Backing::Owned(layout) = block.backing {
            // SAFETY: the block was allocated with this layout and is removed from the map exactly once.
            unsafe { dealloc(start as *mut u8, layout) };
        }
    }

    fn quarantine(&mut self, start: usize) {
        let Some(block) = self.blocks.get_mut(&start) else { return };
        block.live = false;
        self.used -= block.charged;
        self.held += block.bytes;
        self.freed.push_back(start);
        while self.held > QUARANTINE
            && let Some(oldest) = self.freed.pop_front()
        {
            self.held -= self.blocks.get(&oldest).map_or(0, |b| b.bytes);
            self.release(oldest);
        }
    }
}

/// Allocates a block of `bytes`, of which `charged` count against the limit (0 for host memory).
pub fn allocate(kind: Kind, bytes: usize, charged: u64, limit: u64, backed: bool) -> Result<usize, Error> {
    let mut map = map();
    let free = limit.saturating_sub(map.used);
    if charged > free {
        return refuse(
            MEMORY_ALLOCATION,
            format!("EL0004: out of device memory: {bytes} bytes wanted, {free} free of {limit}"),
        );
    }
    let failed = || format!("EL0004: the host has no memory for a block of {bytes} bytes");
    let (start, backing) = if backed || kind == Kind::Pinned {
        let layout = Layout::from_size_align(bytes.max(1), ALIGN).or_else(|_| refuse(MEMORY_ALLOCATION, failed()))?;
        // SAFETY: the size is at least 1.
        let start = unsafe { alloc_zeroed(layout) } as usize;
        if start == 0 {
            return refuse(MEMORY_ALLOCATION, failed());
        }
        (start, Backing::Owned(layout))
    } else {
        let start = map.next;
        map.next = start.saturating_add(bytes).next_multiple_of(ALIGN).saturating_add(ALIGN);
        (start, Backing::None)
    };
    map.used += charged;
    map.blocks.insert(start, Block { bytes, charged, kind, live: true, backing });
    Ok(start)
}

/// Declares memory of someone else (a mapped reservation, registered host memory) to be a live block.
pub fn adopt(kind: Kind, start: usize, bytes: usize, backed: bool) -> Result<(), Error> {
    let mut map = map();
    let end = start.saturating_add(bytes);
    let overlaps = |map: &Map| {
        map.blocks.range(..end).next_back().filter(|(s, b)| **s + b.bytes > start).map(|(&s, b)| (s, b.live))
    };
    while let Some((other, live)) = overlaps(&map) {
        if live {
            return refuse(
                PARAM_INVALID,
                format!("EE1001: {start:#x} + {bytes} overlaps the live block at {other:#x}"),
            );
        }
        let bytes = map.blocks.get(&other).map_or(0, |b| b.bytes);
        map.held -= bytes;
        map.freed.retain(|&s| s != other);
        map.release(other);
    }
    map.blocks.insert(start, Block { bytes, charged: 0, kind, live: true, backing: Backing::Borrowed(backed) });
    Ok(())
}

/// Forgets an adopted block at once.
pub fn disown(start: usize) -> Result<(), Error> {
    let mut map = map();
    match map.blocks.get(&start) {
        Some(block) if block.live && matches!(block.backing, Backing::Borrowed(_)) => {
            map.release(start);
            Ok(())
        }
        _ => refuse(PARAM_INVALID, format!("EE1001: {start:#x} is not mapped or registered memory")),
    }
}

/// Frees an allocated block.
pub fn free(kind: Kind, start: usize) -> Result<(), Error> {
    let mut map = map();
    let what = if kind == Kind::Device { "device" } else { "pinned host" };
    match map.blocks.get(&start) {
        Some(block) if !block.live => refuse(PARAM_INVALID, format!("EE1001: {start:#x} was freed already")),
        Some(block) if block.kind == kind && !matches!(block.backing, Backing::Borrowed(_)) => {
            map.quarantine(start);
            Ok(())
        }
        _ => refuse(PARAM_INVALID, format!("EE1001: {start:#x} is not the start of a {what} allocation")),
    }
}

/// Frees every device block, when the device is reset.
pub fn free_device() {
    let mut map = map();
    let device = |(&start, b): (&usize, &Block)| {
        (b.live && b.kind == Kind::Device && !matches!(b.backing, Backing::Borrowed(_))).then_some(start)
    };
    let starts: Vec<_> = map.blocks.iter().filter_map(device).collect();
    starts.into_iter().for_each(|start| map.quarantine(start));
}

/// Charges or returns device memory that has no block (physical memory of the mapping calls).
pub fn charge(bytes: u64, limit: u64) -> Result<(), Error> {
    let mut map = map();
    let free = limit.saturating_sub(map.used);
    if bytes > free {
        return refuse(
            MEMORY_ALLOCATION,
            format!("EL0004: out of device memory: {bytes} bytes wanted, {free} free of {limit}"),
        );
    }
    map.used += bytes;
    Ok(())
}

/// Returns what [`charge`] took.
pub fn refund(bytes: u64) {
    let mut map = map();
    map.used = map.used.saturating_sub(bytes);
}

/// Device memory in use, in bytes, and the number of live blocks of both kinds.
pub fn usage() -> (u64, usize) {
    let map = map();
    (map.used, map.blocks.values().filter(|b| b.live).count())
}

/// The kind of the live block that holds an address, and whether it has memory; `None` for pageable host memory.
pub fn kind_of(addr: usize) -> Option<(Kind, bool)> {
    let map = map();
    let (start, block) = map.around(addr)?;
    (block.live && addr < start + block.bytes)
        .then_some((block.kind, !matches!(block.backing, Backing::None | Backing::Borrowed(false))))
}

/// The start of the freed block that holds an address, as long as it is remembered.
pub fn freed(addr: usize) -> Option<usize> {
    let map = map();
    let (start, block) = map.around(addr)?;
    (!block.live && addr < start + block.bytes).then_some(start)
}

/// Checks that a range lies inside live blocks of one kind; adjacent mapped blocks count as one.
pub fn check(kind: Kind, addr: usize, bytes: usize) -> Result<(), Error> {
    let what = if kind == Kind::Device { "device" } else { "pinned host" };
    let Some(end) = addr.checked_add(bytes) else {
        return refuse(PARAM_INVALID, format!("EE1001: {addr:#x} + {bytes} wraps round the address space"));
    };
    let map = map();
    let mut at = addr;
    loop {
        match map.around(at) {
            Some((start, block)) if at < start + block.bytes.max(1) && block.kind == kind => {
                if !block.live {
                    return refuse(
                        PARAM_INVALID,
                        format!("EE1001: {addr:#x} + {bytes}: use after free of the block at {start:#x}"),
                    );
                }
                at = start + block.bytes;
                if at >= end {
                    return Ok(());
                }
            }
            Some((start, block)) if at > addr => {
                let past = end - (start + block.bytes).min(end);
                return refuse(
                    PARAM_INVALID,
                    format!("EE1001: {addr:#x} + {bytes} reaches {past} bytes past the end of the {what} block"),
                );
            }
            _ => return refuse(PARAM_INVALID, format!("EE1001: {at:#x} is not {what} memory")),
        }
    }
}

/// Checks that a range lies inside live device memory.
pub fn check_range(addr: usize, bytes: usize, _access: Access) -> Result<(), Error> {
    check(Kind::Device, addr, bytes)
}
