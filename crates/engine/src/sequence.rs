//! A sequence: its committed length, the pages with its keys and values, and its recurrent state.

use crate::EngineError;
use crate::pools::Pools;
use crate::recurrent::{Kept, Recurrent};
use std::sync::Arc;

/// Positions `0..len` are in the KV cache and the recurrent state. Without recurrent state, rolling back only changes
/// `len`; pages past it are kept until trimmed. With it, only some lengths can be rolled back to:
/// [`Sequence::rewind`].
///
/// A sequence owns its pages and slots and returns them when it is dropped. They belong to one engine; any other rejects
/// the sequence. An empty sequence may be used with any engine.
#[derive(Debug, Default)]
pub struct Sequence {
    pages: Vec<u32>,
    len: usize,
    recurrent: Recurrent,
    /// The pools that pages and slots belong to, if there are any.
    pools: Option<Arc<Pools>>,
}

impl Sequence {
    /// An empty sequence.
    pub fn new() -> Sequence {
        Sequence::default()
    }

    /// Number of committed positions.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is committed.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Its pages in order of position.
    pub fn pages(&self) -> &[u32] {
        &self.pages
    }

    /// Number of positions that it has room for: those of its pages, or the context if the model has no pages.
    pub fn reserved(&self) -> usize {
        self.pools.as_ref().map_or(0, |pools| self.room(pools))
    }

    /// Its room in an engine with these pools.
    pub(crate) fn room(&self, pools: &Pools) -> usize {
        pools.page.map_or(pools.context, |page| self.pages.len() * page)
    }

    /// Makes positions up to `end` writable: takes pages, and replaces shared pages that will be written. `copy(from,
    /// to)` fills the one page whose content is needed. On error nothing has changed.
    ///
    /// # Errors
    /// [`EngineError::PoolFull`], [`EngineError::ForeignSequence`], and the errors of `copy`; without pages,
    /// [`EngineError::NotReserved`] past the context.
    pub(crate) fn reserve(
        &mut self,
        pools: &Arc<Pools>,
        end: usize,
        copy: impl FnOnce(u32, u32) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        self.check(pools)?;
        let Some(page) = pools.page else { return self.fit(pools, end) };
        let (held, wanted) = (self.pages.len(), end.div_ceil(page));
        // Of the pages to be written only the first can hold committed positions. After a rollback the others may still
        // be shared, but their content is not needed.
        let first = (self.len / page).min(held);
        let pool = &pools.pages;
        let shared = pool.shared(&self.pages[first..wanted.clamp(first, held)]);
        let needed = wanted.saturating_sub(held);
        if needed == 0 && shared.is_empty() {
            return Ok(());
        }
        let taken = pool.take(needed + shared.len()).ok_or(EngineError::PoolFull { pages: pool.size() })?;
        if shared.first() == Some(&0) && !self.len.is_multiple_of(page) {
            // First, because it may fail and the rest cannot. The old page stays owned until its content is copied.
            copy(self.pages[first], taken[0]).inspect_err(|_| pool.release(&taken))?;
        }
        let mut taken = taken.into_iter();
        for (i, to) in shared.into_iter().zip(taken.by_ref()) {
            pool.release(&[std::mem::replace(&mut self.pages[first + i], to)]);
        }
        self.pages.extend(taken);
        self.attach(pools);
        Ok(())
    }

    /// Checks positions up to `end` of a sequence without pages.
    fn fit(&mut self, pools: &Arc<Pools>, end: usize) -> Result<(), EngineError> {
        let reserved = pools.context;
        if end > reserved {
            return Err(EngineError::NotReserved { position: end - 1, reserved });
        }
        self.attach(pools);
        Ok(())
    }

    fn attach(&mut self, pools: &Arc<Pools>) {
        if !self.pools.as_ref().is_some_and(|own| Arc::ptr_eq(own, pools)) {
            self.pools = Some(Arc::clone(pools));
        }
    }

    /// Sets the number of committed positions: up after a step that wrote them, down to roll back. With recurrent state,
    /// the length is one that the last step can end with (all its rows but drafts, and any number of these), the present
    /// one or up to its accepted drafts shorter, that of a snapshot, or 0.
    ///
    /// # Errors
    /// [`EngineError::NotReserved`] if there is no room for as many, [`EngineError::NoState`] if the recurrent state of
    /// that length was not kept. The sequence is unchanged then.
    pub fn commit(&mut self, len: usize) -> Result<(), EngineError> {
        let reserved = self.reserved();
        if len > reserved {
            return Err(EngineError::NotReserved { position: len - 1, reserved });
        }
        if let Some(slots) = self.pools.as_ref().and_then(|pools| pools.slots.as_ref()) {
            self.recurrent.commit(len, slots.snapshots)?;
        }
        self.len = len;
        Ok(())
    }

    /// Rolls back to `len`, or if the recurrent state of that length was not kept, to the longest shorter length. Returns
    /// the length, from which the text has to run again.
    pub fn rewind(&mut self, len: usize) -> usize {
        let len = len.min(self.reserved());
        let recurrent = self.pools.as_ref().is_some_and(|pools| pools.slots.is_some());
        let committed = self.commit(if recurrent { self.recurrent.nearest(len) } else { len });
        debug_assert!(committed.is_ok(), "{committed:?}");
        self.len
    }

    /// Makes a second sequence with the same first `len` positions. Full and partial pages are shared until one is
    /// written; slots are shared.
    ///
    /// # Errors
    /// [`EngineError::ForeignSequence`], [`EngineError::NoState`].
    pub(crate) fn fork(&self, pools: &Arc<Pools>, len: usize) -> Result<Sequence, EngineError> {
        self.check(pools)?;
        let len = len.min(self.len);
        let recurrent = if pools.slots.is_some() { self.recurrent.fork(len)? } else { Recurrent::default() };
        let held = pools.page.map_or(0, |page| len.div_ceil(page));
        let pages = self.pages[..held].to_vec();
        pools.pages.share(&pages);
        Ok(Sequence { pages, len, recurrent, pools: self.pools.clone() })
    }

    /// Checks that what it holds, if anything, belongs to these pools.
    ///
    /// # Errors
    /// [`EngineError::ForeignSequence`].
    pub(crate) fn check(&self, pools: &Arc<Pools>) -> Result<(), EngineError> {
        let empty = self.len == 0 && self.pages.is_empty() && self.recurrent.is_empty();
        let own = empty || self.pools.as_ref().is_some_and(|own| Arc::ptr_eq(own, pools));
        if own { Ok(()) } else { Err(EngineError::ForeignSequence { pages: self.pages.len() }) }
    }

    /// Whether a step that writes `position` would write a page of another sequence too.
    pub(crate) fn shares(&self, pools: &Pools, position: usize) -> bool {
        let page = pools.page.and_then(|page| self.pages.get(position / page));
        page.is_some_and(|&page| pools.pages.is_shared(page))
    }

    /// The recurrent state that a step reads whose first row is at `first`.
    ///
    /// # Errors
    /// [`EngineError::NotNext`].
    pub(crate) fn source(&self, first: usize) -> Result<&Kept, EngineError> {
        self.recurrent.source(self.len, first)
    }

    /// Keeps the recurrent state that a step has written until a length is committed.
    pub(crate) fn stage(&mut self, pools: &Arc<Pools>, written: Kept) {
        self.attach(pools);
        self.recurrent.stage(written);
    }

    /// Drops the recurrent state that the last step has written.
    pub(crate) fn unstage(&mut self) {
        self.recurrent.unstage();
    }

    /// Drops the oldest snapshot of recurrent state. Returns whether there was one.
    pub(crate) fn drop_snapshot(&mut self) -> bool {
        self.recurrent.drop_snapshot()
    }

    /// Returns the pages that hold neither a position below `end` nor a committed one.
    pub fn trim(&mut self, end: usize) {
        let Some((pools, page)) = self.pools.as_ref().and_then(|pools| Some((pools, pools.page?))) else { return };
        let kept = end.max(self.len).div_ceil(page).min(self.pages.len());
        pools.pages.release(&self.pages[kept..]);
        self.pages.truncate(kept);
    }

    /// Returns all pages and slots. The sequence is empty afterwards.
    pub fn clear(&mut self) {
        self.len = 0;
        self.recurrent = Recurrent::default();
        self.trim(0);
    }
}

impl Drop for Sequence {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Pool;

    /// Positions of a page.
    const PAGE: usize = 64;

    fn pools(pages: u32) -> Arc<Pools> {
        Arc::new(Pools { pages: Pool::new(pages), page: Some(PAGE), context: 0, slots: None })
    }

    /// Reserves, and returns the page copy that was made.
    fn reserve(a: &mut Sequence, pool: &Arc<Pools>, end: usize) -> Result<Option<(u32, u32)>, EngineError> {
        let mut copied = None;
        a.reserve(pool, end, |from, to| {
            copied = Some((from, to));
            Ok(())
        })?;
        Ok(copied)
    }

    #[test]
    fn pages_are_taken_shared_copied_and_given_back() {
        let pool = pools(4);
        let mut a = Sequence::new();
        assert_eq!(reserve(&mut a, &pool, 70).unwrap(), None);
        a.commit(70).unwrap();
        let mut b = a.fork(&pool, 70).unwrap();
        assert_eq!(pool.pages.free(), 2);
        let shared = b.pages()[1];
        let copy = reserve(&mut b, &pool, 71).unwrap();
        assert_eq!(copy, Some((shared, b.pages()[1])));
        assert_ne!(b.pages()[1], a.pages()[1]);
        assert_eq!(reserve(&mut a, &pool, 71).unwrap(), None, "the page has one owner again");
        drop(a);
        assert_eq!(pool.pages.free(), 2, "the first page is still the fork's");
        drop(b);
        assert_eq!(pool.pages.free(), 4);
    }

    #[test]
    fn trimming_keeps_what_is_committed_or_asked_for() {
        let pool = pools(4);
        let mut a = Sequence::new();
        reserve(&mut a, &pool, 200).unwrap();
        a.commit(70).unwrap();
        a.trim(129);
        assert_eq!((a.pages().len(), pool.pages.free()), (3, 1));
        a.trim(0);
        assert_eq!((a.pages().len(), pool.pages.free()), (2, 2));
        a.trim(1000);
        assert_eq!((a.len(), a.pages().len()), (70, 2));
    }

    #[test]
    fn pages_past_a_rollback_are_replaced_before_they_are_written() {
        let pool = pools(8);
        let mut a = Sequence::new();
        reserve(&mut a, &pool, 130).unwrap();
        a.commit(130).unwrap();
        let mut b = a.fork(&pool, 130).unwrap();
        b.commit(10).unwrap();
        let copy = reserve(&mut b, &pool, 140).unwrap();
        assert_eq!(copy, Some((a.pages()[0], b.pages()[0])));
        assert!(a.pages().iter().all(|p| !b.pages().contains(p)), "{:?} {:?}", a.pages(), b.pages());
        drop((a, b));
        assert_eq!(pool.pages.free(), 8);
    }

    #[test]
    fn positions_without_a_page_are_not_committed() {
        let pool = pools(2);
        let mut a = Sequence::new();
        let refused = |e: EngineError, place, room| matches!(e, EngineError::NotReserved { position, reserved } if (position, reserved) == (place, room));
        assert!(refused(a.commit(1000).unwrap_err(), 999, 0));
        reserve(&mut a, &pool, 1).unwrap();
        assert!(refused(a.commit(PAGE + 1).unwrap_err(), PAGE, PAGE));
        assert_eq!(a.len(), 0);
        a.commit(PAGE).unwrap();
        assert_eq!(a.fork(&pool, usize::MAX).unwrap().len(), PAGE);
    }

    #[test]
    fn another_pool_refuses_a_sequence_and_keeps_its_counts() {
        let (own, other) = (pools(4), pools(4));
        let (mut a, mut b) = (Sequence::new(), Sequence::new());
        reserve(&mut a, &own, 70).unwrap();
        reserve(&mut b, &other, 70).unwrap();
        a.commit(70).unwrap();
        let foreign = |e: EngineError| matches!(e, EngineError::ForeignSequence { pages: 2 });
        assert!(foreign(reserve(&mut a, &other, 200).unwrap_err()));
        assert!(foreign(a.fork(&other, 70).unwrap_err()));
        assert_eq!((a.len(), a.pages().len(), other.pages.free(), own.pages.free()), (70, 2, 2, 2));
        // Once its pages are returned, the sequence can be used with any engine.
        a.clear();
        reserve(&mut a, &other, 1).unwrap();
        assert_eq!((own.pages.free(), other.pages.free()), (4, 1));
    }

    #[test]
    fn a_sequence_may_outlive_the_pools_other_handles() {
        let mut a = Sequence::new();
        let pool = pools(4);
        reserve(&mut a, &pool, 70).unwrap();
        drop(pool);
        a.commit(70).unwrap();
        a.clear();
        assert_eq!((a.len(), a.pages().len()), (0, 0));
    }

    #[test]
    fn a_full_pool_changes_nothing() {
        let pool = pools(1);
        let mut a = Sequence::new();
        assert!(matches!(reserve(&mut a, &pool, 65), Err(EngineError::PoolFull { pages: 1 })));
        assert_eq!((a.pages().len(), pool.pages.free()), (0, 1));
    }

    #[test]
    fn a_copy_that_fails_changes_nothing() {
        let pool = pools(6);
        let mut a = Sequence::new();
        reserve(&mut a, &pool, 130).unwrap();
        a.commit(130).unwrap();
        let mut b = a.fork(&pool, 130).unwrap();
        let before = (b.pages().to_vec(), b.len(), pool.pages.free());
        let failed = b.reserve(&pool, 200, |_, _| Err(EngineError::PoolFull { pages: 6 }));
        assert!(failed.is_err());
        assert_eq!((b.pages().to_vec(), b.len(), pool.pages.free()), before);
        assert_eq!(pool.pages.shared(b.pages()).len(), b.pages().len(), "both still own them");
        assert!(reserve(&mut b, &pool, 200).unwrap().is_some());
        drop((a, b));
        assert_eq!(pool.pages.free(), 6);
    }
}
