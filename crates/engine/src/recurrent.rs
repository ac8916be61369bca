//! The recurrent state of a sequence: which slots hold it, and for which lengths.
//!
//! A step writes a new slot, which is *staged* until the sequence commits a length that it covers. So a step that fails,
//! and a step whose outcome the host drops, changes nothing. Snapshots are further owners of slots at fixed positions.
//! Nothing is copied. [`Sequence`](crate::Sequence) has one of these.

use crate::EngineError;
use crate::limits::SNAPSHOT_POSITIONS;
use crate::slots::Slot;

/// State that can be continued from any length in `at..=at + pending`: a slot with the state of the first `at`
/// positions, followed by pending rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    /// `None` for slot 0.
    pub slot: Option<Slot>,
    pub at: usize,
    pub pending: usize,
}

impl Kept {
    /// The slot's number.
    pub fn index(&self) -> u32 {
        self.slot.as_ref().map_or(0, Slot::index)
    }

    fn covers(&self, len: usize) -> bool {
        len.checked_sub(self.at).is_some_and(|accepted| accepted <= self.pending)
    }

    /// The longest length up to `len` that it covers.
    fn nearest(&self, len: usize) -> Option<usize> {
        (self.at <= len).then(|| len.min(self.at + self.pending))
    }

    /// Limits it to the first `len` positions: what follows them may differ.
    fn cut(mut self, len: usize) -> Kept {
        self.pending = self.pending.min(len.saturating_sub(self.at));
        self
    }
}

/// What a step does with the state of one sequence.
#[derive(Debug)]
pub(crate) struct Advance {
    /// The slot that it reads.
    pub read: u32,
    /// Pending rows of that slot that are accepted.
    pub accepted: usize,
    /// Rows that belong to the sequence regardless of drafts.
    pub certain: usize,
    /// What it writes.
    pub next: Kept,
}

/// See the module docs. Empty for a model without recurrent state.
#[derive(Debug, Default)]
pub(crate) struct Recurrent {
    /// Ends with the sequence's length.
    current: Kept,
    /// What the last step wrote, until it is committed.
    staged: Option<Kept>,
    /// By position, ascending.
    snapshots: Vec<Kept>,
}

impl Recurrent {
    /// Whether no slot is owned.
    pub fn is_empty(&self) -> bool {
        self.current.slot.is_none() && self.staged.is_none() && self.snapshots.is_empty()
    }

    /// The state that a step reads whose first row is at `first`: the committed one, or what the last step wrote.
    ///
    /// # Errors
    /// [`EngineError::NotNext`] for any other position. `len` is the committed length.
    pub fn source(&self, len: usize, first: usize) -> Result<&Kept, EngineError> {
        let staged = self.staged.as_ref().filter(|s| s.covers(first));
        let source = if first == len { Some(&self.current) } else { staged };
        source.ok_or(EngineError::NotNext { position: first, expected: len })
    }

    /// Keeps what a step has written until a length is committed.
    pub fn stage(&mut self, written: Kept) {
        self.staged = Some(written);
    }

    /// Drops what the last step has written.
    pub fn unstage(&mut self) {
        self.staged = None;
    }

    /// Drops the oldest snapshot. Returns whether there was one.
    pub fn drop_snapshot(&mut self) -> bool {
        let any = !self.snapshots.is_empty();
        self.snapshots.drain(..usize::from(any));
        any
    }

    /// Continues from `len`, with what the last step wrote or what is kept. Then keeps a snapshot if it covers a fixed
    /// position, up to `snapshots` of them.
    ///
    /// # Errors
    /// [`EngineError::NoState`]. Nothing has changed then.
    pub fn commit(&mut self, len: usize, snapshots: usize) -> Result<(), EngineError> {
        let kept = match self.staged.take_if(|s| s.covers(len)) {
            Some(staged) => staged,
            None => self.kept(len)?,
        };
        self.current = kept.cut(len);
        self.staged = None;
        self.cut(len);
        self.snapshot(len, snapshots);
        Ok(())
    }

    /// The longest length up to `len` that can be committed.
    pub fn nearest(&self, len: usize) -> usize {
        let all = self.staged.iter().chain(&self.snapshots).chain([&self.current]);
        all.filter_map(|kept| kept.nearest(len)).max().unwrap_or(0)
    }

    /// The state of a second sequence with the same first `len` positions.
    ///
    /// # Errors
    /// [`EngineError::NoState`].
    pub fn fork(&self, len: usize) -> Result<Recurrent, EngineError> {
        let current = self.kept(len)?.cut(len);
        let mut fork = Recurrent { current, staged: None, snapshots: self.snapshots.clone() };
        fork.cut(len);
        Ok(fork)
    }

    /// The committed state of a length.
    fn kept(&self, len: usize) -> Result<Kept, EngineError> {
        let mut all = [&self.current].into_iter().chain(self.snapshots.iter().rev());
        match all.find(|kept| kept.covers(len)) {
            Some(kept) => Ok(kept.clone()),
            None if len == 0 => Ok(Kept::default()),
            None => Err(EngineError::NoState { len, nearest: self.nearest(len) }),
        }
    }

    /// Limits the snapshots to the first `len` positions.
    fn cut(&mut self, len: usize) {
        self.snapshots.retain_mut(|kept| {
            *kept = std::mem::take(kept).cut(len);
            kept.at <= len
        });
    }

    fn snapshot(&mut self, len: usize, most: usize) {
        let mark = len - len % SNAPSHOT_POSITIONS;
        let old = self.snapshots.iter().any(|kept| kept.covers(mark));
        if most == 0 || mark == 0 || mark < self.current.at || old {
            return;
        }
        if self.snapshots.len() >= most {
            self.drop_snapshot();
        }
        self.snapshots.push(self.current.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slots::SlotPool;

    /// Runs a step of `certain` rows and `drafts` from a committed length.
    fn step(state: &mut Recurrent, pool: &SlotPool, len: usize, (certain, drafts): (usize, usize)) {
        let read = state.source(len, len).unwrap().index();
        let slot = pool.take(1).unwrap().pop();
        assert_ne!(slot.as_ref().map(Slot::index), Some(read), "a step writes another slot than it reads");
        state.stage(Kept { slot, at: len + certain, pending: drafts });
    }

    fn nearest(state: &mut Recurrent, len: usize) -> usize {
        match state.commit(len, 2) {
            Err(EngineError::NoState { len: named, nearest }) if named == len => nearest,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn any_accepted_count_is_committed_and_may_be_lowered_but_not_raised() {
        let pool = SlotPool::new(8);
        let mut state = Recurrent::default();
        step(&mut state, &pool, 0, (5, 3));
        state.commit(7, 2).unwrap();
        assert_eq!(state.source(7, 7).unwrap().at, 5);
        state.commit(6, 2).unwrap();
        assert_eq!(nearest(&mut state, 7), 6, "what followed may have been rejected");
        assert_eq!(nearest(&mut state, 4), 0);
        state.commit(5, 2).unwrap();
        state.commit(0, 2).unwrap();
        assert!(state.is_empty() && pool.free() == 7);
    }

    #[test]
    fn a_step_that_is_not_committed_changes_nothing_and_may_be_continued() {
        let pool = SlotPool::new(8);
        let mut state = Recurrent::default();
        step(&mut state, &pool, 0, (4, 0));
        state.commit(4, 0).unwrap();
        let committed = state.source(4, 4).unwrap().index();
        step(&mut state, &pool, 4, (1, 0));
        assert_eq!(state.source(4, 4).unwrap().index(), committed);
        assert_ne!(state.source(4, 5).unwrap().index(), committed);
        assert!(matches!(state.source(4, 6), Err(EngineError::NotNext { position: 6, expected: 4 })));
        state.commit(4, 0).unwrap();
        assert!(state.source(4, 5).is_err(), "the commit dropped it");
        assert_eq!(pool.free(), 6);
    }

    #[test]
    fn snapshots_are_kept_at_fixed_positions_and_the_oldest_is_dropped() {
        let pool = SlotPool::new(16);
        let mut state = Recurrent::default();
        for (from, to) in [(0, 256), (256, 500), (500, 510)] {
            step(&mut state, &pool, from, (to - from, 0));
            state.commit(to, 2).unwrap();
        }
        // Accepted drafts cross position 512.
        step(&mut state, &pool, 510, (1, 6));
        state.commit(514, 2).unwrap();
        step(&mut state, &pool, 514, (100, 0));
        state.commit(614, 2).unwrap();
        assert_eq!(pool.free(), 15 - 3, "two snapshots and the current state");
        assert_eq!(nearest(&mut state, 600), 514);
        let fork = state.fork(512).unwrap();
        assert_eq!((fork.nearest(1000), fork.nearest(511), fork.nearest(510)), (512, 511, 256));
        drop(fork);
        step(&mut state, &pool, 614, (768 - 614, 0));
        state.commit(768, 2).unwrap();
        assert_eq!(nearest(&mut state, 510), 0, "the snapshot at 256 was the oldest");
        state.commit(512, 2).unwrap();
        assert_eq!(nearest(&mut state, 513), 512);
    }
}
