//! The KV page pool: which pages are free, and how many sequences share each.
//!
//! A page holds 64 positions of one sequence in all layers. Pages are reference-counted so that sequences may share
//! a prefix; a page is written only by its sole owner ([`Sequence::reserve`](crate::Sequence::reserve) copies first).

use crate::EngineError;
use std::sync::atomic::{AtomicU64, Ordering};

/// Free pages and owners of the rest. Only sequences take and give back pages, and only of the pool whose id they carry.
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

    /// What tells the pool from all others of the process.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Pages in all.
    pub fn pages(&self) -> u32 {
        self.owners.len() as u32
    }

    /// Pages that nobody owns.
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

    /// Removes an owner; the page is free when the last one goes.
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
