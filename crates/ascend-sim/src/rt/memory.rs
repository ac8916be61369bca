//! The allocation map: device memory, pinned host memory and mapped address ranges of the simulated devices.
//!
//! Device memory is ordinary host memory, mapped without a reservation so that a large pool costs nothing until it is written. A
//! freed block keeps its addresses for a while, so that a use after free is named. In the execution-free mode device
//! addresses have nothing behind them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use memmap2::{MmapMut, MmapOptions, UncheckedAdvice};

use super::code::{INVALID_PARAM, MEMORY_ALLOCATION, PARAM_INVALID, refuse};
use crate::task::{Access, Error};

/// Freed blocks whose addresses are kept.
const QUARANTINE: usize = 4096;
/// First address of the execution-free mode: outside of what a host maps.
const NOWHERE: usize = 0x7000_0000_0000_0000;

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Device memory of a device.
    Device(usize),
    /// Pinned host memory.
    Pinned,
    /// Host memory of the caller, registered as pinned.
    Registered,
    /// Reserved addresses, parts of which may be mapped.
    Reserved,
}

/// A block of the map.
pub struct Block {
    /// Usable bytes.
    pub size: usize,
    /// Bytes charged to the device.
    pub charged: usize,
    /// What it is.
    pub kind: Kind,
    map: Option<MmapMut>,
}

/// The allocation map.
#[derive(Default)]
pub struct Memory {
    live: BTreeMap<usize, Block>,
    freed: BTreeMap<usize, Block>,
    order: VecDeque<usize>,
    /// Ranges of reserved addresses that physical memory is mapped to: start, size, device.
    pub mapped: BTreeMap<usize, (usize, usize)>,
    /// The physical memory behind each mapped range.
    pub handles: BTreeMap<usize, usize>,
    /// Bytes charged per device.
    pub used: BTreeMap<usize, usize>,
    /// Device addresses have no memory behind them.
    pub shapes_only: bool,
    next_nowhere: usize,
}

static MEMORY: LazyLock<Mutex<Memory>> = LazyLock::new(Mutex::default);

/// The allocation map, locked. Never lock the simulator's state while holding it.
pub fn memory() -> MutexGuard<'static, Memory> {
    MEMORY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes that an allocation of `size` takes: rounded up to 32, plus 32.
pub fn rounded(size: usize) -> usize {
    size.saturating_add(31) / 32 * 32 + 32
}

fn containing(blocks: &BTreeMap<usize, Block>, addr: usize) -> Option<(usize, &Block)> {
    let (&start, block) = blocks.range(..=addr).next_back()?;
    (addr - start < block.size.max(1)).then_some((start, block))
}

impl Memory {
    fn back(&mut self, size: usize, kind: Kind) -> Result<(usize, Option<MmapMut>), Error> {
        let device = matches!(kind, Kind::Device(_) | Kind::Reserved);
        if self.shapes_only && device {
            let start = NOWHERE + self.next_nowhere;
            self.next_nowhere += size.div_ceil(4096) * 4096 + 4096;
            return Ok((start, None));
        }
        let map = MmapOptions::new().len(size).no_reserve_swap().map_anon();
        let map = map.or_else(|e| refuse(MEMORY_ALLOCATION, format!("EL0004: the host has no {size} bytes: {e}")))?;
        Ok((map.as_ptr() as usize, Some(map)))
    }

    /// Makes a block and returns its address. The caller has checked the device's capacity.
    pub fn allocate(&mut self, size: usize, charged: usize, kind: Kind) -> Result<usize, Error> {
        let (start, map) = self.back(size.max(charged), kind)?;
        if let Kind::Device(device) = kind {
            *self.used.entry(device).or_default() += charged;
        }
        self.live.insert(start, Block { size, charged, kind, map });
        Ok(start)
    }

    /// Registers memory of the caller as pinned.
    pub fn register(&mut self, start: usize, size: usize) -> Result<(), Error> {
        if self.pinned(start, 1) {
            return refuse(PARAM_INVALID, format!("EE1001: host memory {start:#x} is pinned already"));
        }
        self.live.insert(start, Block { size, charged: 0, kind: Kind::Registered, map: None });
        Ok(())
    }

    /// Removes a block of the kinds that `want` accepts.
    pub fn free(&mut self, start: usize, want: fn(Kind) -> bool, what: &str) -> Result<(), Error> {
        if start == 0 {
            return refuse(INVALID_PARAM, format!("EH0002: the {what} address is null"));
        }
        if !self.live.get(&start).is_some_and(|block| want(block.kind)) {
            return refuse(PARAM_INVALID, self.explain(start, what));
        }
        self.retire(start);
        Ok(())
    }

    fn explain(&self, addr: usize, what: &str) -> String {
        if self.freed.contains_key(&addr) {
            return format!("EE1001: double free: {addr:#x} was freed before");
        }
        match containing(&self.live, addr) {
            Some((start, block)) if start == addr => {
                format!("EE1001: {addr:#x} is {:?} memory, not {what} memory", block.kind)
            }
            Some((start, _)) => format!("EE1001: {addr:#x} lies inside the block at {start:#x}, not at its start"),
            None => format!("EE1001: {addr:#x} is not an address of {what} memory"),
        }
    }

    fn retire(&mut self, start: usize) {
        let Some(mut block) = self.live.remove(&start) else { return };
        if let Kind::Device(device) = block.kind {
            let used = self.used.entry(device).or_default();
            *used = used.saturating_sub(block.charged);
        }
        if block.kind == Kind::Registered {
            return;
        }
        if let Some(map) = &mut block.map {
            // SAFETY: no reference into the block exists: kernels and copies hold one only while they run, and the caller
            // of `free` waits for them. If the advice fails the pages merely stay resident.
            _ = unsafe { map.unchecked_advise(UncheckedAdvice::DontNeed) };
        }
        self.freed.insert(start, block);
        self.order.push_back(start);
        if self.order.len() > QUARANTINE
            && let Some(oldest) = self.order.pop_front()
        {
            self.freed.remove(&oldest);
        }
    }

    /// Frees all memory of a device.
    pub fn free_device(&mut self, device: usize) {
        let of = |block: &Block| block.kind == Kind::Device(device);
        let starts: Vec<usize> = self.live.iter().filter(|(_, b)| of(b)).map(|(&s, _)| s).collect();
        starts.into_iter().for_each(|start| self.retire(start));
        self.mapped.retain(|_, (_, owner)| *owner != device);
        self.used.remove(&device);
    }

    /// The device that owns a range of live device memory, whole.
    pub fn device_of(&self, addr: usize, bytes: usize) -> Result<usize, Error> {
        if let Some((&start, &(size, device))) = self.mapped.range(..=addr).next_back()
            && addr - start < size
        {
            return self.inside(addr, bytes, start, size).map(|()| device);
        }
        match containing(&self.live, addr) {
            Some((start, Block { size, kind: Kind::Device(device), .. })) => {
                self.inside(addr, bytes, start, *size).map(|()| *device)
            }
            Some((_, block)) if block.kind == Kind::Reserved => {
                refuse(PARAM_INVALID, format!("EE1001: {addr:#x} is reserved, but no memory is mapped there"))
            }
            _ if containing(&self.freed, addr).is_some() => {
                refuse(PARAM_INVALID, format!("EE1001: use after free: the memory at {addr:#x} was freed"))
            }
            _ => refuse(PARAM_INVALID, format!("EE1001: {addr:#x} is not device memory")),
        }
    }

    fn inside(&self, addr: usize, bytes: usize, start: usize, size: usize) -> Result<(), Error> {
        let end = addr.checked_add(bytes);
        if end.is_some_and(|end| end <= start + size) || self.mapped_whole(addr, bytes) {
            return Ok(());
        }
        refuse(PARAM_INVALID, format!("EE1001: {bytes} bytes at {addr:#x} reach past the block of {size} bytes at {start:#x}"))
    }

    /// Whether a range is covered by adjacent mappings of reserved addresses.
    fn mapped_whole(&self, addr: usize, bytes: usize) -> bool {
        let Some(end) = addr.checked_add(bytes) else { return false };
        let mut at = addr;
        while at < end {
            match self.mapped.range(..=at).next_back() {
                Some((start, (size, _))) if at - start < *size => at = start + size,
                _ => return false,
            }
        }
        true
    }

    /// Whether a range is pinned host memory.
    pub fn pinned(&self, addr: usize, bytes: usize) -> bool {
        let found = containing(&self.live, addr);
        found.is_some_and(|(start, block)| {
            matches!(block.kind, Kind::Pinned | Kind::Registered)
                && addr.checked_add(bytes).is_some_and(|end| end <= start + block.size)
        })
    }

    /// Whether an address lies in memory of the simulator that is not host memory, live or freed.
    pub fn on_device(&self, addr: usize) -> bool {
        let device = |kind| matches!(kind, Kind::Device(_) | Kind::Reserved);
        let found = containing(&self.live, addr).or_else(|| containing(&self.freed, addr));
        found.is_some_and(|(_, block)| device(block.kind))
    }

    /// The live block that contains an address.
    pub fn find(&self, addr: usize) -> Option<(usize, &Block)> {
        containing(&self.live, addr)
    }

    /// Number of live blocks.
    pub fn blocks(&self) -> usize {
        self.live.len()
    }
}

/// Checks that a range lies inside one live device allocation.
///
/// Every allocation can be read and written, so the access does not matter yet; it names the intent in the message.
pub fn check_range(addr: usize, bytes: usize, access: Access) -> Result<(), Error> {
    let found = memory().device_of(addr, bytes);
    found.map(|_| ()).map_err(|e| Error { code: e.code, message: format!("{} ({access:?})", e.message) })
}
