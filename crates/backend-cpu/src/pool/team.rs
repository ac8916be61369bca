//! Who works on which part of a run.
//!
//! A run is a row of stages with a barrier between. At each of these barriers the team may change: a thread whose
//! processor went to another process leaves, one that waits at the door comes in. So a busy neighbour costs what it takes
//! and not, at every barrier, the time until the system gives the late thread its turn. Inside a stage the team is fixed,
//! and its members are numbered without gaps.
//!
//! Whoever comes last to the barrier decides for all: everybody else waits. Thread 0, which called for the run, is always
//! in the team. Used by the pool; `late.rs` says who should leave.

use super::barrier::{Barrier, Gate, Meanwhile, Spin};
use super::chunks::ChunkQueue;
use super::sync::{AtomicBool, AtomicU32, spin_loop};
use std::sync::atomic::Ordering;

/// Neither in the team nor at the door: asleep, or on the way.
const AWAY: u32 = 0;
/// At the door and awake.
const STANDBY: u32 = 1;
/// In the team.
const ACTIVE: u32 = 2;

/// What is known of one thread; on cache lines of its own, since the thread writes there at every barrier.
#[derive(Debug)]
#[repr(align(128))]
struct WorkerState {
    state: AtomicU32,
    /// Its number in the team.
    rank: AtomicU32,
    /// The epoch of the last barrier that it came to.
    arrived: AtomicU32,
    /// It is to leave at the end of the stage.
    released: AtomicBool,
}

/// The team of a pool's runs.
#[derive(Debug)]
pub(super) struct Team {
    pub(super) barrier: Barrier,
    pub(super) queue: ChunkQueue,
    workers: Box<[WorkerState]>,
    /// Somebody came to the door, or is to leave, since the team was last looked at.
    changes: AtomicU32,
    /// Stage and epoch in which those begin that came in last.
    stage: AtomicU32,
    epoch: AtomicU32,
    /// Members, thread 0 apart, that are not through with the run.
    running: AtomicU32,
    /// Opens when there are none.
    done: Gate,
    /// A run is under way that others may come in to.
    busy: AtomicBool,
    stop: AtomicBool,
}

/// Where a thread's part of a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntryPoint {
    pub(super) stage: usize,
    pub(super) epoch: u32,
}

/// A waiter outside: who sleeps is not called in, since its waking takes longer than a stage. So it stays awake as long as a
/// run is under way that it may come in to, however long the stage takes.
struct OnStandby<'a> {
    worker: &'a WorkerState,
    busy: &'a AtomicBool,
}

impl Meanwhile for OnStandby<'_> {
    fn idle(&mut self) -> bool {
        // A model checker tries every number of turns.
        let stays = !cfg!(loom) && self.busy.load(Ordering::Relaxed);
        if stays {
            spin_loop();
        }
        stays
    }

    fn before_sleep(&mut self) {
        // If it was called in just now, the gate is about to open.
        let _ = self.worker.state.compare_exchange(STANDBY, AWAY, Ordering::AcqRel, Ordering::Relaxed);
    }
}

impl Team {
    pub(super) fn new(threads: usize, spin: Spin) -> Team {
        let worker = || WorkerState {
            state: AtomicU32::new(AWAY),
            rank: AtomicU32::new(0),
            arrived: AtomicU32::new(0),
            released: AtomicBool::new(false),
        };
        Team {
            barrier: Barrier::new(threads, spin),
            queue: ChunkQueue::new(threads),
            workers: (0..threads).map(|_| worker()).collect(),
            changes: AtomicU32::new(0),
            stage: AtomicU32::new(0),
            epoch: AtomicU32::new(0),
            running: AtomicU32::new(0),
            done: Gate::new(spin),
            busy: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        }
    }

    /// A thread's number in the team, and how many are in it. For members.
    pub(super) fn place(&self, id: usize) -> (usize, usize) {
        (self.workers[id].rank.load(Ordering::Relaxed) as usize, self.barrier.threads())
    }

    /// Begins a run with all threads, or with those that are awake; the others come in as they wake up. Called by
    /// thread 0 when no run is under way.
    pub(super) fn begin(&self, all: bool) -> EntryPoint {
        let entry = EntryPoint { stage: 0, epoch: self.barrier.gate().epoch().wrapping_add(1) };
        self.busy.store(!all, Ordering::Relaxed);
        self.workers[0].state.store(ACTIVE, Ordering::Relaxed);
        self.queue.reset();
        self.form(entry, all);
        self.barrier.gate().open();
        entry
    }

    /// Whether the team of the run under way may change.
    pub(super) fn is_open(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    /// Puts the team together that begins at `entry`, when the gate opens: who is in it and stays, and who is at the door.
    fn form(&self, entry: EntryPoint, all: bool) {
        self.stage.store(entry.stage as u32, Ordering::Relaxed);
        self.epoch.store(entry.epoch, Ordering::Relaxed);
        let (mut members, mut came) = (0, 0);
        for worker in &self.workers {
            if worker.state.load(Ordering::Relaxed) == ACTIVE {
                if worker.released.load(Ordering::Relaxed) {
                    worker.state.store(AWAY, Ordering::Relaxed);
                    continue;
                }
            } else if worker.call_in(all) {
                came += 1;
            } else {
                continue;
            }
            worker.rank.store(members as u32, Ordering::Relaxed);
            self.queue.clear(entry.epoch, members);
            members += 1;
        }
        self.running.fetch_add(came, Ordering::Relaxed);
        self.barrier.set_threads(members);
    }

    /// Waits until everybody in the team has come; see `Gate::wait` for `meanwhile`.
    pub(super) fn wait(&self, id: usize, epoch: u32, meanwhile: &mut impl Meanwhile) {
        self.arrive(id, epoch, || {}, meanwhile);
    }

    /// Ends a stage, as `wait`; whether this thread is in the team of the next one.
    pub(super) fn meet(&self, id: usize, next: EntryPoint, meanwhile: &mut impl Meanwhile) -> bool {
        let worker = &self.workers[id];
        if worker.released.load(Ordering::Relaxed) {
            self.changes.store(1, Ordering::Release);
        }
        let last = || {
            if self.changes.load(Ordering::Relaxed) != 0 && self.changes.swap(0, Ordering::AcqRel) != 0 {
                self.form(next, false);
            }
        };
        self.arrive(id, next.epoch.wrapping_sub(1), last, meanwhile);
        worker.state.load(Ordering::Relaxed) == ACTIVE
    }

    fn arrive(&self, id: usize, epoch: u32, last: impl FnOnce(), meanwhile: &mut impl Meanwhile) {
        let worker = &self.workers[id];
        self.queue.clear(epoch.wrapping_add(1), worker.rank.load(Ordering::Relaxed) as usize);
        worker.arrived.store(epoch, Ordering::Relaxed);
        self.barrier.pass(epoch, last, meanwhile);
    }

    /// The first member, thread 0 and `id` apart, that has not come to the barrier which ends `epoch`; for no epoch,
    /// that is not through with the run.
    pub(super) fn missing(&self, id: usize, epoch: Option<u32>) -> Option<usize> {
        let missing = |worker: &WorkerState| {
            worker.state.load(Ordering::Relaxed) == ACTIVE && epoch != Some(worker.arrived.load(Ordering::Relaxed))
        };
        (1..self.workers.len()).find(|&other| other != id && missing(&self.workers[other]))
    }

    /// Whether somebody would be called in at the end of this stage. Stays so while the run is open: who is at the door
    /// keeps awake then.
    #[cfg(test)]
    pub(super) fn has_standby(&self) -> bool {
        let ready = |worker: &WorkerState| worker.state.load(Ordering::Acquire) == STANDBY;
        self.changes.load(Ordering::Acquire) != 0 && self.workers.iter().any(ready)
    }

    /// Whether a member is to leave.
    #[cfg(test)]
    pub(super) fn is_released(&self, id: usize) -> bool {
        self.workers[id].released.load(Ordering::Relaxed)
    }

    /// Lets a member leave at the end of the stage it is in.
    pub(super) fn release(&self, id: usize) {
        self.workers[id].released.store(true, Ordering::Relaxed);
    }

    /// The end of a worker's part of a run; whether it was released.
    pub(super) fn leave(&self, id: usize) -> bool {
        let worker = &self.workers[id];
        let released = worker.released.swap(false, Ordering::Relaxed);
        // Who is through is awake, so the next run may count on it.
        worker.state.store(if released { AWAY } else { STANDBY }, Ordering::Release);
        if self.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.done.open();
        }
        released
    }

    /// Waits until all workers are through with the run.
    pub(super) fn finish(&self, meanwhile: &mut impl Meanwhile) {
        loop {
            let epoch = self.done.epoch();
            if self.running.load(Ordering::Acquire) == 0 {
                self.busy.store(false, Ordering::Relaxed);
                return;
            }
            self.done.wait(epoch, meanwhile);
        }
    }

    /// Waits at the door until this worker is called in; `None` if it should end.
    pub(super) fn stand_by(&self, id: usize) -> Option<EntryPoint> {
        let (worker, gate) = (&self.workers[id], self.barrier.gate());
        loop {
            // Before the state: who is called in later sees another epoch.
            let epoch = gate.epoch();
            if self.stop.load(Ordering::Acquire) {
                return None;
            }
            match worker.state.compare_exchange(AWAY, STANDBY, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => self.changes.store(1, Ordering::Release),
                Err(ACTIVE) => {
                    let entry = EntryPoint {
                        stage: self.stage.load(Ordering::Relaxed) as usize,
                        epoch: self.epoch.load(Ordering::Relaxed),
                    };
                    // Not before the gate has opened: until then the team is being put together.
                    if epoch.wrapping_sub(entry.epoch) as i32 >= 0 {
                        return Some(entry);
                    }
                }
                Err(_) => {}
            }
            gate.wait(epoch, &mut OnStandby { worker, busy: &self.busy });
        }
    }

    /// Ends all waiting at the door.
    pub(super) fn shut_down(&self) {
        self.stop.store(true, Ordering::Release);
        self.barrier.gate().open();
    }
}

impl WorkerState {
    /// Whether a thread outside is now in the team.
    fn call_in(&self, even_away: bool) -> bool {
        if even_away {
            // Not a store: of two changes of the state one comes second.
            self.state.swap(ACTIVE, Ordering::AcqRel);
            return true;
        }
        self.state.compare_exchange(STANDBY, ACTIVE, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}
