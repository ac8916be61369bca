//! Waiting: a gate that opens epoch by epoch, and a barrier made of it.
//!
//! A waiter spins for some microseconds, yields once or twice and then sleeps on a condition
//! variable; an opener takes the lock only if somebody sleeps. With more threads than processors
//! spinning only keeps the others from running, so it is short then. Used by the pool's team.

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

/// What a waiter does in the meantime.
pub(super) trait Meanwhile {
    /// Something short and useful; whether there was any.
    fn idle(&mut self) -> bool {
        false
    }

    /// The wait has become long. Called twice, some microseconds apart.
    fn overdue(&mut self, _again: bool) {}

    /// The waiter is about to sleep.
    fn before_sleep(&mut self) {}
}

impl Meanwhile for () {}

/// Opens epoch by epoch; waiters wait for an epoch to end.
#[derive(Debug)]
pub(super) struct Gate {
    epoch: AtomicU32,
    /// At least one for each thread that sleeps and was not woken yet.
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

    /// Whether a thread sleeps here, or is about to with the lock in hand.
    #[cfg(all(test, not(loom)))]
    pub(super) fn has_sleepers(&self) -> bool {
        self.sleepers.load(Ordering::Acquire) > 0
    }

    /// Ends the epoch: all that waits goes on.
    pub(super) fn open(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        // Not a load: of two changes of the count one comes second, so either we see the sleeper, or it sees ours and
        // with it the new epoch.
        if self.sleepers.fetch_add(0, Ordering::AcqRel) > 0 {
            let guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
            // Here and not by those who wake: on a busy processor that takes milliseconds, and many epochs.
            self.sleepers.store(0, Ordering::Release);
            drop(guard);
            self.wake.notify_all();
        }
    }

    /// Waits until epoch `seen` has ended. What is done meanwhile should be short.
    pub(super) fn wait(&self, seen: u32, meanwhile: &mut impl Meanwhile) {
        let Spin { pauses, yields } = self.spin;
        let late = pauses + pauses / 2;
        let mut turn = 0;
        while turn < late + yields {
            if self.epoch() != seen {
                return;
            }
            if meanwhile.idle() {
                continue;
            }
            if turn == pauses {
                meanwhile.overdue(false);
            } else if turn == late {
                meanwhile.overdue(true);
            }
            if turn < late {
                spin_loop()
            } else {
                yield_now()
            }
            turn += 1;
        }
        meanwhile.before_sleep();
        self.sleep(seen);
    }

    #[cold]
    fn sleep(&self, seen: u32) {
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            // Again after each waking: whoever opened has cleared the count, though perhaps for an earlier epoch.
            self.sleepers.fetch_add(1, Ordering::AcqRel);
            if self.epoch() != seen {
                return;
            }
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A barrier that a panic can break. The number of threads that it waits for may change whenever all have come.
#[derive(Debug)]
pub(super) struct Barrier {
    threads: AtomicU32,
    arrived: AtomicU32,
    gate: Gate,
    poisoned: AtomicBool,
}

impl Barrier {
    pub(super) fn new(threads: usize, spin: Spin) -> Barrier {
        Barrier {
            threads: AtomicU32::new(threads as u32),
            arrived: AtomicU32::new(0),
            gate: Gate::new(spin),
            poisoned: AtomicBool::new(false),
        }
    }

    /// Opens once for each time that all have met, and for whatever else all should look at.
    pub(super) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// How many threads it waits for.
    pub(super) fn threads(&self) -> usize {
        self.threads.load(Ordering::Relaxed) as usize
    }

    /// Changes how many it waits for. Only while no thread is in it, or by the last that comes.
    pub(super) fn set_threads(&self, threads: usize) {
        self.threads.store(threads as u32, Ordering::Relaxed);
    }

    /// Waits for all threads; `epoch` is the gate's, which cannot end while we are missing. Who comes last does `last`
    /// before the others go on.
    ///
    /// # Panics
    /// With [`Poisoned`] if the barrier was broken.
    pub(super) fn pass(&self, epoch: u32, last: impl FnOnce(), meanwhile: &mut impl Meanwhile) {
        // Read before arriving: once we have, the last to come may change it.
        let threads = self.threads();
        if self.arrived.fetch_add(1, Ordering::AcqRel) as usize + 1 == threads {
            last();
            self.arrived.store(0, Ordering::Relaxed);
            self.gate.open();
        } else if !self.poisoned.load(Ordering::SeqCst) {
            self.gate.wait(epoch, meanwhile);
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
