//! The pools of an engine: KV pages and slots of recurrent state, and their sizes.
//!
//! Sequences hold a handle of them. A model without a kind of state has no pool of it, and its sequences need none.

use crate::EngineError;
use crate::pool::Pool;
use crate::slots::SlotPool;
use aio_ir::PAGE_POSITIONS;
use aio_plan::{PlanFamily, PoolSizes, Role, StateDesc};
use std::sync::Arc;

/// See the module docs.
#[derive(Debug)]
pub(crate) struct Pools {
    /// KV pages; empty if the model has none.
    pub pages: Pool,
    /// Positions of a page; `None` if the model has no pages.
    pub page: Option<usize>,
    /// Positions of a sequence without pages.
    pub context: usize,
    /// Slots; `None` if the model has no recurrent state.
    pub slots: Option<Recurrence>,
}

/// The slots of a model with recurrent state.
#[derive(Debug)]
pub(crate) struct Recurrence {
    /// The slots.
    pub pool: SlotPool,
    /// Drafts of a sequence that a step may have.
    pub room: usize,
    /// Snapshots that a sequence keeps.
    pub snapshots: usize,
}

/// What sizes the pools of an engine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capacity {
    /// Context length in positions.
    pub context: u32,
    /// Sequences that run at once.
    pub sequences: u32,
    /// Maximum snapshots of each sequence.
    pub snapshots: u32,
    /// Maximum bytes of all snapshots.
    pub snapshot_bytes: u64,
}

impl Capacity {
    /// Snapshots of each sequence, of `slot` bytes each.
    fn snapshots_of(&self, slot: u64) -> u32 {
        let affordable = self.snapshot_bytes / slot.max(1) / u64::from(self.sequences.max(1));
        self.snapshots.min(u32::try_from(affordable).unwrap_or(u32::MAX))
    }
}

/// Pools that are not yet allocated, so that their memory can be checked first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolPlan {
    pub sizes: PoolSizes,
    page: Option<u32>,
    capacity: Capacity,
    /// Drafts of a sequence that a step may have; `None` without recurrent state.
    room: Option<u32>,
}

impl PoolPlan {
    /// The pools for a family.
    ///
    /// # Errors
    /// [`EngineError::PageSizes`].
    pub fn new(family: &PlanFamily, capacity: Capacity) -> Result<PoolPlan, EngineError> {
        let capacity = Capacity { snapshots: capacity.snapshots_of(slot_bytes(family)), ..capacity };
        let Capacity { context, sequences, snapshots, .. } = capacity;
        let page = page(&family.states)?;
        let pages = page.map_or(0, |page| context.div_ceil(page).saturating_mul(sequences));
        let recurrent = family.states.iter().any(|s| s.role() == Role::Slot);
        let room = recurrent.then(|| family.slot_room().unwrap_or(0));
        let slots = room.map_or(0, |_| slots_of(sequences, snapshots));
        Ok(PoolPlan { sizes: PoolSizes { pages, slots }, page, capacity, room })
    }

    /// The pools, all free.
    pub fn make(&self) -> Arc<Pools> {
        let PoolPlan { sizes: PoolSizes { pages, slots }, page, capacity, room } = *self;
        let snapshots = capacity.snapshots as usize;
        let slots = room.map(|room| Recurrence { pool: SlotPool::new(slots), room: room as usize, snapshots });
        let (page, context) = (page.map(|page| page as usize), capacity.context as usize);
        Arc::new(Pools { pages: Pool::new(pages), page, context, slots })
    }
}

impl Pools {
    /// The sizes, for a device.
    pub fn sizes(&self) -> PoolSizes {
        PoolSizes { pages: self.pages.size(), slots: self.slots.as_ref().map_or(0, |s| s.pool.size()) }
    }
}

/// Slots for sequences: two for each, its snapshots, and slot 0. One more at least, for a step that continues an
/// uncommitted one.
fn slots_of(sequences: u32, snapshots: u32) -> u32 {
    let kept = sequences.saturating_mul(snapshots).max(1);
    sequences.saturating_mul(2).saturating_add(kept).saturating_add(1)
}

/// Bytes of a slot, over all states.
fn slot_bytes(family: &PlanFamily) -> u64 {
    let one = family.state_bounds(PoolSizes { pages: 0, slots: 1 });
    let slots = family.states.iter().filter(|s| s.role() == Role::Slot);
    slots.map(|s| s.ty.bytes(&one).unwrap_or(u64::MAX)).fold(0, u64::saturating_add)
}

/// Positions of the pages of these states; `None` if no state is paged.
fn page(states: &[StateDesc]) -> Result<Option<u32>, EngineError> {
    let mut sizes = states.iter().filter_map(StateDesc::kv_shape).map(|kv| kv.positions);
    let Some(first) = sizes.next() else {
        return Ok(states.iter().any(StateDesc::is_paged).then_some(PAGE_POSITIONS as u32));
    };
    match sizes.find(|&size| size != first) {
        Some(other) => Err(EngineError::PageSizes { sizes: [first, other] }),
        None => Ok(Some(first)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_fit_their_bytes() {
        let kept = |sequences, snapshot_bytes| {
            Capacity { context: 64, sequences, snapshots: 4, snapshot_bytes }.snapshots_of(100)
        };
        assert_eq!(
            [(1, 399), (1, 400), (1, u64::MAX), (3, 600), (3, 599), (3, 0)].map(|(s, b)| kept(s, b)),
            [3, 4, 4, 2, 1, 0]
        );
    }
}
