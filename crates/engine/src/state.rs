//! The state of sequences on an engine: pages to write, forks, what recurrent state allows.

use crate::limits::MAX_DRAFTS;
use crate::{Engine, EngineError, Sequence};

impl Engine {
    /// Makes positions up to `end` of a sequence writable. Waits for a running step only if a page must be copied. A
    /// sequence of a model without pages has room for the context and need not be reserved.
    ///
    /// # Errors
    /// [`EngineError::PoolFull`], [`EngineError::ForeignSequence`], and from copying a shared page device errors and
    /// [`EngineError::Reentered`]; for a model without pages, [`EngineError::NotReserved`] past the context. The sequence
    /// is unchanged then.
    pub fn reserve(&self, sequence: &mut Sequence, end: usize) -> Result<(), EngineError> {
        sequence.reserve(&self.pools, end, |from, to| {
            let _no_step = self.steps.lock()?;
            Ok(self.device().copy_pages(self.weights(), &[(from, to)])?)
        })
    }

    /// Makes a second sequence with the same first `len` positions, or with all committed ones if those are fewer.
    ///
    /// # Errors
    /// [`EngineError::ForeignSequence`]; with recurrent state, [`EngineError::NoState`] for a length other than 0, the
    /// committed one, those of accepted drafts just before it, and those of snapshots
    /// ([`EngineOptions::snapshots`](crate::EngineOptions::snapshots)).
    pub fn fork(&self, sequence: &Sequence, len: usize) -> Result<Sequence, EngineError> {
        sequence.fork(&self.pools, len)
    }

    /// Maximum drafts of a sequence in a step: [`MAX_DRAFTS`], or what recurrent state has room for.
    pub fn most_drafts(&self) -> usize {
        self.pools.slots.as_ref().map_or(MAX_DRAFTS, |slots| slots.room.min(MAX_DRAFTS))
    }

    /// Whether the model has recurrent state, so that a sequence can be cut only at some lengths
    /// ([`Sequence::rewind`]).
    pub fn is_recurrent(&self) -> bool {
        self.pools.slots.is_some()
    }

    /// Whether sequences keep snapshots of recurrent state.
    pub(crate) fn keeps_snapshots(&self) -> bool {
        self.pools.slots.as_ref().is_some_and(|slots| slots.snapshots > 0)
    }

    /// Slots of recurrent state that no sequence holds.
    pub fn free_slots(&self) -> usize {
        self.pools.slots.as_ref().map_or(0, |slots| slots.pool.free())
    }
}
