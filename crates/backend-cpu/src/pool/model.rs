//! The pool's protocols under the model checker: every order of two threads' steps with up to two preemptions.
//!
//! Compiled with `--cfg loom` only: `RUSTFLAGS="--cfg loom" cargo test --release -p aio-backend-cpu model`.

use super::barrier::{Barrier, Gate, Spin};
use super::claims::Claims;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

/// Runs a body on two threads under every order.
fn two_threads<T: Send + Sync + 'static>(make: fn() -> T, body: fn(&T, usize)) {
    let mut model = loom::model::Builder::new();
    // Without a bound the barrier alone has more orders than can be tried.
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

// SAFETY: the model checker watches every access to the cells and reports those that race.
unsafe impl Sync for Cells {}

#[test]
fn what_is_written_before_a_barrier_is_read_after_it() {
    let make = || Cells { barrier: Barrier::new(2, Spin::NONE), cells: [UnsafeCell::new(0), UnsafeCell::new(0)] };
    two_threads(make, |shared: &Cells, tid| {
        for round in 1..=2 {
            // SAFETY: each thread writes its own cell; the model checker reports a race.
            shared.cells[tid].with_mut(|p| unsafe { *p = round });
            shared.barrier.wait(|| false);
            // SAFETY: nobody writes between the two barriers.
            shared.cells[1 - tid].with(|p| assert_eq!(unsafe { *p }, round));
            shared.barrier.wait(|| false);
        }
    });
}

#[test]
fn a_gate_wakes_whoever_waits() {
    two_threads(
        || Gate::new(Spin::NONE),
        |gate, tid| {
            if tid == 0 {
                gate.open();
            } else {
                assert_eq!(gate.wait(0, || false), 1);
            }
        },
    );
}

struct Phases {
    barrier: Barrier,
    claims: Claims,
    /// How often each item of each phase was taken; written by whoever claims it.
    taken: [[UnsafeCell<u32>; 2]; 3],
}

// SAFETY: as for `Cells`.
unsafe impl Sync for Phases {}

#[test]
fn a_chunk_is_taken_once_in_each_phase() {
    let make = || Phases {
        barrier: Barrier::new(2, Spin::NONE),
        claims: Claims::new(2),
        taken: std::array::from_fn(|_| std::array::from_fn(|_| UnsafeCell::new(0))),
    };
    two_threads(make, |shared: &Phases, tid| {
        for (phase, taken) in shared.taken.iter().enumerate() {
            for chunk in shared.claims.chunks(phase as u32, tid, 2, 1) {
                // SAFETY: a claimed item has one owner; the model checker reports a race.
                taken[chunk.start].with_mut(|p| unsafe { *p += 1 });
            }
            shared.claims.end_phase(phase as u32, tid);
            shared.barrier.wait(|| false);
            for item in taken {
                // SAFETY: nobody writes to this phase's items after the barrier.
                item.with(|p| assert_eq!(unsafe { *p }, 1));
            }
        }
    });
}
