//! Chunks of a task, claimed one by one, so that whoever is through helps whoever is late.
//!
//! Each thread has a counter of the chunks of its own share that were taken. It takes them in order, which is the order
//! in which they lie in memory; when its share is used up, it goes on with the chunks that others have not begun. A
//! chunk is taken once, and whoever takes it computes all of it: results do not depend on who that is.
//!
//! There are two sets of counters, used in turn between barriers. A thread clears its counter of the other set before it
//! arrives at a barrier: nobody uses that set then, and after the barrier everybody sees it cleared. Who comes last to a
//! barrier clears those of threads that come in.

use super::sync::AtomicU32;
use std::ops::Range;
use std::sync::atomic::Ordering;

/// A counter on a cache line of its own: each is used by one thread until the last moments of a task.
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

    /// Clears everything. No thread may be in a program.
    pub(super) fn reset(&self) {
        for counter in self.sets.iter().flatten() {
            counter.0.store(0, Ordering::Relaxed);
        }
    }

    /// Clears the counter of a number for the phase that comes next, before everybody has arrived at the barrier between.
    pub(super) fn clear(&self, next: u32, rank: usize) {
        self.set(next)[rank].0.store(0, Ordering::Relaxed);
    }

    fn set(&self, phase: u32) -> &[Counter] {
        &self.sets[phase as usize % 2]
    }

    /// The chunks of `0..count` that number `tid` of `threads` takes in `phase`, `size` items each or fewer at the end of a
    /// share.
    pub(super) fn chunks(&self, phase: u32, tid: usize, threads: usize, count: usize, size: usize) -> Chunks<'_> {
        Chunks { counters: &self.set(phase)[..threads], tid, helped: 0, count, size: size.max(1) }
    }
}

/// The part of `0..count` that belongs to a thread: contiguous, and equal up to one.
pub(super) fn share(tid: usize, threads: usize, count: usize) -> Range<usize> {
    count * tid / threads..count * (tid + 1) / threads
}

/// Ranges of items that this thread has claimed. See [`Worker::chunks`](super::Worker::chunks).
#[derive(Debug)]
pub struct Chunks<'a> {
    counters: &'a [Counter],
    tid: usize,
    /// How many shares are used up: its own first, then the next threads'.
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
