//! Waiting: a gate that opens epoch by epoch, and a barrier built on it.
//!
//! A waiter spins for some microseconds, yields a few times, then sleeps on a condition variable; opening the gate takes
//! the lock only if a thread sleeps. With more threads than processors, spinning keeps the others from running, so it is
//! short. Used by the pool's team.

use super::sync::{AtomicBool, AtomicU32, Condvar, Mutex, spin_loop, yield_now};
use std::panic::resume_unwind;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

/// How long to wait awake: spin-loop pauses, then yields to the system.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spin {
    pauses: u32,
    yields: u32,
}

impl Spin {
    /// For a processor per thread: about 40 us.
    pub(super) const LONG: Spin = Spin { pauses: 1000, yields: 4 };
    /// For the model checker, which tries every order anyway.
    #[cfg(loom)]
    pub(super) const NONE: Spin = Spin { pauses: 0, yields: 0 };
    /// For fewer processors than threads.
    pub(super) const SHORT: Spin = Spin { pauses: 20, yields: 2 };
}

/// Panic payload of threads that leave a barrier because another thread panicked.
pub(super) struct Poisoned;

/// What a thread does while it waits.
pub(super) trait Meanwhile {
    /// Does something short and useful. Returns whether there was anything to do.
    fn idle(&mut self) -> bool {
        false
    }

    /// The wait has become long. Called twice, some microseconds apart; `again` the second time.
    fn overdue(&mut self, _again: bool) {}

    /// The thread is about to sleep.
    fn before_sleep(&mut self) {}
}

impl Meanwhile for () {}

/// A gate with numbered epochs: opening it ends the current epoch and releases all waiting threads.
#[derive(Debug)]
pub(super) struct Gate {
    epoch: AtomicU32,
    /// At least 1 per sleeping thread that was not woken yet.
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

    /// Whether a thread sleeps here, or is about to and holds the lock.
    #[cfg(all(test, not(loom)))]
    pub(super) fn has_sleepers(&self) -> bool {
        self.sleepers.load(Ordering::Acquire) > 0
    }

    /// Ends the epoch and releases all waiting threads.
    pub(super) fn open(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        // A read-modify-write, not a load: it is ordered against the sleeper's own. Either this thread sees the sleeper, or
        // the sleeper sees this change and with it the new epoch.
        if self.sleepers.fetch_add(0, Ordering::AcqRel) > 0 {
            let guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
            // Cleared here, not by the woken threads: on a busy processor waking takes milliseconds, many epochs.
            self.sleepers.store(0, Ordering::Release);
            drop(guard);
            self.wake.notify_all();
        }
    }

    /// Waits until epoch `seen` has ended. Work done meanwhile should be short.
    pub(super) fn wait(&self, seen: u32, meanwhile: &mut impl Meanwhile) {
        let Spin { pauses, yields } = self.spin;
        let second_look = pauses + pauses / 2;
        let mut turn = 0;
        while turn < second_look + yields {
            if self.epoch() != seen {
                return;
            }
            if meanwhile.idle() {
                continue;
            }
            if turn == pauses {
                meanwhile.overdue(false);
            } else if turn == second_look {
                meanwhile.overdue(true);
            }
            if turn < second_look {
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
            // Again after each wake-up: opening the gate cleared the count, though perhaps for an earlier epoch.
            self.sleepers.fetch_add(1, Ordering::AcqRel);
            if self.epoch() != seen {
                return;
            }
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A barrier that a panic can poison. The number of threads it waits for may change whenever all have arrived.
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

    /// Opens each time all threads have arrived, and for any other event that all threads must notice.
    pub(super) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Number of threads it waits for.
    pub(super) fn threads(&self) -> usize {
        self.threads.load(Ordering::Relaxed) as usize
    }

    /// Changes the number of threads it waits for. Only while no thread waits, or by the last to arrive.
    pub(super) fn set_threads(&self, threads: usize) {
        self.threads.store(threads as u32, Ordering::Relaxed);
    }

    /// Waits for all threads. `epoch` is the gate's, which cannot end before this thread arrives. The last thread to arrive
    /// runs `last` before the others continue.
    ///
    /// # Panics
    /// With [`Poisoned`] if the barrier was poisoned.
    pub(super) fn pass(&self, epoch: u32, last: impl FnOnce(), meanwhile: &mut impl Meanwhile) {
        // Read before arriving: after that, the last thread to arrive may change it.
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

    /// Makes all waiting threads panic, and every later one, until `reset`.
    pub(super) fn poison(&self) {
        self.poisoned.store(true, Ordering::SeqCst);
        self.gate.open();
    }

    /// Repairs a poisoned barrier; no thread may be in it.
    pub(super) fn reset(&self) {
        self.arrived.store(0, Ordering::SeqCst);
        self.poisoned.store(false, Ordering::SeqCst);
    }
}
