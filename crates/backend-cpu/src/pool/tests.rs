//! The pool: barriers order writes, more threads than processors make progress, panics arrive.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::*;
use std::sync::atomic::AtomicU64;

/// Every thread adds to its own cell, meets, and checks all cells, many times.
fn barriers_order_writes(threads: usize, rounds: u64) {
    let pool = Pool::new(threads, false).unwrap();
    let cells: Vec<AtomicU64> = (0..threads).map(|_| AtomicU64::new(0)).collect();
    for run in 0..3 {
        pool.run(&|worker| {
            for round in 1..=rounds {
                cells[worker.tid].store(run * rounds + round, Ordering::Relaxed);
                worker.barrier();
                assert!(cells.iter().all(|c| c.load(Ordering::Relaxed) == run * rounds + round));
                worker.barrier();
            }
        });
    }
}

#[test]
fn barriers_hold_with_one_two_and_four_threads() {
    for threads in [1, 2, 4] {
        barriers_order_writes(threads, 2000);
    }
}

#[test]
fn shares_cover_everything_once() {
    let pool = Pool::new(3, true).unwrap();
    for count in [0, 1, 2, 3, 100] {
        let seen: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
        pool.run(&|worker| {
            for i in worker.share(count) {
                seen[i].fetch_add(1, Ordering::Relaxed);
            }
        });
        assert!(seen.iter().all(|s| s.load(Ordering::Relaxed) == 1));
    }
}

#[test]
fn every_chunk_has_one_owner_phase_after_phase() {
    for threads in [1, 2, 5] {
        let pool = Pool::new(threads, false).unwrap();
        for (count, size) in [(0, 1), (1, 4), (7, 2), (100, 3), (1000, 1)] {
            let seen: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
            let phases = 50;
            pool.run(&|worker| {
                for phase in 0..phases {
                    for i in worker.chunks(count, size).flatten() {
                        seen[i].fetch_add(1, Ordering::Relaxed);
                    }
                    worker.barrier();
                    assert!(seen.iter().all(|s| s.load(Ordering::Relaxed) == phase + 1), "phase {phase}");
                    worker.barrier();
                }
            });
        }
    }
}

#[test]
fn who_is_through_helps_who_is_late() {
    let pool = Pool::new(2, false).unwrap();
    let by_other = AtomicUsize::new(0);
    pool.run(&|worker| {
        for chunk in worker.chunks(64, 1) {
            if worker.tid == 1 {
                // Late: it computes its first chunk until the other thread has taken all the rest.
                while by_other.load(Ordering::Acquire) < 63 {
                    std::thread::yield_now();
                }
            } else {
                by_other.fetch_add(chunk.len(), Ordering::Release);
            }
        }
        // If thread 1 came too late for a chunk, thread 0 had them all.
    });
    assert!(by_other.into_inner() >= 63);
}

#[test]
fn a_panic_on_any_thread_reaches_the_caller_and_the_pool_lives_on() {
    let pool = Pool::new(4, false).unwrap();
    for bad in 0..4 {
        let caught = catch_unwind(AssertUnwindSafe(|| {
            pool.run(&|worker| {
                worker.barrier();
                // resume_unwind: a panic without the hook's message in the test's output.
                if worker.tid == bad {
                    resume_unwind(Box::new(bad));
                }
                worker.barrier();
                worker.barrier();
            });
        }));
        let payload = caught.expect_err("the panic arrives");
        assert_eq!(payload.downcast_ref::<usize>(), Some(&bad));
        let count = AtomicUsize::new(0);
        pool.run(&|worker| {
            worker.barrier();
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.into_inner(), 4);
    }
}

#[test]
fn workers_wake_after_they_parked() {
    let pool = Pool::new(2, false).unwrap();
    for _ in 0..5 {
        std::thread::sleep(std::time::Duration::from_millis(3));
        let count = AtomicUsize::new(0);
        pool.run(&|_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.into_inner(), 2);
    }
}
