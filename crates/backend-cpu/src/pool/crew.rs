//! Who works on which part of a run.
//!
//! A run is a row of stages with a barrier between. At each of these barriers the crew may change: a thread whose
//! processor went to another process leaves, one that waits at the door comes in. So a busy neighbour costs what it takes
//! and not, at every barrier, the time until the system gives the late thread its turn. Inside a stage the crew is fixed,
//! and its members are numbered without gaps.
//!
//! Whoever comes last to the barrier decides for all: everybody else waits. Thread 0, which called for the run, is always
//! in the crew. Used by the pool; `late.rs` says who should leave.

use super::barrier::{Barrier, Gate, Meanwhile, Spin};
use super::claims::Claims;
use super::sync::{AtomicBool, AtomicU32, spin_loop};
use std::sync::atomic::Ordering;

/// Neither in the crew nor at the door: asleep, or on the way.
const AWAY: u32 = 0;
/// At the door and awake.
const READY: u32 = 1;
/// In the crew.
const IN: u32 = 2;

/// What is known of one thread; on cache lines of its own, since the thread writes there at every barrier.
#[derive(Debug)]
#[repr(align(128))]
struct Seat {
    state: AtomicU32,
    /// Its number in the crew.
    rank: AtomicU32,
    /// The epoch of the last barrier that it came to.
    arrived: AtomicU32,
    /// It is to leave at the end of the stage.
    relieved: AtomicBool,
}

/// The crew of a pool's runs.
#[derive(Debug)]
pub(super) struct Crew {
    pub(super) barrier: Barrier,
    pub(super) claims: Claims,
    seats: Box<[Seat]>,
    /// Somebody came to the door, or is to leave, since the crew was last looked at.
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
pub(super) struct Entry {
    pub(super) stage: usize,
    pub(super) epoch: u32,
}

/// A waiter outside: who sleeps is not called in, since its waking takes longer than a stage. So it stays awake as long as a
/// run is under way that it may come in to, however long the stage takes.
struct AtTheDoor<'a> {
    seat: &'a Seat,
    busy: &'a AtomicBool,
}

impl Meanwhile for AtTheDoor<'_> {
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
        let _ = self.seat.state.compare_exchange(READY, AWAY, Ordering::AcqRel, Ordering::Relaxed);
    }
}

impl Crew {
    pub(super) fn new(threads: usize, spin: Spin) -> Crew {
        let seat = || Seat {
            state: AtomicU32::new(AWAY),
            rank: AtomicU32::new(0),
            arrived: AtomicU32::new(0),
            relieved: AtomicBool::new(false),
        };
        Crew {
            barrier: Barrier::new(threads, spin),
            claims: Claims::new(threads),
            seats: (0..threads).map(|_| seat()).collect(),
            changes: AtomicU32::new(0),
            stage: AtomicU32::new(0),
            epoch: AtomicU32::new(0),
            running: AtomicU32::new(0),
            done: Gate::new(spin),
            busy: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        }
    }

    /// A thread's number in the crew, and how many are in it. For members.
    pub(super) fn place(&self, id: usize) -> (usize, usize) {
        (self.seats[id].rank.load(Ordering::Relaxed) as usize, self.barrier.threads())
    }

    /// Begins a run with all threads, or with those that are awake; the others come in as they wake up. Called by
    /// thread 0 when no run is under way.
    pub(super) fn begin(&self, all: bool) -> Entry {
        let entry = Entry { stage: 0, epoch: self.barrier.gate().epoch().wrapping_add(1) };
        self.busy.store(!all, Ordering::Relaxed);
        self.seats[0].state.store(IN, Ordering::Relaxed);
        self.claims.reset();
        self.form(entry, all);
        self.barrier.gate().open();
        entry
    }

    /// Whether the crew of the run under way may change.
    pub(super) fn is_open(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    /// Puts the crew together that begins at `entry`, when the gate opens: who is in it and stays, and who is at the door.
    fn form(&self, entry: Entry, all: bool) {
        self.stage.store(entry.stage as u32, Ordering::Relaxed);
        self.epoch.store(entry.epoch, Ordering::Relaxed);
        let (mut members, mut came) = (0, 0);
        for seat in &self.seats {
            if seat.state.load(Ordering::Relaxed) == IN {
                if seat.relieved.load(Ordering::Relaxed) {
                    seat.state.store(AWAY, Ordering::Relaxed);
                    continue;
                }
            } else if seat.call_in(all) {
                came += 1;
            } else {
                continue;
            }
            seat.rank.store(members as u32, Ordering::Relaxed);
            self.claims.clear(entry.epoch, members);
            members += 1;
        }
        self.running.fetch_add(came, Ordering::Relaxed);
        self.barrier.set_threads(members);
    }

    /// Waits until everybody in the crew has come; see `Gate::wait` for `meanwhile`.
    pub(super) fn wait(&self, id: usize, epoch: u32, meanwhile: &mut impl Meanwhile) {
        self.arrive(id, epoch, || {}, meanwhile);
    }

    /// Ends a stage, as `wait`; whether this thread is in the crew of the next one.
    pub(super) fn meet(&self, id: usize, next: Entry, meanwhile: &mut impl Meanwhile) -> bool {
        let seat = &self.seats[id];
        if seat.relieved.load(Ordering::Relaxed) {
            self.changes.store(1, Ordering::Release);
        }
        let last = || {
            if self.changes.load(Ordering::Relaxed) != 0 && self.changes.swap(0, Ordering::AcqRel) != 0 {
                self.form(next, false);
            }
        };
        self.arrive(id, next.epoch.wrapping_sub(1), last, meanwhile);
        seat.state.load(Ordering::Relaxed) == IN
    }

    fn arrive(&self, id: usize, epoch: u32, last: impl FnOnce(), meanwhile: &mut impl Meanwhile) {
        let seat = &self.seats[id];
        self.claims.clear(epoch.wrapping_add(1), seat.rank.load(Ordering::Relaxed) as usize);
        seat.arrived.store(epoch, Ordering::Relaxed);
        self.barrier.pass(epoch, last, meanwhile);
    }

    /// The first member, thread 0 and `id` apart, that has not come to the barrier which ends `epoch`; for no epoch,
    /// that is not through with the run.
    pub(super) fn missing(&self, id: usize, epoch: Option<u32>) -> Option<usize> {
        let missing = |seat: &Seat| {
            seat.state.load(Ordering::Relaxed) == IN && epoch != Some(seat.arrived.load(Ordering::Relaxed))
        };
        (1..self.seats.len()).find(|&other| other != id && missing(&self.seats[other]))
    }

    /// Whether somebody would be called in at the end of this stage. Stays so while the run is open: who is at the door
    /// keeps awake then.
    #[cfg(test)]
    pub(super) fn someone_is_at_the_door(&self) -> bool {
        let ready = |seat: &Seat| seat.state.load(Ordering::Acquire) == READY;
        self.changes.load(Ordering::Acquire) != 0 && self.seats.iter().any(ready)
    }

    /// Whether a member is to leave.
    #[cfg(test)]
    pub(super) fn is_relieved(&self, id: usize) -> bool {
        self.seats[id].relieved.load(Ordering::Relaxed)
    }

    /// Lets a member leave at the end of the stage it is in.
    pub(super) fn relieve(&self, id: usize) {
        self.seats[id].relieved.store(true, Ordering::Relaxed);
    }

    /// The end of a worker's part of a run; whether it was relieved.
    pub(super) fn leave(&self, id: usize) -> bool {
        let seat = &self.seats[id];
        let relieved = seat.relieved.swap(false, Ordering::Relaxed);
        // Who is through is awake, so the next run may count on it.
        seat.state.store(if relieved { AWAY } else { READY }, Ordering::Release);
        if self.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.done.open();
        }
        relieved
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
    pub(super) fn attend(&self, id: usize) -> Option<Entry> {
        let (seat, gate) = (&self.seats[id], self.barrier.gate());
        loop {
            // Before the state: who is called in later sees another epoch.
            let epoch = gate.epoch();
            if self.stop.load(Ordering::Acquire) {
                return None;
            }
            match seat.state.compare_exchange(AWAY, READY, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => self.changes.store(1, Ordering::Release),
                Err(IN) => {
                    let entry = Entry {
                        stage: self.stage.load(Ordering::Relaxed) as usize,
                        epoch: self.epoch.load(Ordering::Relaxed),
                    };
                    // Not before the gate has opened: until then the crew is being put together.
                    if epoch.wrapping_sub(entry.epoch) as i32 >= 0 {
                        return Some(entry);
                    }
                }
                Err(_) => {}
            }
            gate.wait(epoch, &mut AtTheDoor { seat, busy: &self.busy });
        }
    }

    /// Ends all waiting at the door.
    pub(super) fn dismiss(&self) {
        self.stop.store(true, Ordering::Release);
        self.barrier.gate().open();
    }
}

impl Seat {
    /// Whether a thread outside is now in the crew.
    fn call_in(&self, even_away: bool) -> bool {
        if even_away {
            // Not a store: of two changes of the state one comes second.
            self.state.swap(IN, Ordering::AcqRel);
            return true;
        }
        self.state.compare_exchange(READY, IN, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}
