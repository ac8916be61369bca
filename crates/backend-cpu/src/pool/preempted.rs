//! Detects preempted threads: those whose processor the system has given to another process.
//!
//! A thread that waits long at a barrier reads a missing thread's processor time twice. If it stands still, the thread is
//! not slow but preempted, and will not run before the other process's time slice ends, which takes longer than a whole
//! step. The waiter moves it to its own, idle processor, where it finishes its current chunk, leaves the team, and returns
//! to its processor on standby. Used by the pool.

use super::barrier::Meanwhile;
use super::cpus::{Cpus, Handle};
use super::team::Team;
use std::sync::OnceLock;

/// A thread as seen by those that wait for it.
pub(super) trait Thread {
    /// Processor time used, in nanoseconds; `None` if the system does not report it.
    fn ran_ns(&self) -> Option<u64>;

    /// Moves it to the caller's processor. Returns whether that succeeded.
    fn come_here(&self) -> bool;
}

impl Thread for Handle {
    fn ran_ns(&self) -> Option<u64> {
        Handle::ran_ns(self)
    }

    fn come_here(&self) -> bool {
        Cpus::here().is_some_and(|here| self.move_to(&here))
    }
}

/// What a member does while it waits.
pub(super) struct Waiting<'a, F, T> {
    pub(super) team: &'a Team,
    /// The pool's threads, if preempted ones should be looked for.
    pub(super) threads: Option<&'a [OnceLock<T>]>,
    pub(super) id: usize,
    /// Epoch of the barrier it waits at; `None` at the end of the run.
    pub(super) epoch: Option<u32>,
    pub(super) idle: F,
    pub(super) suspect: Option<Suspect>,
}

/// A missing thread, and its processor time when it was first missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Suspect {
    id: usize,
    ran_ns: u64,
}

impl<F, T: Thread> Waiting<'_, F, T> {
    fn missing(&self) -> Option<(Suspect, &T)> {
        let id = self.team.missing(self.id, self.epoch)?;
        let handle = self.threads?.get(id)?.get()?;
        Some((Suspect { id, ran_ns: handle.ran_ns()? }, handle))
    }
}

impl<F: FnMut() -> bool, T: Thread> Meanwhile for Waiting<'_, F, T> {
    fn idle(&mut self) -> bool {
        (self.idle)()
    }

    fn overdue(&mut self, again: bool) {
        let Some((now, handle)) = self.missing() else { return };
        if !again {
            self.suspect = Some(now);
        } else if self.suspect == Some(now) && handle.come_here() {
            // After the move: if the thread arrives just now, it leaves one stage later.
            self.team.release(now.id);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::pool::barrier::Spin;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    /// A thread whose processor time the test sets.
    #[derive(Default)]
    struct Fake {
        ran_ns: AtomicU64,
        came: AtomicBool,
    }

    impl Thread for Fake {
        fn ran_ns(&self) -> Option<u64> {
            Some(self.ran_ns.load(Ordering::Relaxed))
        }

        fn come_here(&self) -> bool {
            self.came.store(true, Ordering::Relaxed);
            true
        }
    }

    /// Thread 0 waits for thread 1 at the first barrier; thread 1 runs for `ran_ns` between the two looks. Returns whether
    /// it was released, and whether it was moved.
    fn released(ran_ns: u64) -> (bool, bool) {
        let team = Team::new(2, Spin::SHORT);
        let entry = team.begin(true);
        let threads = [OnceLock::new(), OnceLock::from(Fake::default())];
        let epoch = Some(entry.epoch);
        let mut waiting = Waiting { team: &team, threads: Some(&threads), id: 0, epoch, idle: || false, suspect: None };
        waiting.overdue(false);
        let missing = threads[1].get().expect("it was set");
        missing.ran_ns.store(ran_ns, Ordering::Relaxed);
        waiting.overdue(true);
        (team.is_released(1), missing.came.load(Ordering::Relaxed))
    }

    #[test]
    fn a_thread_that_stands_still_is_moved_and_released() {
        assert_eq!(released(0), (true, true));
    }

    #[test]
    fn a_thread_that_runs_is_waited_for() {
        assert_eq!(released(1), (false, false));
    }
}
