//! The pool: barriers order writes, more threads than processors make progress, panics reach the caller.
//!
//! Tests never depend on timing: they wait for the pool's own events.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::*;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Every thread writes its own cell, passes a barrier, and checks all cells, many times.
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
        barriers_order_writes(threads, 200);
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
fn a_thread_that_finishes_early_helps_the_others() {
    let pool = Pool::new(2, false).unwrap();
    let (begun, by_other) = (AtomicUsize::new(0), AtomicUsize::new(0));
    pool.run(&|worker| {
        for chunk in worker.chunks(64, 1) {
            if worker.tid == 1 {
                // Stays in its first chunk until the other thread has claimed all the rest.
                begun.store(1, Ordering::Release);
                yield_until(|| by_other.load(Ordering::Acquire) == 63);
            } else {
                yield_until(|| begun.load(Ordering::Acquire) == 1);
                by_other.fetch_add(chunk.len(), Ordering::Release);
            }
        }
    });
    assert_eq!(by_other.into_inner(), 63);
}

/// Waits for something that another thread is bound to do.
fn yield_until(happened: impl Fn() -> bool) {
    while !happened() {
        std::thread::yield_now();
    }
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
fn workers_wake_after_they_fell_asleep() {
    for cores in [1, 2] {
        let pool = Pool::on(cores, 2, false).unwrap();
        for _ in 0..5 {
            yield_until(|| pool.shared.team.barrier.gate().has_sleepers());
            let count = AtomicUsize::new(0);
            pool.run(&|_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(count.into_inner(), 2);
        }
    }
}

/// Every item of every stage is processed once, and every rank is valid, whatever the team.
fn stages_cover_everything_once(pool: &Pool, runs: usize, disturb: &(dyn Fn(&Worker<'_>) + Sync)) {
    let stages = 40;
    let seen: Vec<AtomicUsize> = (0..100).map(|_| AtomicUsize::new(0)).collect();
    for run in 0..runs {
        let crossed = pool.run_stages(&|mut worker| {
            for stage in worker.stage()..stages {
                assert!(worker.tid < worker.threads && worker.threads <= pool.threads());
                for i in worker.chunks(50, 3).flatten() {
                    seen[i].fetch_add(1, Ordering::Relaxed);
                }
                for i in worker.share(50) {
                    seen[50 + i].fetch_add(1, Ordering::Relaxed);
                }
                worker.barrier();
                let done = run * stages + stage + 1;
                assert!(seen.iter().all(|s| s.load(Ordering::Relaxed) == done), "run {run}, stage {stage}");
                disturb(&worker);
                if stage + 1 < stages && !worker.next_stage(|| false) {
                    return;
                }
            }
        });
        assert_eq!(crossed, if pool.threads() > 1 { 2 * stages as u32 - 1 } else { 0 });
    }
}

#[test]
fn stages_run_on_any_team() {
    for (cores, threads) in [(1, 1), (2, 2), (3, 3), (1, 3)] {
        stages_cover_everything_once(&Pool::on(cores, threads, true).unwrap(), 50, &|_| {});
    }
}

/// Makes the other thread join if thread 0 is alone, and leave otherwise. For a pool of two.
fn change_team(pool: &Pool, worker: &Worker<'_>) {
    match (worker.tid, worker.threads) {
        (0, 1) => yield_until(|| pool.shared.team.has_standby()),
        (0, _) => pool.shared.team.release(1),
        _ => {}
    }
}

#[test]
fn threads_leave_and_come_back_between_stages() {
    let pool = Pool::on(2, 2, false).unwrap();
    let (alone, together) = (AtomicUsize::new(0), AtomicUsize::new(0));
    stages_cover_everything_once(&pool, 3, &|worker| {
        let count = if worker.threads == 1 { &alone } else { &together };
        count.fetch_add(1, Ordering::Relaxed);
        change_team(&pool, worker);
    });
    // A visit takes at most two stages: in the first, the thread may arrive at the barrier before it is released.
    let (alone, together) = (alone.into_inner(), together.into_inner());
    assert!(alone >= 3 * 10 && together >= 3 * 10, "{alone} stages alone, {together} visits");
}

/// Runs stages until the team has `wanted` members, then panics in the last one.
fn panic_in_a_team_of(pool: &Pool, wanted: usize) {
    let caught = catch_unwind(AssertUnwindSafe(|| {
        pool.run_stages(&|mut worker| {
            loop {
                if worker.threads == wanted && worker.tid + 1 == worker.threads {
                    resume_unwind(Box::new(wanted));
                }
                if worker.threads != wanted {
                    change_team(pool, &worker);
                }
                if !worker.next_stage(|| false) {
                    return;
                }
            }
        });
    }));
    assert_eq!(caught.expect_err("the panic arrives").downcast_ref::<usize>(), Some(&wanted));
}

#[test]
fn a_panic_in_a_stage_reaches_the_caller_for_any_team() {
    let pool = Pool::on(2, 2, false).unwrap();
    for _ in 0..20 {
        panic_in_a_team_of(&pool, 1);
        panic_in_a_team_of(&pool, 2);
    }
    stages_cover_everything_once(&pool, 5, &|_| {});
}
