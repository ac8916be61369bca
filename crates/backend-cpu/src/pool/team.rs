//! The team: the threads that work on a stage of a run.
//!
//! A run is a sequence of stages separated by barriers, and the team may change at each: a preempted thread leaves, a
//! thread on standby joins. A busy neighbour then costs the processor time it takes, rather than a scheduler time slice
//! at every barrier. Within a stage the team is fixed, and its members are ranked without gaps.
//!
//! The last thread to arrive at the barrier forms the next team while the others wait. Thread 0, which started the run, is
//! always a member. Used by the pool; `preempted.rs` decides which threads to release.

use super::barrier::{Barrier, Gate, Meanwhile, Spin};
use super::chunks::ChunkQueue;
use super::sync::{AtomicBool, AtomicU32, spin_loop};
use std::sync::atomic::Ordering;

/// Neither a member nor on standby: asleep, or on the way.
const AWAY: u32 = 0;
/// Awake, waiting to join.
const STANDBY: u32 = 1;
/// A member of the team.
const ACTIVE: u32 = 2;

/// The state of one thread, on separate cache lines because the thread writes it at every barrier.
#[derive(Debug)]
#[repr(align(128))]
struct WorkerState {
    state: AtomicU32,
    /// Its rank in the team.
    rank: AtomicU32,
    /// Epoch of the last barrier it arrived at.
    arrived: AtomicU32,
    /// Leaves the team at the end of the stage.
    released: AtomicBool,
}

/// The team of a pool's runs.
#[derive(Debug)]
pub(super) struct Team {
    pub(super) barrier: Barrier,
    pub(super) queue: ChunkQueue,
    workers: Box<[WorkerState]>,
    /// Nonzero if a thread went on standby or was released since the team was last formed.
    changes: AtomicU32,
    /// Stage and epoch at which the newest members start.
    stage: AtomicU32,
    epoch: AtomicU32,
    /// Members other than thread 0 that have not finished the run.
    running: AtomicU32,
    /// Opens when `running` reaches 0.
    done: Gate,
    /// A run is in progress that threads on standby may join.
    busy: AtomicBool,
    stop: AtomicBool,
}

/// Where a thread starts in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntryPoint {
    pub(super) stage: usize,
    pub(super) epoch: u32,
}

/// A thread waiting to join. Waking a sleeping thread takes longer than a stage, so only threads that are awake are called
/// in; this one therefore stays awake while there is a run to join, however long its stages are.
struct OnStandby<'a> {
    worker: &'a WorkerState,
    busy: &'a AtomicBool,
}

impl Meanwhile for OnStandby<'_> {
    fn idle(&mut self) -> bool {
        // The model checker would try every number of turns.
        let stays = !cfg!(loom) && self.busy.load(Ordering::Relaxed);
        if stays {
            spin_loop();
        }
        stays
    }

    fn before_sleep(&mut self) {
        // On failure it was just called in, and the gate is about to open.
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

    /// A member's rank, and the size of the team.
    pub(super) fn place(&self, id: usize) -> (usize, usize) {
        (self.workers[id].rank.load(Ordering::Relaxed) as usize, self.barrier.threads())
    }

    /// Starts a run with all threads, or with those awake; the others join as they wake up. Called by thread 0 while no run
    /// is in progress.
    pub(super) fn begin(&self, all: bool) -> EntryPoint {
        let entry = EntryPoint { stage: 0, epoch: self.barrier.gate().epoch().wrapping_add(1) };
        self.busy.store(!all, Ordering::Relaxed);
        self.workers[0].state.store(ACTIVE, Ordering::Relaxed);
        self.queue.reset();
        self.form(entry, all);
        self.barrier.gate().open();
        entry
    }

    /// Whether the team of the current run may change.
    pub(super) fn is_open(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    /// Forms the team that starts at `entry` when the gate opens: remaining members and threads on standby, or all threads.
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

    /// Waits until every member has arrived; see `Gate::wait` for `meanwhile`.
    pub(super) fn wait(&self, id: usize, epoch: u32, meanwhile: &mut impl Meanwhile) {
        self.arrive(id, epoch, || {}, meanwhile);
    }

    /// Ends a stage, as `wait`. Returns whether this thread is in the next stage's team.
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

    /// The first member, other than thread 0 and `id`, that has not arrived at the barrier ending `epoch`; without an
    /// epoch, the first that has not finished the run.
    pub(super) fn missing(&self, id: usize, epoch: Option<u32>) -> Option<usize> {
        let missing = |worker: &WorkerState| {
            worker.state.load(Ordering::Relaxed) == ACTIVE && epoch != Some(worker.arrived.load(Ordering::Relaxed))
        };
        (1..self.workers.len()).find(|&other| other != id && missing(&self.workers[other]))
    }

    /// Whether a thread would join at the end of this stage. Stays true while the run is open, since threads on standby
    /// stay awake.
    #[cfg(test)]
    pub(super) fn has_standby(&self) -> bool {
        let ready = |worker: &WorkerState| worker.state.load(Ordering::Acquire) == STANDBY;
        self.changes.load(Ordering::Acquire) != 0 && self.workers.iter().any(ready)
    }

    /// Whether a member leaves at the end of its stage.
    #[cfg(test)]
    pub(super) fn is_released(&self, id: usize) -> bool {
        self.workers[id].released.load(Ordering::Relaxed)
    }

    /// Makes a member leave at the end of its stage.
    pub(super) fn release(&self, id: usize) {
        self.workers[id].released.store(true, Ordering::Relaxed);
    }

    /// Ends a worker's part of a run. Returns whether it was released.
    pub(super) fn leave(&self, id: usize) -> bool {
        let worker = &self.workers[id];
        let released = worker.released.swap(false, Ordering::Relaxed);
        // A worker that finished is awake, so the next run can start with it.
        worker.state.store(if released { AWAY } else { STANDBY }, Ordering::Release);
        if self.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.done.open();
        }
        released
    }

    /// Waits until all workers have finished the run.
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

    /// Waits on standby until this worker joins a run; `None` when the pool shuts down.
    pub(super) fn stand_by(&self, id: usize) -> Option<EntryPoint> {
        let (worker, gate) = (&self.workers[id], self.barrier.gate());
        loop {
            // Read before the state: a worker called in after this sees another epoch.
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
                    // Until the gate opens, the team is still being formed.
                    if epoch.wrapping_sub(entry.epoch) as i32 >= 0 {
                        return Some(entry);
                    }
                }
                Err(_) => {}
            }
            gate.wait(epoch, &mut OnStandby { worker, busy: &self.busy });
        }
    }

    /// Makes every worker on standby end.
    pub(super) fn shut_down(&self) {
        self.stop.store(true, Ordering::Release);
        self.barrier.gate().open();
    }
}

impl WorkerState {
    /// Makes a thread that is not a member one, if it is on standby or with `even_away`. Returns whether it joined.
    fn call_in(&self, even_away: bool) -> bool {
        if even_away {
            // A swap, not a store: it is ordered against the worker's own changes of the state.
            self.state.swap(ACTIVE, Ordering::AcqRel);
            return true;
        }
        self.state.compare_exchange(STANDBY, ACTIVE, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}
