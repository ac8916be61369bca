//! A sequence: its committed length and the pages that hold its keys and values.

use crate::{EngineError, PagePool};
use aio_ir::PAGE_POSITIONS;

/// Positions `0..len` are in the KV cache. Rolling back is a change of `len`; pages past it are kept until released.
#[derive(Debug, Default)]
pub struct Sequence {
    pages: Vec<u32>,
    len: usize,
}

impl Sequence {
    /// An empty sequence.
    pub fn new() -> Sequence {
        Sequence::default()
    }

    /// Committed positions.
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

    /// Makes positions up to `end` writable: takes pages, and replaces a shared page that will be written. Returns
    /// the page to copy, as (from, to), before the step. On error nothing has changed.
    ///
    /// # Errors
    /// [`EngineError::PoolFull`].
    pub fn reserve(&mut self, pool: &mut PagePool, end: usize) -> Result<Option<(u32, u32)>, EngineError> {
        let page = PAGE_POSITIONS as usize;
        let needed = end.div_ceil(page).saturating_sub(self.pages.len());
        let partial = self.pages.get(self.len / page).copied();
        let shared = partial.filter(|&p| end > self.len && !pool.is_sole(p));
        if pool.free_pages() < needed + usize::from(shared.is_some()) {
            return Err(EngineError::PoolFull { pages: pool.pages() });
        }
        for _ in 0..needed {
            self.pages.push(pool.take()?);
        }
        let Some(from) = shared else { return Ok(None) };
        let to = pool.take()?;
        pool.release(from);
        self.pages[self.len / page] = to;
        Ok((!self.len.is_multiple_of(page)).then_some((from, to)))
    }

    /// Counts positions as committed, after the step that wrote them.
    pub fn commit(&mut self, len: usize) {
        debug_assert!(len <= self.pages.len() * PAGE_POSITIONS as usize, "committed positions have pages");
        self.len = len;
    }

    /// A second sequence with the same first `len` positions; full and partial pages are shared until one is written.
    pub fn fork(&self, pool: &mut PagePool, len: usize) -> Sequence {
        let len = len.min(self.len);
        let pages = self.pages[..len.div_ceil(PAGE_POSITIONS as usize)].to_vec();
        for &page in &pages {
            pool.share(page);
        }
        Sequence { pages, len }
    }

    /// Gives all pages back.
    pub fn release(&mut self, pool: &mut PagePool) {
        for page in self.pages.drain(..) {
            pool.release(page);
        }
        self.len = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_taken_shared_copied_and_given_back() {
        let mut pool = PagePool::new(4);
        let mut a = Sequence::new();
        assert_eq!(a.reserve(&mut pool, 70).unwrap(), None);
        a.commit(70);
        let mut b = a.fork(&mut pool, 70);
        assert_eq!(pool.free_pages(), 2);
        let shared = b.pages()[1];
        let copy = b.reserve(&mut pool, 71).unwrap();
        assert_eq!(copy, Some((shared, b.pages()[1])));
        assert_ne!(b.pages()[1], a.pages()[1]);
        assert_eq!(a.reserve(&mut pool, 71).unwrap(), None, "the page has one owner again");
        a.release(&mut pool);
        b.release(&mut pool);
        assert_eq!(pool.free_pages(), 4);
    }

    #[test]
    fn a_full_pool_changes_nothing() {
        let mut pool = PagePool::new(1);
        let mut a = Sequence::new();
        assert!(matches!(a.reserve(&mut pool, 65), Err(EngineError::PoolFull { pages: 1 })));
        assert_eq!((a.pages().len(), pool.free_pages()), (0, 1));
    }
}
