//! The chunk queue: work of a phase, claimed chunk by chunk, so that threads that finish early help the others.
//!
//! Each thread's share has a counter of claimed chunks. A thread claims its own chunks in order, which is their order in
//! memory, and then chunks of other shares that are not claimed yet. A chunk is claimed once and computed whole, so results
//! do not depend on which thread computes it.
//!
//! Two sets of counters alternate between barriers. A thread clears its counter in the other set before it arrives at a
//! barrier: no thread uses that set then, and after the barrier all see it cleared. The last thread to arrive clears the
//! counters of joining threads.

use super::sync::AtomicU32;
use std::ops::Range;
use std::sync::atomic::Ordering;

/// A counter on a separate cache line: until the end of a task, a single thread uses it.
#[derive(Debug)]
#[repr(align(128))]
struct Counter(AtomicU32);

/// The counters of all threads.
#[derive(Debug)]
pub(super) struct ChunkQueue {
    sets: [Box<[Counter]>; 2],
}

impl ChunkQueue {
    pub(super) fn new(threads: usize) -> ChunkQueue {
        let set = || (0..threads).map(|_| Counter(AtomicU32::new(0))).collect();
        ChunkQueue { sets: [set(), set()] }
    }

    /// Clears all counters. No thread may be running a program.
    pub(super) fn reset(&self) {
        for counter in self.sets.iter().flatten() {
            counter.0.store(0, Ordering::Relaxed);
        }
    }

    /// Clears a rank's counter for phase `next`, before all threads have arrived at the barrier that begins it.
    pub(super) fn clear(&self, next: u32, rank: usize) {
        self.set(next)[rank].0.store(0, Ordering::Relaxed);
    }

    fn set(&self, phase: u32) -> &[Counter] {
        &self.sets[phase as usize % 2]
    }

    /// Claims chunks of `0..count` in `phase` for rank `tid` of `threads`: `size` items each, fewer at the end of a share.
    pub(super) fn chunks(&self, phase: u32, tid: usize, threads: usize, count: usize, size: usize) -> Chunks<'_> {
        Chunks { counters: &self.set(phase)[..threads], tid, helped: 0, count, size: size.max(1) }
    }
}

/// A rank's share of `0..count`: contiguous; shares differ by at most one item.
pub(super) fn share(tid: usize, threads: usize, count: usize) -> Range<usize> {
    count * tid / threads..count * (tid + 1) / threads
}

/// Iterates over the ranges that this thread claims. See [`Worker::chunks`](super::Worker::chunks).
#[derive(Debug)]
pub struct Chunks<'a> {
    counters: &'a [Counter],
    tid: usize,
    /// Shares that are used up: its own first, then those of the following ranks.
    helped: usize,
    count: usize,
    size: usize,
}

impl Iterator for Chunks<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let threads = self.counters.len();
        while self.helped < threads {
            let owner = (self.tid + self.helped) % threads;
            let share = share(owner, threads, self.count);
            let chunks = share.len().div_ceil(self.size);
            // The claim alone orders nothing: what a chunk reads was published by the last barrier.
            let mine = self.counters[owner].0.fetch_add(1, Ordering::Relaxed) as usize;
            if mine < chunks {
                let start = share.start + mine * self.size;
                return Some(start..(start + self.size).min(share.end));
            }
            self.helped += 1;
        }
        None
    }
}
