//! Threads that are late because the system has given their processor to another process.
//!
//! Who waits long at a barrier reads the processor time of a thread that is missing, twice: if it stands still, the thread
//! is not slow but does not run, and will not before the other process's time slice ends, which takes longer than a
//! whole step. It is then moved to the processor of the waiter, which has nothing to do: there it finishes the chunk that
//! it has begun, leaves the crew, and goes back to its own processor to wait for its turn. Used by the pool.

use super::barrier::Meanwhile;
use super::cpus::{Cpus, Handle};
use super::crew::Crew;
use std::sync::OnceLock;

/// What a member of the crew does while it waits.
pub(super) struct Waiting<'a, F> {
    pub(super) crew: &'a Crew,
    /// Its threads, if late ones should be looked for.
    pub(super) threads: Option<&'a [OnceLock<Handle>]>,
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

impl<F> Waiting<'_, F> {
    fn missing(&self) -> Option<(Suspect, &Handle)> {
        let id = self.crew.missing(self.id, self.epoch)?;
        let handle = self.threads?.get(id)?.get()?;
        Some((Suspect { id, ran_ns: handle.ran_ns()? }, handle))
    }
}

impl<F: FnMut() -> bool> Meanwhile for Waiting<'_, F> {
    fn idle(&mut self) -> bool {
        (self.idle)()
    }

    fn overdue(&mut self, again: bool) {
        let Some((now, handle)) = self.missing() else { return };
        if !again {
            self.suspect = Some(now);
        } else if self.suspect == Some(now) && Cpus::here().is_some_and(|here| handle.move_to(&here)) {
            // After the move: should the thread come just now, it leaves one stage later.
            self.crew.relieve(now.id);
        }
    }
}
