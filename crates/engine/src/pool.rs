//! A pool of KV pages or of slots: free items, and the number of owners of each other item.
//!
//! A page holds some positions of one sequence in all layers, a slot its recurrent state. Items are reference-counted so
//! that sequences may share a prefix. A page is written only by its sole owner ([`Sequence`](crate::Sequence) copies
//! first), a slot only before it has an owner. The engine and its sequences share the pool, so a sequence returns its
//! items when it is dropped, on any thread, during a step, or after its engine.

use crate::lock::lock;
use smallvec::SmallVec;
use std::sync::{Arc, Mutex};

/// Items that a sequence takes at once.
pub(crate) type Taken = SmallVec<[u32; 8]>;

/// A handle of a pool. Clones refer to the same pool.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    size: u32,
    counts: Arc<Mutex<Counts>>,
}

/// Free items, and owner counts of all items.
#[derive(Debug)]
struct Counts {
    free: Vec<u32>,
    owners: Vec<u32>,
}

impl Pool {
    /// A pool of `size` free items.
    pub fn new(size: u32) -> Pool {
        let counts = Counts { free: (0..size).rev().collect(), owners: vec![0; size as usize] };
        Pool { size, counts: Arc::new(Mutex::new(counts)) }
    }

    /// Number of items.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Takes `count` free items; `None` if there are fewer.
    pub fn take(&self, count: usize) -> Option<Taken> {
        let Counts { free, owners } = &mut *lock(&self.counts);
        let left = free.len().checked_sub(count)?;
        let taken: Taken = free.drain(left..).rev().collect();
        taken.iter().for_each(|&item| owners[item as usize] = 1);
        Some(taken)
    }

    /// Adds an owner to each item.
    pub fn share(&self, items: &[u32]) {
        let owners = &mut lock(&self.counts).owners;
        for &item in items {
            debug_assert!(owners[item as usize] > 0, "only owned items are shared");
            owners[item as usize] += 1;
        }
    }

    /// Removes an owner from each item. An item becomes free when its last owner is removed.
    pub fn release(&self, items: &[u32]) {
        let Counts { free, owners } = &mut *lock(&self.counts);
        for &item in items {
            let owners = &mut owners[item as usize];
            debug_assert!(*owners > 0, "an item is released once per owner");
            *owners -= 1;
            if *owners == 0 {
                free.push(item);
            }
        }
    }

    /// Whether an item of the caller's has more than one owner. See [`Pool::shared`].
    pub fn is_shared(&self, item: u32) -> bool {
        lock(&self.counts).owners[item as usize] > 1
    }

    /// The indices of the items that have more than one owner.
    ///
    /// For the caller's own items the answer stays valid: only an owner shares an item, and a page that others give up
    /// meanwhile is merely copied without need.
    pub fn shared(&self, items: &[u32]) -> SmallVec<[usize; 4]> {
        let owners = &lock(&self.counts).owners;
        items.iter().enumerate().filter(|&(_, &item)| owners[item as usize] > 1).map(|(i, _)| i).collect()
    }

    /// Number of free items.
    pub fn free(&self) -> usize {
        lock(&self.counts).free.len()
    }
}
