//! A persistent thread pool that runs one program per step.
//!
//! Starting threads or tasks costs more than a decode task takes. Here every thread runs the same
//! program, meets the others at barriers inside it, and between steps spins briefly and then parks. Work between two
//! barriers is cut into chunks: each thread has its own, and takes over others' when it is through.
//! Nothing is allocated in `run`. Used by executables; the caller is thread 0.

mod barrier;
mod claims;
mod sync;

pub use barrier::Barrier;
pub use claims::Chunks;

use barrier::{Gate, Poisoned, Spin};
use claims::Claims;
use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// What a program gets on each thread.
#[derive(Clone, Copy, Debug)]
pub struct Worker<'a> {
    /// This thread's number; the caller of `Pool::run` is 0.
    pub tid: usize,
    /// Number of threads.
    pub threads: usize,
    barrier: &'a Barrier,
    claims: &'a Claims,
    /// Barriers that this thread has passed in this run.
    phase: &'a Cell<u32>,
}

impl<'a> Worker<'a> {
    /// Waits until every thread has come here. All writes before it are seen after it.
    ///
    /// # Panics
    /// If another thread's program panicked; `Pool::run` then reports that panic.
    pub fn barrier(&self) {
        let phase = self.phase.get();
        self.claims.end_phase(phase, self.tid);
        self.barrier.wait();
        self.phase.set(phase.wrapping_add(1));
    }

    /// Parts of `0..count` for this thread, `size` items at a time: its own share first, then what others have not
    /// begun. Every item goes to exactly one thread.
    ///
    /// Between two barriers, and before the first and after the last, every thread calls this at most once, all with
    /// the same numbers.
    pub fn chunks(&self, count: usize, size: usize) -> Chunks<'a> {
        self.claims.chunks(self.phase.get(), self.tid, count, size)
    }

    /// This thread's share of `0..count`: contiguous, and equal up to one.
    pub fn share(&self, count: usize) -> std::ops::Range<usize> {
        claims::share(self.tid, self.threads, count)
    }
}

type Program<'a> = dyn Fn(Worker<'_>) + Sync + 'a;

/// A program's address, its lifetime erased while a run is under way.
#[derive(Clone, Copy)]
struct Job(*const Program<'static>);

// SAFETY: the program is `Sync`, and `Pool::run` keeps it alive until every worker has returned.
unsafe impl Send for Job {}

struct Shared {
    threads: usize,
    barrier: Barrier,
    claims: Claims,
    /// Opens once per run, and once more to stop.
    start: Gate,
    /// Opens when the last worker has returned.
    done: Gate,
    job: Mutex<Option<Job>>,
    running: AtomicUsize,
    stop: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// Threads that wait for programs.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// One run at a time.
    turn: Mutex<()>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("threads", &self.shared.threads).finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool of `threads` threads, the caller's included. With `pin`, thread `i` is bound to the
    /// `i`-th processor this process may use, if there are enough of them; the caller is not.
    ///
    /// Fails if a thread cannot be started.
    pub fn new(threads: usize, pin: bool) -> std::io::Result<Pool> {
        let threads = threads.max(1);
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let spin = if threads <= cores { Spin::LONG } else { Spin::SHORT };
        let shared = Arc::new(Shared {
            threads,
            barrier: Barrier::new(threads, spin),
            claims: Claims::new(threads),
            start: Gate::new(spin),
            done: Gate::new(spin),
            job: Mutex::new(None),
            running: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            panic: Mutex::new(None),
        });
        let mut pool = Pool { shared, workers: Vec::with_capacity(threads - 1), turn: Mutex::new(()) };
        for tid in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let body = move || {
                if pin && threads <= cores {
                    pin_to(tid);
                }
                serve(&shared, tid);
            };
            pool.workers.push(std::thread::Builder::new().name(format!("aio-{tid}")).spawn(body)?);
        }
        Ok(pool)
    }

    /// Number of threads, the caller's included.
    pub fn threads(&self) -> usize {
        self.shared.threads
    }

    /// Barriers crossed so far, modulo 2^32. A pool of one thread crosses none.
    pub fn barriers(&self) -> u32 {
        self.shared.barrier.crossed()
    }

    /// Runs `program` once on every thread and returns when all have returned.
    ///
    /// # Panics
    /// With the first panic of any thread. The pool stays usable.
    pub fn run(&self, program: &Program<'_>) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &*self.shared;
        shared.claims.reset();
        if shared.threads > 1 {
            // SAFETY: only the lifetime changes; this function does not return before every worker
            // has returned from the program.
            let program = unsafe { std::mem::transmute::<*const Program<'_>, *const Program<'static>>(program) };
            *lock(&shared.job) = Some(Job(program));
            shared.running.store(shared.threads - 1, Ordering::Relaxed);
            let before = shared.done.epoch();
            shared.start.open();
            execute(shared, 0, program);
            shared.done.wait(before);
            *lock(&shared.job) = None;
        } else {
            execute(shared, 0, program);
        }
        let panic = lock(&shared.panic).take();
        if let Some(panic) = panic {
            shared.barrier.reset();
            drop(_turn);
            resume_unwind(panic);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the program on this thread; a panic is kept and the barrier broken, so that nobody hangs.
fn execute(shared: &Shared, tid: usize, program: *const Program<'_>) {
    let (barrier, claims, phase) = (&shared.barrier, &shared.claims, &Cell::new(0));
    let worker = Worker { tid, threads: shared.threads, barrier, claims, phase };
    // SAFETY: `Pool::run` keeps the program alive until every thread is done with it.
    let result = catch_unwind(AssertUnwindSafe(|| unsafe { (*program)(worker) }));
    let Err(panic) = result else { return };
    if !panic.is::<Poisoned>() {
        lock(&shared.panic).get_or_insert(panic);
    }
    shared.barrier.poison();
}

/// A worker's life.
fn serve(shared: &Shared, tid: usize) {
    let mut seen = 0;
    loop {
        seen = shared.start.wait(seen);
        if shared.stop.load(Ordering::Acquire) {
            return;
        }
        let job = lock(&shared.job).expect("a run sets the job before it opens the gate");
        execute(shared, tid, job.0);
        if shared.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            shared.done.open();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.start.open();
        for worker in self.workers.drain(..) {
            // Programs' panics are caught, so a worker ends in order.
            let _ = worker.join();
        }
    }
}

/// Binds the calling thread to the `index`-th processor it may use; left alone if that fails.
#[cfg(target_os = "linux")]
fn pin_to(index: usize) {
    // SAFETY: the set is plain data, initialised here, and passed with its size.
    unsafe {
        let mut allowed: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut allowed) != 0 {
            return;
        }
        let cpus = (0..libc::CPU_SETSIZE as usize).filter(|&cpu| libc::CPU_ISSET(cpu, &allowed));
        let Some(cpu) = cpus.into_iter().nth(index) else { return };
        let mut one: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut one);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &one);
    }
}

#[cfg(not(target_os = "linux"))]
fn pin_to(_: usize) {}

#[cfg(all(test, loom))]
mod model;
#[cfg(all(test, not(loom)))]
mod tests;
