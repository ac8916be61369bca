//! Threads that are late because the system has given their processor to another process.
//!
//! Who waits long at a barrier reads the processor time of a thread that is missing, twice: if it stands still, the thread
//! is not slow but does not run, and will not before the other process's time slice ends, which takes longer than a
//! whole step. It is then moved to the processor of the waiter, which has nothing to do: there it finishes the chunk that
//! it has begun, leaves the team, and goes back to its own processor to wait for its turn. Used by the pool.

use super::barrier::Meanwhile;
use super::cpus::{Cpus, Handle};
use super::team::Team;
use std::sync::OnceLock;

/// A thread as its waiters see it.
pub(super) trait Thread {
    /// Processor time that it has had, in nanoseconds; `None` if the system does not say.
    fn ran_ns(&self) -> Option<u64>;

    /// Moves it to the caller's processor; whether that was possible.
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

/// What a member of the team does while it waits.
pub(super) struct Waiting<'a, F, T> {
    pub(super) team: &'a Team,
    /// Its threads, if late ones should be looked for.
    pub(super) threads: Option<&'a [OnceLock<T>]>,
    pub(super) id: usize,
    /// Of the barrier that it waits at; none at the end of the run.
    pub(super) epoch: Option<u32>,
    pub(super) idle: F,
    pub(super) suspect: Option<Suspect>,
}

/// A thread that is missing, and its processor time when that was noticed.
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
            // After the move: should the thread come just now, it leaves one stage later.
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

    /// Thread 0 waits for thread 1 at the first barrier; between its two looks thread 1 has run for so long.
    fn released(ran_ns: u64) -> (bool, bool) {
        let team = Team::new(2, Spin::SHORT);
        let entry = team.begin(true);
        let threads = [OnceLock::new(), OnceLock::from(Fake::default())];
        let epoch = Some(entry.epoch);
        let mut waiting = Waiting { team: &team, threads: Some(&threads), id: 0, epoch, idle: || false, suspect: None };
        waiting.overdue(false);
        let late = threads[1].get().expect("it was set");
        late.ran_ns.store(ran_ns, Ordering::Relaxed);
        waiting.overdue(true);
        (team.is_released(1), late.came.load(Ordering::Relaxed))
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
