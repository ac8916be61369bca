//! The KV page pool: free pages, and the number of sequences that share each other page.
//!
//! A page holds 64 positions of one sequence in all layers. Pages are reference-counted so that sequences may share a
//! prefix. A page is written only by its sole owner ([`Sequence::reserve`](crate::Sequence::reserve) copies first).

use crate::EngineError;
use std::sync::atomic::{AtomicU64, Ordering};

/// Free pages, and owner counts of the others. Only sequences with the pool's id take and release pages.
#[derive(Debug)]
pub(crate) struct PagePool {
    id: u64,
    free: Vec<u32>,
    owners: Vec<u32>,
}

impl PagePool {
    /// A pool of `pages` free pages.
    pub fn new(pages: u32) -> PagePool {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        PagePool { id, free: (0..pages).rev().collect(), owners: vec![0; pages as usize] }
    }

    /// An id unique within the process.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Number of pages.
    pub fn pages(&self) -> u32 {
        self.owners.len() as u32
    }

    /// Number of free pages.
    pub fn free_pages(&self) -> usize {
        self.free.len()
    }

    /// Takes a free page.
    ///
    /// # Errors
    /// [`EngineError::PoolFull`].
    pub fn take(&mut self) -> Result<u32, EngineError> {
        let page = self.free.pop().ok_or(EngineError::PoolFull { pages: self.pages() })?;
        self.owners[page as usize] = 1;
        Ok(page)
    }

    /// Adds an owner to a page.
    pub fn share(&mut self, page: u32) {
        debug_assert!(self.owners[page as usize] > 0, "only owned pages are shared");
        self.owners[page as usize] += 1;
    }

    /// Removes an owner. The page becomes free when the last owner is removed.
    pub fn release(&mut self, page: u32) {
        let owners = &mut self.owners[page as usize];
        debug_assert!(*owners > 0, "a page is released once per owner");
        *owners -= 1;
        if *owners == 0 {
            self.free.push(page);
        }
    }

    /// Whether exactly one sequence owns the page.
    pub fn is_sole(&self, page: u32) -> bool {
        self.owners[page as usize] == 1
    }
}
