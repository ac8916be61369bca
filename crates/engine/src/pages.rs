//! The KV page pool: free pages, and the number of sequences that share each other page.
//!
//! A page holds 64 positions of one sequence in all layers. Pages are reference-counted so that sequences may share a
//! prefix. A page is written only by its sole owner ([`Sequence`](crate::Sequence) copies first). The engine and its
//! sequences share the pool, so a sequence returns its pages when it is dropped, on any thread, during a step, or after
//! its engine.

use crate::EngineError;
use crate::lock::lock;
use smallvec::SmallVec;
use std::sync::{Arc, Mutex};

/// Pages that a sequence takes at once.
pub(crate) type Taken = SmallVec<[u32; 8]>;

/// A handle of a pool. Clones refer to the same pool.
#[derive(Clone, Debug)]
pub(crate) struct PagePool {
    pages: u32,
    counts: Arc<Mutex<Counts>>,
}

/// Free pages, and owner counts of all pages.
#[derive(Debug)]
struct Counts {
    free: Vec<u32>,
    owners: Vec<u32>,
}

impl PagePool {
    /// A pool of `pages` free pages.
    pub fn new(pages: u32) -> PagePool {
        let counts = Counts { free: (0..pages).rev().collect(), owners: vec![0; pages as usize] };
        PagePool { pages, counts: Arc::new(Mutex::new(counts)) }
    }

    /// Whether both are handles of one pool.
    pub fn is(&self, other: &PagePool) -> bool {
        Arc::ptr_eq(&self.counts, &other.counts)
    }

    /// Number of pages.
    pub fn pages(&self) -> u32 {
        self.pages
    }

    /// Takes `count` free pages, or none.
    ///
    /// # Errors
    /// [`EngineError::PoolFull`] if there are fewer.
    pub fn take(&self, count: usize) -> Result<Taken, EngineError> {
        let Counts { free, owners } = &mut *lock(&self.counts);
        let left = free.len().checked_sub(count).ok_or(EngineError::PoolFull { pages: self.pages })?;
        let taken: Taken = free.drain(left..).rev().collect();
        taken.iter().for_each(|&page| owners[page as usize] = 1);
        Ok(taken)
    }

    /// Adds an owner to each page.
    pub fn share(&self, pages: &[u32]) {
        let owners = &mut lock(&self.counts).owners;
        for &page in pages {
            debug_assert!(owners[page as usize] > 0, "only owned pages are shared");
            owners[page as usize] += 1;
        }
    }

    /// Removes an owner from each page. A page becomes free when its last owner is removed.
    pub fn release(&self, pages: &[u32]) {
        let Counts { free, owners } = &mut *lock(&self.counts);
        for &page in pages {
            let owners = &mut owners[page as usize];
            debug_assert!(*owners > 0, "a page is released once per owner");
            *owners -= 1;
            if *owners == 0 {
                free.push(page);
            }
        }
    }

    /// The indices of the pages that have more than one owner.
    ///
    /// For the caller's own pages the answer stays valid: only an owner shares a page, and a page that others give up
    /// meanwhile is merely copied without need.
    pub fn shared(&self, pages: &[u32]) -> SmallVec<[usize; 4]> {
        let owners = &lock(&self.counts).owners;
        pages.iter().enumerate().filter(|&(_, &page)| owners[page as usize] > 1).map(|(i, _)| i).collect()
    }

    /// Number of free pages.
    #[cfg(test)]
    pub fn free_pages(&self) -> usize {
        lock(&self.counts).free.len()
    }
}
