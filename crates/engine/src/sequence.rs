//! A sequence: its committed length, and the pages with its keys and values.

use crate::EngineError;
use crate::pages::PagePool;
use aio_ir::PAGE_POSITIONS;

/// Positions of a page.
const PAGE: usize = PAGE_POSITIONS as usize;

/// Positions `0..len` are in the KV cache. Rolling back only changes `len`; pages past it are kept until trimmed.
///
/// A sequence owns its pages and returns them when it is dropped. They belong to one engine; any other rejects the
/// sequence. An empty sequence may be used with any engine.
#[derive(Debug, Default)]
pub struct Sequence {
    pages: Vec<u32>,
    len: usize,
    /// The pool that the pages belong to, if there are any.
    pool: Option<PagePool>,
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

    /// Number of positions that it has pages for.
    pub fn reserved(&self) -> usize {
        self.pages.len() * PAGE
    }

    /// Makes positions up to `end` writable: takes pages, and replaces shared pages that will be written. `copy(from,
    /// to)` fills the one page whose content is needed. On error nothing has changed.
    ///
    /// # Errors
    /// [`EngineError::PoolFull`], [`EngineError::ForeignSequence`], and the errors of `copy`.
    pub(crate) fn reserve(
        &mut self,
        pool: &PagePool,
        end: usize,
        copy: impl FnOnce(u32, u32) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        self.check(pool)?;
        let (held, wanted) = (self.pages.len(), end.div_ceil(PAGE));
        // Of the pages to be written only the first can hold committed positions. After a rollback the others may still
        // be shared, but their content is not needed.
        let first = (self.len / PAGE).min(held);
        let shared = pool.shared(&self.pages[first..wanted.clamp(first, held)]);
        let needed = wanted.saturating_sub(held);
        if needed == 0 && shared.is_empty() {
            return Ok(());
        }
        let taken = pool.take(needed + shared.len())?;
        if shared.first() == Some(&0) && !self.len.is_multiple_of(PAGE) {
            // First, because it may fail and the rest cannot. The old page stays owned until its content is copied.
            copy(self.pages[first], taken[0]).inspect_err(|_| pool.release(&taken))?;
        }
        let mut taken = taken.into_iter();
        for (i, to) in shared.into_iter().zip(taken.by_ref()) {
            pool.release(&[std::mem::replace(&mut self.pages[first + i], to)]);
        }
        self.pages.extend(taken);
        self.pool = Some(pool.clone());
        Ok(())
    }

    /// Sets the number of committed positions: up after a step that wrote them, down to roll back.
    ///
    /// # Errors
    /// [`EngineError::NotReserved`] if there are no pages for as many. The sequence is unchanged then.
    pub fn commit(&mut self, len: usize) -> Result<(), EngineError> {
        let reserved = self.reserved();
        if len > reserved {
            return Err(EngineError::NotReserved { position: len - 1, reserved });
        }
        self.len = len;
        Ok(())
    }

    /// Makes a second sequence with the same first `len` positions. Full and partial pages are shared until one is
    /// written.
    ///
    /// # Errors
    /// [`EngineError::ForeignSequence`].
    pub(crate) fn fork(&self, pool: &PagePool, len: usize) -> Result<Sequence, EngineError> {
        self.check(pool)?;
        let len = len.min(self.len);
        let pages = self.pages[..len.div_ceil(PAGE)].to_vec();
        pool.share(&pages);
        Ok(Sequence { pages, len, pool: self.pool.clone() })
    }

    /// Checks that the pages, if any, belong to this pool.
    ///
    /// # Errors
    /// [`EngineError::ForeignSequence`].
    pub(crate) fn check(&self, pool: &PagePool) -> Result<(), EngineError> {
        let own = self.pages.is_empty() || self.pool.as_ref().is_some_and(|own| own.is(pool));
        if own { Ok(()) } else { Err(EngineError::ForeignSequence { pages: self.pages.len() }) }
    }

    /// Returns the pages that hold neither a position below `end` nor a committed one.
    pub fn trim(&mut self, end: usize) {
        let kept = end.max(self.len).div_ceil(PAGE).min(self.pages.len());
        if let Some(pool) = &self.pool {
            pool.release(&self.pages[kept..]);
        }
        self.pages.truncate(kept);
    }

    /// Returns all pages. The sequence is empty afterwards.
    pub fn clear(&mut self) {
        self.len = 0;
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

    /// Reserves, and returns the page copy that was made.
    fn reserve(a: &mut Sequence, pool: &PagePool, end: usize) -> Result<Option<(u32, u32)>, EngineError> {
        let mut copied = None;
        a.reserve(pool, end, |from, to| {
            copied = Some((from, to));
            Ok(())
        })?;
        Ok(copied)
    }

    #[test]
    fn pages_are_taken_shared_copied_and_given_back() {
        let pool = PagePool::new(4);
        let mut a = Sequence::new();
        assert_eq!(reserve(&mut a, &pool, 70).unwrap(), None);
        a.commit(70).unwrap();
        let mut b = a.fork(&pool, 70).unwrap();
        assert_eq!(pool.free_pages(), 2);
        let shared = b.pages()[1];
        let copy = reserve(&mut b, &pool, 71).unwrap();
        assert_eq!(copy, Some((shared, b.pages()[1])));
        assert_ne!(b.pages()[1], a.pages()[1]);
        assert_eq!(reserve(&mut a, &pool, 71).unwrap(), None, "the page has one owner again");
        drop(a);
        assert_eq!(pool.free_pages(), 2, "the first page is still the fork's");
        drop(b);
        assert_eq!(pool.free_pages(), 4);
    }

    #[test]
    fn trimming_keeps_what_is_committed_or_asked_for() {
        let pool = PagePool::new(4);
        let mut a = Sequence::new();
        reserve(&mut a, &pool, 200).unwrap();
        a.commit(70).unwrap();
        a.trim(129);
        assert_eq!((a.pages().len(), pool.free_pages()), (3, 1));
        a.trim(0);
        assert_eq!((a.pages().len(), pool.free_pages()), (2, 2));
        a.trim(1000);
        assert_eq!((a.len(), a.pages().len()), (70, 2));
    }

    #[test]
    fn pages_past_a_rollback_are_replaced_before_they_are_written() {
        let pool = PagePool::new(8);
        let mut a = Sequence::new();
        reserve(&mut a, &pool, 130).unwrap();
        a.commit(130).unwrap();
        let mut b = a.fork(&pool, 130).unwrap();
        b.commit(10).unwrap();
        let copy = reserve(&mut b, &pool, 140).unwrap();
        assert_eq!(copy, Some((a.pages()[0], b.pages()[0])));
        assert!(a.pages().iter().all(|p| !b.pages().contains(p)), "{:?} {:?}", a.pages(), b.pages());
        drop((a, b));
        assert_eq!(pool.free_pages(), 8);
    }

    #[test]
    fn positions_without_a_page_are_not_committed() {
        let pool = PagePool::new(2);
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
        let (own, other) = (PagePool::new(4), PagePool::new(4));
        let (mut a, mut b) = (Sequence::new(), Sequence::new());
        reserve(&mut a, &own, 70).unwrap();
        reserve(&mut b, &other, 70).unwrap();
        a.commit(70).unwrap();
        let foreign = |e: EngineError| matches!(e, EngineError::ForeignSequence { pages: 2 });
        assert!(foreign(reserve(&mut a, &other, 200).unwrap_err()));
        assert!(foreign(a.fork(&other, 70).unwrap_err()));
        assert_eq!((a.len(), a.pages().len(), other.free_pages(), own.free_pages()), (70, 2, 2, 2));
        // Once its pages are returned, the sequence can be used with any engine.
        a.clear();
        reserve(&mut a, &other, 1).unwrap();
        assert_eq!((own.free_pages(), other.free_pages()), (4, 1));
    }

    #[test]
    fn a_sequence_may_outlive_the_pools_other_handles() {
        let mut a = Sequence::new();
        let pool = PagePool::new(4);
        reserve(&mut a, &pool, 70).unwrap();
        drop(pool);
        a.commit(70).unwrap();
        a.clear();
        assert_eq!((a.len(), a.pages().len()), (0, 0));
    }

    #[test]
    fn a_full_pool_changes_nothing() {
        let pool = PagePool::new(1);
        let mut a = Sequence::new();
        assert!(matches!(reserve(&mut a, &pool, 65), Err(EngineError::PoolFull { pages: 1 })));
        assert_eq!((a.pages().len(), pool.free_pages()), (0, 1));
    }

    #[test]
    fn a_copy_that_fails_changes_nothing() {
        let pool = PagePool::new(6);
        let mut a = Sequence::new();
        reserve(&mut a, &pool, 130).unwrap();
        a.commit(130).unwrap();
        let mut b = a.fork(&pool, 130).unwrap();
        let before = (b.pages().to_vec(), b.len(), pool.free_pages());
        let failed = b.reserve(&pool, 200, |_, _| Err(EngineError::PoolFull { pages: 6 }));
        assert!(failed.is_err());
        assert_eq!((b.pages().to_vec(), b.len(), pool.free_pages()), before);
        assert_eq!(pool.shared(b.pages()).len(), b.pages().len(), "both still own them");
        assert!(reserve(&mut b, &pool, 200).unwrap().is_some());
        drop((a, b));
        assert_eq!(pool.free_pages(), 6);
    }
}
