//! Slots of recurrent state: a pool of them, and one as its owners hold it.
//!
//! Slot 0 is the state of an empty sequence. It is never free, so no step writes it. Taken by `advance.rs` for each step.

use crate::EngineError;
use crate::pool::Pool;
use smallvec::SmallVec;

/// The slots that a step writes, one for each sequence.
pub(crate) type Slots = SmallVec<[Slot; 4]>;

/// The pool of slots. Clones refer to the same pool.
#[derive(Clone, Debug)]
pub(crate) struct SlotPool(Pool);

/// A slot with an owner. Cloning adds an owner, dropping removes one.
#[derive(Debug)]
pub(crate) struct Slot {
    index: u32,
    pool: Pool,
}

impl SlotPool {
    /// A pool of `size` slots, including slot 0.
    pub fn new(size: u32) -> SlotPool {
        let pool = Pool::new(size);
        let zero = pool.take(1);
        debug_assert!(zero.is_none_or(|z| z[..] == [0]), "slot 0 is the first");
        SlotPool(pool)
    }

    /// Number of slots, including slot 0.
    pub fn size(&self) -> u32 {
        self.0.size()
    }

    /// Number of free slots.
    pub fn free(&self) -> usize {
        self.0.free()
    }

    /// Takes `count` free slots, or none.
    ///
    /// # Errors
    /// [`EngineError::SlotsFull`] if there are fewer.
    pub fn take(&self, count: usize) -> Result<Slots, EngineError> {
        let taken = self.0.take(count).ok_or(EngineError::SlotsFull { slots: self.size().saturating_sub(1) })?;
        Ok(taken.into_iter().map(|index| Slot { index, pool: self.0.clone() }).collect())
    }
}

impl Slot {
    /// Its number.
    pub fn index(&self) -> u32 {
        self.index
    }
}

impl Clone for Slot {
    fn clone(&self) -> Slot {
        self.pool.share(&[self.index]);
        Slot { index: self.index, pool: self.pool.clone() }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.pool.release(&[self.index]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_return_with_their_last_owner_and_slot_0_is_never_taken() {
        let pool = SlotPool::new(4);
        let mut taken = pool.take(3).unwrap();
        assert!(taken.iter().all(|slot| slot.index() != 0));
        assert!(matches!(pool.take(1), Err(EngineError::SlotsFull { slots: 3 })));
        let shared = taken[1].clone();
        taken.clear();
        assert_eq!((pool.free(), shared.index()), (2, 2));
        drop(shared);
        assert_eq!(pool.free(), 3);
    }
}
