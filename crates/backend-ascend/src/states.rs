//! State kept between steps: pages of keys and values, and other states, in one allocation.
//!
//! Attention takes keys and values as separate pools `[pages, heads, positions, size]`. Each pool has two pages more than
//! the model's: one of zeros, for table entries past a sequence's length, and one that rows of padding write to.

use crate::acl::{Call, DeviceMemory, Queue};
use crate::view::{Elem, View};
use aio_backend::DeviceError;
use aio_ir::KvShape;
use aio_plan::{HeadSizes, PlanFamily, PoolSizes, StateDesc};
use std::ops::Range;

/// Sizes of heads that fused attention takes.
pub(crate) const HEADS: HeadSizes = HeadSizes { multiple_of: 16, max: 512 };
/// Most query heads of each key and value head.
pub(crate) const GROUP: u32 = 64;
/// Positions of a page: what fused attention takes with several rows of a sequence.
pub(crate) const PAGES: &[u32] = &[128, 256, 512];
/// Pages beyond the pool's.
const EXTRA: u32 = 2;
const ALIGNMENT: usize = 512;
const HALF: usize = 2;

/// Where a state lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Residence {
    /// Keys and values of a layer.
    Layer { keys: usize, values: usize, kv: KvShape },
    /// Another state; `page` is the size of one page in bytes, if it is paged.
    Own { offset: usize, bytes: usize, page: Option<usize> },
}

/// The layout of a family's states.
#[derive(Clone, Debug, Default)]
pub(crate) struct StatesMap {
    pub places: Vec<Residence>,
    pub pools: PoolSizes,
    /// Offset of 0, 1, 2, ... as f32, one for each position of the longest sequence.
    counts: usize,
    positions: usize,
    pub bytes: usize,
    /// Address of all states.
    pub base: u64,
}

fn layer(state: &StateDesc) -> Option<KvShape> {
    let fits = |kv: &KvShape| {
        PAGES.contains(&kv.positions) && kv.head_dim <= HEADS.max && kv.head_dim.is_multiple_of(HEADS.multiple_of)
    };
    state.kv_shape().filter(fits)
}

fn page_bytes(kv: KvShape) -> usize {
    kv.heads as usize * kv.positions as usize * kv.head_dim as usize * HALF
}

/// Offsets and bytes of positions in a page: a range of each head, or the whole page at once.
fn parts(kv: KvShape, positions: &Range<u32>) -> Vec<(usize, usize)> {
    if positions.start == 0 {
        return vec![(0, page_bytes(kv))];
    }
    let position = kv.head_dim as usize * HALF;
    let head = kv.positions as usize * position;
    let (from, bytes) = (positions.start as usize * position, positions.len() * position);
    (0..kv.heads as usize).map(|h| (h * head + from, bytes)).collect()
}

impl StatesMap {
    /// Lays out a family's states with pools of these sizes.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`] for impossibly large sizes.
    pub(crate) fn new(family: &PlanFamily, pools: PoolSizes) -> Result<StatesMap, DeviceError> {
        let large = |what: String| move || DeviceError::OutOfMemory { what, bytes: u64::MAX };
        let dims = family.state_bounds(pools);
        let mut map = StatesMap { pools, ..StatesMap::default() };
        let take = |end: &mut usize, bytes: usize| {
            let at = end.next_multiple_of(ALIGNMENT);
            *end = at.checked_add(bytes)?;
            Some(at)
        };
        for state in &family.states {
            let fail = large(format!("state `{}`", state.name));
            let place = if let Some(kv) = layer(state) {
                let pages = pools.pages as usize + EXTRA as usize;
                let bytes = page_bytes(kv).checked_mul(pages);
                let mut pool = || take(&mut map.bytes, bytes?);
                let (keys, values) = pool().zip(pool()).ok_or_else(fail)?;
                map.positions = map.positions.max(pools.pages as usize * kv.positions as usize);
                Residence::Layer { keys, values, kv }
            } else {
                let bytes = state.ty.bytes(&dims).and_then(|b| usize::try_from(b).ok());
                let (bytes, offset) = bytes.and_then(|b| Some((b, take(&mut map.bytes, b)?))).ok_or_else(fail)?;
                let page = state.is_paged().then(|| bytes / pools.pages.max(1) as usize);
                Residence::Own { offset, bytes, page }
            };
            map.places.push(place);
        }
        let counts = take(&mut map.bytes, 4 * map.positions);
        map.counts = counts.ok_or_else(large("positions".to_owned()))?;
        Ok(map)
    }

    /// The page of zeros.
    pub(crate) fn zero_page(&self) -> u32 {
        self.pools.pages
    }

    /// The page of padding's keys and values.
    pub(crate) fn spare_page(&self) -> u32 {
        self.pools.pages + 1
    }

    /// The first positions, as f32.
    pub(crate) fn counts(&self, positions: i64) -> View {
        View::dense(self.base + self.counts as u64, Elem::F32, [positions])
    }

    /// Keys and values of a layer.
    pub(crate) fn layer(&self, state: usize) -> Option<(View, View, KvShape)> {
        let Residence::Layer { keys, values, kv } = *self.places.get(state)? else { return None };
        let dims = [self.pools.pages + EXTRA, kv.heads, kv.positions, kv.head_dim].map(i64::from);
        let pool = |offset: usize| View::dense(self.base + offset as u64, Elem::F16, dims);
        Some((pool(keys), pool(values), kv))
    }

    /// Address of a state that is not a layer.
    pub(crate) fn own(&self, state: usize) -> Option<u64> {
        match self.places.get(state)? {
            Residence::Own { offset, .. } => Some(self.base + *offset as u64),
            Residence::Layer { .. } => None,
        }
    }
}

/// States on the device.
pub(crate) struct States {
    pub map: StatesMap,
    memory: DeviceMemory,
}

impl States {
    /// Allocates zeroed states.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`].
    pub(crate) fn new(queue: &Queue, map: StatesMap) -> Result<States, DeviceError> {
        let memory = DeviceMemory::zeroed(&queue.runtime, map.bytes).map_err(|e| e.taking("the KV pool"))?;
        let map = StatesMap { base: memory.address(), ..map };
        if map.positions > 0 {
            queue.launch([&Call::Count { to: map.counts(map.positions as i64) }])?;
        }
        Ok(States { map, memory })
    }

    /// Copies a page in every paged state.
    ///
    /// # Errors
    /// [`DeviceError::Failed`].
    pub(crate) fn copy_page(&self, from: u32, to: u32) -> Result<(), DeviceError> {
        let copy = |offset: usize, bytes: usize| {
            self.memory.copy_within(offset + from as usize * bytes, offset + to as usize * bytes, bytes)
        };
        for place in &self.map.places {
            match *place {
                Residence::Layer { keys, values, kv } => {
                    copy(keys, page_bytes(kv))?;
                    copy(values, page_bytes(kv))?;
                }
                Residence::Own { offset, page: Some(page), .. } => copy(offset, page)?,
                Residence::Own { .. } => {}
            }
        }
        Ok(())
    }

    /// Sets positions of a page to zero in every layer.
    ///
    /// # Errors
    /// [`DeviceError::Failed`].
    pub(crate) fn clear(&self, page: u32, positions: Range<u32>) -> Result<(), DeviceError> {
        if positions.is_empty() {
            return Ok(());
        }
        for place in &self.map.places {
            let Residence::Layer { keys, values, kv } = *place else { continue };
            for (from, bytes) in parts(kv, &positions) {
                for pool in [keys, values] {
                    self.memory.clear(pool + page as usize * page_bytes(kv) + from, bytes)?;
                }
            }
        }
        Ok(())
    }

    /// A state in the graph's order.
    ///
    /// # Errors
    /// [`DeviceError::Failed`]; [`DeviceError::ForeignHandle`] if there is no such state.
    pub(crate) fn download(&self, state: usize) -> Result<Vec<u8>, DeviceError> {
        match *self.map.places.get(state).ok_or(DeviceError::ForeignHandle)? {
            Residence::Own { offset, bytes, .. } => Ok(self.memory.read(offset, bytes)?),
            Residence::Layer { keys, values, kv } => {
                let (page, all) = (page_bytes(kv), self.map.pools.pages as usize * page_bytes(kv));
                let (keys, values) = (self.memory.read(keys, all)?, self.memory.read(values, all)?);
                let both = keys.chunks(page.max(1)).zip(values.chunks(page.max(1)));
                Ok(both.flat_map(|(k, v)| k.iter().chain(v).copied()).collect())
            }
        }
    }
}
