//! The pool's protocols under the model checker: every interleaving of two threads with up to two preemptions.
//!
//! Compiled with `--cfg loom` only: `RUSTFLAGS="--cfg loom" cargo test --release -p aio-backend-cpu model`.

use super::barrier::{Barrier, Gate, Spin};
use super::team::{EntryPoint, Team};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

/// Runs a body on two threads in every interleaving.
fn two_threads<T: Send + Sync + 'static>(make: fn() -> T, body: fn(&T, usize)) {
    let mut model = loom::model::Builder::new();
    // Without a bound the barrier alone has more interleavings than can be tried.
    model.preemption_bound = Some(2);
    model.check(move || {
        let shared = Arc::new(make());
        let other = Arc::clone(&shared);
        let thread = thread::spawn(move || body(&other, 1));
        body(&shared, 0);
        thread.join().expect("the body does not panic");
    });
}

struct Cells {
    barrier: Barrier,
    cells: [UnsafeCell<u32>; 2],
}

// SAFETY: the model checker tracks every access to the cells and reports races.
unsafe impl Sync for Cells {}

#[test]
fn what_is_written_before_a_barrier_is_read_after_it() {
    let make = || Cells { barrier: Barrier::new(2, Spin::NONE), cells: [UnsafeCell::new(0), UnsafeCell::new(0)] };
    two_threads(make, |shared: &Cells, tid| {
        for round in 1..=2 {
            // SAFETY: each thread writes its own cell; the model checker reports a race.
            shared.cells[tid].with_mut(|p| unsafe { *p = round });
            shared.barrier.pass(2 * round - 2, || {}, &mut ());
            // SAFETY: no thread writes between the two barriers.
            shared.cells[1 - tid].with(|p| assert_eq!(unsafe { *p }, round));
            shared.barrier.pass(2 * round - 1, || {}, &mut ());
        }
    });
}

#[test]
fn a_gate_wakes_a_waiting_thread() {
    two_threads(
        || Gate::new(Spin::NONE),
        |gate, tid| {
            if tid == 0 {
                gate.open();
            } else {
                gate.wait(0, &mut ());
                assert_eq!(gate.epoch(), 1);
            }
        },
    );
}

struct Stages {
    team: Team,
    /// How often each item of each stage was claimed, counted by the claiming thread.
    taken: [[UnsafeCell<u32>; 2]; 3],
}

// SAFETY: as for `Cells`.
unsafe impl Sync for Stages {}

impl Stages {
    fn new() -> Stages {
        let taken = std::array::from_fn(|_| std::array::from_fn(|_| UnsafeCell::new(0)));
        Stages { team: Team::new(2, Spin::NONE), taken }
    }

    /// A member's part of a run, from its entry point on. After the barrier every item of a stage was claimed once.
    fn work(&self, id: usize, entry: EntryPoint, release: bool) {
        let EntryPoint { stage: first, mut epoch } = entry;
        for (stage, taken) in self.taken.iter().enumerate().skip(first) {
            let (tid, threads) = self.team.place(id);
            for chunk in self.team.queue.chunks(epoch, tid, threads, 2, 1) {
                // SAFETY: a claimed item has one owner; the model checker reports a race.
                taken[chunk.start].with_mut(|p| unsafe { *p += 1 });
            }
            if release && stage == 0 {
                self.team.release(1);
            }
            epoch += 1;
            if stage + 1 == self.taken.len() || !self.team.meet(id, EntryPoint { stage: stage + 1, epoch }, &mut ()) {
                return;
            }
            self.check(stage);
        }
    }

    fn check(&self, stage: usize) {
        for item in &self.taken[stage] {
            // SAFETY: no thread writes to a stage's items after its barrier.
            item.with(|p| assert_eq!(unsafe { *p }, 1));
        }
    }
}

/// Thread 0 runs, thread 1 serves.
fn a_run(shared: &Stages, id: usize, all: bool, release: bool) {
    if id == 0 {
        let entry = shared.team.begin(all);
        shared.work(0, entry, release);
        shared.team.finish(&mut ());
        shared.check(2);
        shared.team.shut_down();
    } else {
        while let Some(entry) = shared.team.stand_by(1) {
            shared.work(1, entry, false);
            shared.team.leave(1);
        }
    }
}

#[test]
fn a_chunk_is_taken_once_in_each_stage() {
    two_threads(Stages::new, |shared, id| a_run(shared, id, true, false));
}

#[test]
fn a_thread_may_come_in_at_any_stage() {
    two_threads(Stages::new, |shared, id| a_run(shared, id, false, false));
}

#[test]
fn a_released_thread_leaves_and_may_come_back() {
    two_threads(Stages::new, |shared, id| a_run(shared, id, true, true));
}
