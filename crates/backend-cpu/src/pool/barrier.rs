//! Waiting: a gate that opens epoch by epoch, and a barrier made of it.
//!
//! A waiter spins for some microseconds, yields once or twice and then sleeps on a condition
//! variable; an opener takes the lock only if somebody sleeps. With more threads than processors
//! spinning only keeps the others from running, so it is short then. Used by the pool.

use super::sync::{AtomicBool, AtomicU32, Condvar, Mutex, spin_loop, yield_now};
use std::panic::resume_unwind;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

/// How long to wait awake: pauses of the processor, then yields to the system.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spin {
    pauses: u32,
    yields: u32,
}

impl Spin {
    /// For a processor per thread: about 40 us.
    pub(super) const LONG: Spin = Spin { pauses: 1000, yields: 4 };
    /// For a model checker, which tries every order anyway.
    #[cfg(loom)]
    pub(super) const NONE: Spin = Spin { pauses: 0, yields: 0 };
    /// For fewer processors than threads.
    pub(super) const SHORT: Spin = Spin { pauses: 20, yields: 2 };
}

/// The panic payload of threads that another thread's panic released from a barrier.
pub(super) struct Poisoned;

/// Opens epoch by epoch; waiters wait for an epoch to end.
#[derive(Debug)]
pub(super) struct Gate {
    epoch: AtomicU32,
    sleepers: AtomicU32,
    lock: Mutex<()>,
    wake: Condvar,
    spin: Spin,
}

impl Gate {
    pub(super) fn new(spin: Spin) -> Gate {
        Gate { epoch: AtomicU32::new(0), sleepers: AtomicU32::new(0), lock: Mutex::new(()), wake: Condvar::new(), spin }
    }

    pub(super) fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Ends the epoch: all that waits goes on.
    pub(super) fn open(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        // Not a load: of two changes of the count one comes second, so either we see the sleeper, or it sees ours and
        // with it the new epoch.
        if self.sleepers.fetch_add(0, Ordering::AcqRel) > 0 {
            drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.wake.notify_all();
        }
    }

    /// Waits until epoch `seen` has ended and returns the epoch then current. Meanwhile calls `idle` as long as it says
    /// that it has something to do; each call should be short.
    pub(super) fn wait(&self, seen: u32, mut idle: impl FnMut() -> bool) -> u32 {
        let mut turn = 0;
        while turn < self.spin.pauses + self.spin.yields {
            let now = self.epoch.load(Ordering::Acquire);
            if now != seen {
                return now;
            }
            if idle() {
                continue;
            }
            if turn < self.spin.pauses {
                spin_loop()
            } else {
                yield_now()
            }
            turn += 1;
        }
        self.sleep(seen)
    }

    #[cold]
    fn sleep(&self, seen: u32) -> u32 {
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.sleepers.fetch_add(1, Ordering::AcqRel);
        while self.epoch() == seen {
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, Ordering::AcqRel);
        self.epoch()
    }
}

/// A barrier for a fixed number of threads that a panic can break.
#[derive(Debug)]
pub struct Barrier {
    threads: u32,
    arrived: AtomicU32,
    gate: Gate,
    poisoned: AtomicBool,
}

impl Barrier {
    pub(super) fn new(threads: usize, spin: Spin) -> Barrier {
        Barrier {
            threads: threads as u32,
            arrived: AtomicU32::new(0),
            gate: Gate::new(spin),
            poisoned: AtomicBool::new(false),
        }
    }

    /// Times that all threads have met, modulo 2^32.
    pub(super) fn crossed(&self) -> u32 {
        self.gate.epoch()
    }

    /// Waits for all threads; see `Gate::wait` for `idle`.
    pub(super) fn wait(&self, idle: impl FnMut() -> bool) {
        if self.threads == 1 {
            return;
        }
        // Read before arriving: the epoch cannot end while we are missing.
        let epoch = self.gate.epoch();
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.threads {
            self.arrived.store(0, Ordering::Relaxed);
            self.gate.open();
        } else if !self.poisoned.load(Ordering::SeqCst) {
            self.gate.wait(epoch, idle);
        }
        if self.poisoned.load(Ordering::SeqCst) {
            resume_unwind(Box::new(Poisoned));
        }
    }

    /// Releases all that wait, with a panic, and lets nobody wait until `reset`.
    pub(super) fn poison(&self) {
        self.poisoned.store(true, Ordering::SeqCst);
        self.gate.open();
    }

    /// Makes a broken barrier whole; no thread may be in it.
    pub(super) fn reset(&self) {
        self.arrived.store(0, Ordering::SeqCst);
        self.poisoned.store(false, Ordering::SeqCst);
    }
}
