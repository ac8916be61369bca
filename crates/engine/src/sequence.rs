//! A sequence: its committed length, and the pages with its keys and values.

use crate::{EngineError, PagePool};
use aio_ir::PAGE_POSITIONS;
use smallvec::SmallVec;

/// Positions `0..len` are in the KV cache. Rolling back only changes `len`; pages past it are kept until released.
///
/// The pages belong to one engine; any other rejects the sequence.
#[derive(Debug, Default)]
pub struct Sequence {
    pages: Vec<u32>,
    len: usize,
    /// Id of the pool that the pages belong to, if there are any.
    pool: Option<u64>,
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

    /// Makes positions up to `end` writable: takes pages, and replaces shared pages that will be written. `copy(from,
    /// to)` fills the one page whose content is needed. On error nothing has changed.
    ///
    /// # Errors
    /// [`EngineError::PoolFull`], [`EngineError::ForeignSequence`], and the errors of `copy`.
    pub(crate) fn reserve(
        &mut self,
        pool: &mut PagePool,
        end: usize,
        copy: impl FnOnce(u32, u32) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        self.check(pool)?;
        let page = PAGE_POSITIONS as usize;
        let needed = end.div_ceil(page).saturating_sub(self.pages.len());
        // Of the pages to be written only the first can hold committed positions. After a rollback the others may still
        // be shared, but their content is not needed.
        let first = self.len / page;
        let written = first.min(self.pages.len())..end.div_ceil(page).min(self.pages.len());
        let shared: SmallVec<[usize; 4]> = written.filter(|&i| !pool.is_sole(self.pages[i])).collect();
        if pool.free_pages() < needed + shared.len() {
            return Err(EngineError::PoolFull { pages: pool.pages() });
        }
        let mut copied = None;
        if shared.first() == Some(&first) && !self.len.is_multiple_of(page) {
            let to = pool.take()?;
            // First, because it may fail and the rest cannot.
            copy(self.pages[first], to).inspect_err(|_| pool.release(to))?;
            copied = Some(to);
        }
        for i in shared {
            let to = copied.take().map_or_else(|| pool.take(), Ok)?;
            pool.release(std::mem::replace(&mut self.pages[i], to));
        }
        for _ in 0..needed {
            self.pages.push(pool.take()?);
        }
        self.pool = Some(pool.id());
        Ok(())
    }

    /// Marks positions as committed after the step that wrote them, limited to those with reserved pages.
    pub fn commit(&mut self, len: usize) {
        self.len = len.min(self.pages.len() * PAGE_POSITIONS as usize);
    }

    /// Makes a second sequence with the same first `len` positions. Full and partial pages are shared until one is
    /// written.
    ///
    /// # Errors
    /// [`EngineError::ForeignSequence`].
    pub(crate) fn fork(&self, pool: &mut PagePool, len: usize) -> Result<Sequence, EngineError> {
        self.check(pool)?;
        let len = len.min(self.len);
        let pages = self.pages[..len.div_ceil(PAGE_POSITIONS as usize)].to_vec();
        for &page in &pages {
            pool.share(page);
        }
        Ok(Sequence { pages, len, pool: self.pool })
    }

    /// Checks that the pages, if any, belong to this pool.
    ///
    /// # Errors
    /// [`EngineError::ForeignSequence`].
    pub(crate) fn check(&self, pool: &PagePool) -> Result<(), EngineError> {
        let own = self.pages.is_empty() || self.pool == Some(pool.id());
        if own { Ok(()) } else { Err(EngineError::ForeignSequence { pages: self.pages.len() }) }
    }

    /// Releases pages that hold neither a position below `end` nor a committed one. Pages of another pool stay.
    pub(crate) fn trim(&mut self, pool: &mut PagePool, end: usize) {
        if self.check(pool).is_err() {
            return;
        }
        let kept = end.max(self.len).div_ceil(PAGE_POSITIONS as usize).min(self.pages.len());
        for page in self.pages.drain(kept..) {
            pool.release(page);
        }
    }

    /// Releases all pages. A sequence with pages of another pool is unchanged.
    pub(crate) fn release(&mut self, pool: &mut PagePool) {
        if self.check(pool).is_err() {
            return;
        }
        for page in self.pages.drain(..) {
            pool.release(page);
        }
        self.len = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reserves, and returns the page copy that was made.
    fn reserve(a: &mut Sequence, pool: &mut PagePool, end: usize) -> Result<Option<(u32, u32)>, EngineError> {
        let mut copied = None;
        a.reserve(pool, end, |from, to| {
            copied = Some((from, to));
            Ok(())
        })?;
        Ok(copied)
    }

    #[test]
    fn pages_are_taken_shared_copied_and_given_back() {
        let mut pool = PagePool::new(4);
        let mut a = Sequence::new();
        assert_eq!(reserve(&mut a, &mut pool, 70).unwrap(), None);
        a.commit(70);
        let mut b = a.fork(&mut pool, 70).unwrap();
        assert_eq!(pool.free_pages(), 2);
        let shared = b.pages()[1];
        let copy = reserve(&mut b, &mut pool, 71).unwrap();
        assert_eq!(copy, Some((shared, b.pages()[1])));
        assert_ne!(b.pages()[1], a.pages()[1]);
        assert_eq!(reserve(&mut a, &mut pool, 71).unwrap(), None, "the page has one owner again");
        a.release(&mut pool);
        b.release(&mut pool);
        assert_eq!(pool.free_pages(), 4);
    }

    #[test]
    fn trimming_keeps_what_is_committed_or_asked_for() {
        let mut pool = PagePool::new(4);
        let mut a = Sequence::new();
        reserve(&mut a, &mut pool, 200).unwrap();
        a.commit(70);
        a.trim(&mut pool, 129);
        assert_eq!((a.pages().len(), pool.free_pages()), (3, 1));
        a.trim(&mut pool, 0);
        assert_eq!((a.pages().len(), pool.free_pages()), (2, 2));
        a.trim(&mut pool, 1000);
        assert_eq!((a.len(), a.pages().len()), (70, 2));
        a.release(&mut pool);
    }

    #[test]
    fn pages_past_a_rollback_are_replaced_before_they_are_written() {
        let mut pool = PagePool::new(8);
        let mut a = Sequence::new();
        reserve(&mut a, &mut pool, 130).unwrap();
        a.commit(130);
        let mut b = a.fork(&mut pool, 130).unwrap();
        b.commit(10);
        let copy = reserve(&mut b, &mut pool, 140).unwrap();
        assert_eq!(copy, Some((a.pages()[0], b.pages()[0])));
        assert!(a.pages().iter().all(|p| !b.pages().contains(p)), "{:?} {:?}", a.pages(), b.pages());
        a.release(&mut pool);
        b.release(&mut pool);
        assert_eq!(pool.free_pages(), 8);
    }

    #[test]
    fn positions_without_a_page_are_not_committed() {
        let mut pool = PagePool::new(2);
        let mut a = Sequence::new();
        a.commit(1000);
        assert_eq!(a.len(), 0);
        reserve(&mut a, &mut pool, 1).unwrap();
        a.commit(1000);
        assert_eq!(a.len(), PAGE_POSITIONS as usize);
        assert_eq!(a.fork(&mut pool, usize::MAX).unwrap().len(), PAGE_POSITIONS as usize);
    }

    #[test]
    fn another_pool_refuses_a_sequence_and_keeps_its_counts() {
        let (mut own, mut other) = (PagePool::new(4), PagePool::new(4));
        let (mut a, mut b) = (Sequence::new(), Sequence::new());
        reserve(&mut a, &mut own, 70).unwrap();
        reserve(&mut b, &mut other, 70).unwrap();
        a.commit(70);
        let foreign = |e: EngineError| matches!(e, EngineError::ForeignSequence { pages: 2 });
        assert!(foreign(reserve(&mut a, &mut other, 200).unwrap_err()));
        assert!(foreign(a.fork(&mut other, 70).unwrap_err()));
        a.trim(&mut other, 0);
        a.release(&mut other);
        assert_eq!((a.len(), a.pages().len(), other.free_pages(), own.free_pages()), (70, 2, 2, 2));
        // Once its pages are released, the sequence can be used with any engine.
        a.release(&mut own);
        reserve(&mut a, &mut other, 1).unwrap();
        assert_eq!((own.free_pages(), other.free_pages()), (4, 1));
    }

    #[test]
    fn a_full_pool_changes_nothing() {
        let mut pool = PagePool::new(1);
        let mut a = Sequence::new();
        assert!(matches!(reserve(&mut a, &mut pool, 65), Err(EngineError::PoolFull { pages: 1 })));
        assert_eq!((a.pages().len(), pool.free_pages()), (0, 1));
    }

    #[test]
    fn a_copy_that_fails_changes_nothing() {
        let mut pool = PagePool::new(6);
        let mut a = Sequence::new();
        reserve(&mut a, &mut pool, 130).unwrap();
        a.commit(130);
        let mut b = a.fork(&mut pool, 130).unwrap();
        let before = (b.pages().to_vec(), b.len(), pool.free_pages());
        let failed = b.reserve(&mut pool, 200, |_, _| Err(EngineError::PoolFull { pages: 6 }));
        assert!(failed.is_err());
        assert_eq!((b.pages().to_vec(), b.len(), pool.free_pages()), before);
        assert!(b.pages().iter().all(|&p| !pool.is_sole(p)), "both still own them");
        assert!(reserve(&mut b, &mut pool, 200).unwrap().is_some());
        a.release(&mut pool);
        b.release(&mut pool);
        assert_eq!(pool.free_pages(), 6);
    }
}
