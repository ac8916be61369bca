//! A persistent thread pool that runs one program per step.
//!
//! Starting a thread or queueing a task costs more than a decode task takes. Instead every thread runs the same program
//! and synchronises with the others at barriers; between steps it spins briefly, then parks. Work between two barriers is
//! cut into chunks: each thread starts with its own share, then helps with the others'. A program of several stages runs
//! on the threads that currently have a processor; that team may change between stages (`pool/team.rs`).
//! `run` allocates nothing. Used by executables; the caller is thread 0.

mod barrier;
mod chunks;
mod cpus;
mod preempted;
mod recorder;
mod sync;
mod team;

pub use chunks::Chunks;
pub use recorder::Recorder;

use barrier::{Poisoned, Spin};
use cpus::{Cpus, Handle};
use preempted::Waiting;
use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use team::{EntryPoint, Team};

/// A worker released within `SHORT_VISIT` of joining sleeps before it goes on standby again, longer each time within
/// `REST`: its processor is so busy that joining costs more than it gains.
const SHORT_VISIT: Duration = Duration::from_millis(1);
const REST: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(16));

/// A program's view of the thread that runs it.
#[derive(Clone, Copy, Debug)]
pub struct Worker<'a> {
    /// This thread's rank in the team that runs this stage; the caller of `Pool::run` is 0.
    pub tid: usize,
    /// Number of threads in the team.
    pub threads: usize,
    shared: &'a Shared,
    /// This thread's index in the pool.
    id: usize,
    stage: usize,
    /// Barriers passed; the same on all threads.
    epoch: &'a Cell<u32>,
}

impl<'a> Worker<'a> {
    /// Waits until every thread of the team has arrived. Writes before the barrier are visible to all threads after it.
    ///
    /// # Panics
    /// If another thread's program panicked; `Pool::run` then reports that panic.
    pub fn barrier(&self) {
        let epoch = self.epoch.get();
        self.shared.recorder.arrive(self.id, epoch);
        let mut waiting = self.shared.waiting(self.id, Some(epoch), || false);
        self.shared.team.wait(self.id, epoch, &mut waiting);
        self.epoch.set(epoch.wrapping_add(1));
        self.shared.recorder.resume(self.id, self.stage);
    }

    /// Index of the stage this thread is in.
    pub fn stage(&self) -> usize {
        self.stage
    }

    /// Ends the stage with a barrier. While it waits for the others, it calls `idle` for as long as `idle` returns true.
    /// The team may change here: `tid`, `threads` and the shares are then those of the new team. Returns whether this
    /// thread is still a member; if not, it must return from the program.
    ///
    /// All threads call this the same number of times, and not after the last stage.
    ///
    /// # Panics
    /// As [`Worker::barrier`].
    pub fn next_stage(&mut self, idle: impl FnMut() -> bool) -> bool {
        self.stage += 1;
        let epoch = self.epoch.get();
        let next = EntryPoint { stage: self.stage, epoch: epoch.wrapping_add(1) };
        self.epoch.set(next.epoch);
        self.shared.recorder.arrive(self.id, epoch);
        let mut waiting = self.shared.waiting(self.id, Some(epoch), idle);
        let stays = self.shared.team.meet(self.id, next, &mut waiting);
        (self.tid, self.threads) = self.shared.team.place(self.id);
        if stays {
            self.shared.recorder.resume(self.id, self.stage);
        }
        stays
    }

    /// Ranges of `0..count` for this thread to process, `size` items at a time: its own share first, then chunks that
    /// other threads have not started. Every item goes to exactly one thread.
    ///
    /// In each phase (up to the first barrier, between two barriers, after the last) every thread calls this at most
    /// once, all with the same arguments.
    pub fn chunks(&self, count: usize, size: usize) -> Chunks<'a> {
        self.shared.team.queue.chunks(self.epoch.get(), self.tid, self.threads, count, size)
    }

    /// This thread's share of `0..count`: contiguous; shares differ by at most one item.
    pub fn share(&self, count: usize) -> std::ops::Range<usize> {
        chunks::share(self.tid, self.threads, count)
    }
}

/// A program: what every thread of the pool runs.
type ThreadFn<'a> = dyn Fn(Worker<'_>) + Sync + 'a;

/// A program's address with its lifetime erased, valid during a run.
#[derive(Clone, Copy)]
struct Job(*const ThreadFn<'static>);

// SAFETY: the program is `Sync`, and `Pool::run` keeps it alive until every worker has returned.
unsafe impl Send for Job {}

struct Shared {
    threads: usize,
    /// Whether the team may change during a run. Not with more threads than processors: then every thread is preempted
    /// now and then.
    elastic: bool,
    team: Team,
    recorder: Recorder,
    handles: Box<[OnceLock<Handle>]>,
    job: Mutex<Option<Job>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("threads", &self.threads).finish_non_exhaustive()
    }
}

impl Shared {
    fn waiting<F: FnMut() -> bool>(&self, id: usize, epoch: Option<u32>, idle: F) -> Waiting<'_, F, Handle> {
        // A run with all threads also wakes sleeping ones, whose processor time stands still for another reason.
        let changes = self.elastic && self.team.is_open();
        Waiting { team: &self.team, threads: changes.then_some(&*self.handles), id, epoch, idle, suspect: None }
    }
}

/// A fixed set of threads that run programs.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held by the caller of a run: one run at a time.
    turn: Mutex<()>,
}

impl Pool {
    /// A pool of `threads` threads, including the caller's. With `pin`, thread `i` is bound to the `i`-th processor
    /// available to this process, provided there are enough; the caller's thread is never bound.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn new(threads: usize, pin: bool) -> std::io::Result<Pool> {
        Pool::on(std::thread::available_parallelism().map_or(1, |n| n.get()), threads, pin)
    }

    /// As [`Pool::new`], halving `threads` until the system starts them all.
    pub fn up_to(threads: usize, pin: bool) -> std::io::Result<Pool> {
        match Pool::new(threads, pin) {
            Err(_) if threads > 1 => Pool::up_to(threads / 2, pin),
            pool => pool,
        }
    }

    /// As [`Pool::new`] on a machine with `cores` processors. Tests pass a fixed count, to take the same path everywhere.
    fn on(cores: usize, threads: usize, pin: bool) -> std::io::Result<Pool> {
        let threads = threads.max(1);
        let fits = threads <= cores;
        let shared = Arc::new(Shared {
            threads,
            elastic: fits,
            team: Team::new(threads, if fits { Spin::LONG } else { Spin::SHORT }),
            recorder: Recorder::new(threads),
            handles: (0..threads).map(|_| OnceLock::new()).collect(),
            job: Mutex::new(None),
            panic: Mutex::new(None),
        });
        let mut pool = Pool { shared, workers: Vec::with_capacity(threads - 1), turn: Mutex::new(()) };
        for id in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let body = move || serve(&shared, id, pin && fits);
            pool.workers.push(std::thread::Builder::new().name(format!("aio-{id}")).spawn(body)?);
        }
        Ok(pool)
    }

    /// Number of threads, including the caller's.
    pub fn threads(&self) -> usize {
        self.shared.threads
    }

    /// When threads entered, waited and left.
    pub fn recorder(&self) -> &Recorder {
        &self.shared.recorder
    }

    /// Runs `program`, a single stage, once on every thread. Returns when all threads have finished.
    ///
    /// # Panics
    /// Resumes the first panic of any thread. The pool stays usable.
    pub fn run(&self, program: &ThreadFn<'_>) {
        self.start(program, true);
    }

    /// Runs `program`, of one or more stages, on the threads that have a processor. Returns when all have finished. A
    /// thread starts at [`Worker::stage`] and stops when [`Worker::next_stage`] returns false. Returns the number of
    /// barriers crossed, 0 for a pool of one thread.
    ///
    /// # Panics
    /// As [`Pool::run`].
    pub fn run_stages(&self, program: &ThreadFn<'_>) -> u32 {
        self.start(program, !self.shared.elastic)
    }

    fn start(&self, program: &ThreadFn<'_>, all: bool) -> u32 {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes; this function does not return before every worker has returned from the
        // program.
        let program = unsafe { std::mem::transmute::<*const ThreadFn<'_>, *const ThreadFn<'static>>(program) };
        *lock(&shared.job) = Some(Job(program));
        let entry = shared.team.begin(all);
        let last = execute(shared, 0, entry, program);
        shared.team.finish(&mut shared.waiting(0, None, || false));
        *lock(&shared.job) = None;
        let panic = lock(&shared.panic).take();
        if let Some(panic) = panic {
            shared.team.barrier.reset();
            drop(_turn);
            resume_unwind(panic);
        }
        if shared.threads > 1 { last.wrapping_sub(entry.epoch) } else { 0 }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the program on this thread. On a panic, stores the payload and poisons the barrier, so that no other thread
/// hangs. Returns the epoch in which the thread finished.
fn execute(shared: &Shared, id: usize, entry: EntryPoint, program: *const ThreadFn<'_>) -> u32 {
    let (tid, threads) = shared.team.place(id);
    let epoch = &Cell::new(entry.epoch);
    let worker = Worker { tid, threads, shared, id, stage: entry.stage, epoch };
    shared.recorder.enter(id, entry.stage);
    // SAFETY: `Pool::run` keeps the program alive until every worker is done with it.
    let result = catch_unwind(AssertUnwindSafe(|| unsafe { (*program)(worker) }));
    shared.recorder.leave(id);
    if let Err(panic) = result {
        if !panic.is::<Poisoned>() {
            lock(&shared.panic).get_or_insert(panic);
        }
        shared.team.barrier.poison();
    }
    epoch.get()
}

/// A worker's loop: stands by, joins a run, returns to standby, until the pool shuts down.
fn serve(shared: &Shared, id: usize, pin: bool) {
    let (home, handle) = settle(id, pin);
    if let Some(handle) = handle.filter(|_| home.is_some()) {
        let _ = shared.handles[id].set(handle);
    }
    let mut rest = Duration::ZERO;
    while let Some(entry) = shared.team.stand_by(id) {
        let came = Instant::now();
        let job = lock(&shared.job).expect("a run sets the job before it begins");
        execute(shared, id, entry, job.0);
        if !shared.team.leave(id) {
            rest = Duration::ZERO;
            continue;
        }
        if let (Some(home), Some(handle)) = (&home, &handle) {
            handle.move_to(home);
        }
        rest = if came.elapsed() < SHORT_VISIT { (2 * rest).clamp(REST.0, REST.1) } else { Duration::ZERO };
        std::thread::sleep(rest);
    }
}

/// With `pin`, binds the calling thread to the `id`-th processor it may use, if possible. Returns the processors it may
/// use afterwards, and its handle.
fn settle(id: usize, pin: bool) -> (Option<Cpus>, Option<Handle>) {
    let (allowed, handle) = (Cpus::allowed(), Handle::current());
    let one = allowed.filter(|_| pin).and_then(|all| all.nth(id));
    let bound = one.filter(|one| handle.is_some_and(|h| h.move_to(one)));
    (bound.or(allowed), handle)
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.team.shut_down();
        for worker in self.workers.drain(..) {
            // A program's panic is caught, so a worker always ends normally.
            let _ = worker.join();
        }
    }
}

#[cfg(all(test, loom))]
mod model;
#[cfg(all(test, not(loom)))]
mod tests;
