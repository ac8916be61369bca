//! A persistent thread pool that runs one program per step.
//!
//! Starting threads or tasks costs more than a decode task takes. Here every thread runs the same
//! program, meets the others at barriers inside it, and between steps spins briefly and then parks. Work between two
//! barriers is cut into chunks: each thread has its own, and takes over others' when it is through. A program that is
//! made of stages runs on those threads that have a processor, stage by stage (`pool/team.rs`).
//! Nothing is allocated in `run`. Used by executables; the caller is thread 0.

mod barrier;
mod chunks;
mod cpus;
mod preempted;
mod sync;
mod team;

pub use chunks::Chunks;

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

/// A thread that had to leave so soon after it came rests before it comes again, longer each time: its processor is so
/// busy that its visits cost more than they bring.
const SHORT_VISIT: Duration = Duration::from_millis(1);
const REST: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(16));

/// What a program gets on each thread.
#[derive(Clone, Copy, Debug)]
pub struct Worker<'a> {
    /// This thread's number among those that run this stage; the caller of `Pool::run` is 0.
    pub tid: usize,
    /// Number of threads that run this stage.
    pub threads: usize,
    shared: &'a Shared,
    /// This thread's number in the pool.
    id: usize,
    stage: usize,
    /// Counts barriers; the same number on all threads.
    epoch: &'a Cell<u32>,
}

impl<'a> Worker<'a> {
    /// Waits until every thread of this stage has come here. All writes before it are seen after it.
    ///
    /// # Panics
    /// If another thread's program panicked; `Pool::run` then reports that panic.
    pub fn barrier(&self) {
        let epoch = self.epoch.get();
        let mut waiting = self.shared.waiting(self.id, Some(epoch), || false);
        self.shared.team.wait(self.id, epoch, &mut waiting);
        self.epoch.set(epoch.wrapping_add(1));
    }

    /// The number of the stage that this thread is in.
    pub fn stage(&self) -> usize {
        self.stage
    }

    /// Ends a stage, as [`Worker::barrier`]; until the others have come, calls `idle` as long as it says that it did
    /// something. In the next stage numbers and chunks may be divided among other threads. Gives whether this thread
    /// is among them; if not, it must return from the program.
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
        let mut waiting = self.shared.waiting(self.id, Some(epoch), idle);
        let stays = self.shared.team.meet(self.id, next, &mut waiting);
        (self.tid, self.threads) = self.shared.team.place(self.id);
        stays
    }

    /// Parts of `0..count` for this thread, `size` items at a time: its own share first, then what others have not
    /// begun. Every item goes to exactly one thread.
    ///
    /// Between two barriers, and before the first and after the last, every thread calls this at most once, all with
    /// the same numbers.
    pub fn chunks(&self, count: usize, size: usize) -> Chunks<'a> {
        self.shared.team.queue.chunks(self.epoch.get(), self.tid, self.threads, count, size)
    }

    /// This thread's share of `0..count`: contiguous, and equal up to one.
    pub fn share(&self, count: usize) -> std::ops::Range<usize> {
        chunks::share(self.tid, self.threads, count)
    }
}

type ThreadFn<'a> = dyn Fn(Worker<'_>) + Sync + 'a;

/// A program's address, its lifetime erased while a run is under way.
#[derive(Clone, Copy)]
struct Job(*const ThreadFn<'static>);

// SAFETY: the program is `Sync`, and `Pool::run` keeps it alive until every worker has returned.
unsafe impl Send for Job {}

struct Shared {
    threads: usize,
    /// The team may change in a run; not with more threads than processors, where all are late at times.
    elastic: bool,
    team: Team,
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
        // A run that has called in all of them wakes sleepers up, whose processor time stands still as well.
        let changes = self.elastic && self.team.is_open();
        Waiting { team: &self.team, threads: changes.then_some(&*self.handles), id, epoch, idle, suspect: None }
    }
}

/// Threads that wait for programs.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// One run at a time.
    turn: Mutex<()>,
}

impl Pool {
    /// A pool of `threads` threads, the caller's included. With `pin`, thread `i` is bound to the
    /// `i`-th processor this process may use, if there are enough of them; the caller is not.
    ///
    /// Fails if a thread cannot be started.
    pub fn new(threads: usize, pin: bool) -> std::io::Result<Pool> {
        Pool::on(std::thread::available_parallelism().map_or(1, |n| n.get()), threads, pin)
    }

    /// As [`Pool::new`] with `threads` threads, or half as many and so on where the system does not start them.
    pub fn up_to(threads: usize, pin: bool) -> std::io::Result<Pool> {
        match Pool::new(threads, pin) {
            Err(_) if threads > 1 => Pool::up_to(threads / 2, pin),
            pool => pool,
        }
    }

    /// As [`Pool::new`] on a machine of `cores` processors. Tests say which, so that they take the same path everywhere.
    fn on(cores: usize, threads: usize, pin: bool) -> std::io::Result<Pool> {
        let threads = threads.max(1);
        let fits = threads <= cores;
        let shared = Arc::new(Shared {
            threads,
            elastic: fits,
            team: Team::new(threads, if fits { Spin::LONG } else { Spin::SHORT }),
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

    /// Number of threads, the caller's included.
    pub fn threads(&self) -> usize {
        self.shared.threads
    }

    /// Runs `program`, which is one stage, once on every thread and returns when all have returned.
    ///
    /// # Panics
    /// With the first panic of any thread. The pool stays usable.
    pub fn run(&self, program: &ThreadFn<'_>) {
        self.start(program, true);
    }

    /// Runs `program`, which may be of several stages, on as many threads as have a processor, and returns when all
    /// have returned. A thread begins at [`Worker::stage`], and ends where [`Worker::next_stage`] says so. Gives the
    /// barriers that this run has crossed; a pool of one thread crosses none.
    ///
    /// # Panics
    /// As [`Pool::run`].
    pub fn run_stages(&self, program: &ThreadFn<'_>) -> u32 {
        self.start(program, !self.shared.elastic)
    }

    fn start(&self, program: &ThreadFn<'_>, all: bool) -> u32 {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes; this function does not return before every worker
        // has returned from the program.
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

/// Runs the program on this thread; a panic is kept and the barrier broken, so that nobody hangs. Gives the epoch in
/// which it ended.
fn execute(shared: &Shared, id: usize, entry: EntryPoint, program: *const ThreadFn<'_>) -> u32 {
    let (tid, threads) = shared.team.place(id);
    let epoch = &Cell::new(entry.epoch);
    let worker = Worker { tid, threads, shared, id, stage: entry.stage, epoch };
    // SAFETY: `Pool::run` keeps the program alive until every worker is done with it.
    let result = catch_unwind(AssertUnwindSafe(|| unsafe { (*program)(worker) }));
    if let Err(panic) = result {
        if !panic.is::<Poisoned>() {
            lock(&shared.panic).get_or_insert(panic);
        }
        shared.team.barrier.poison();
    }
    epoch.get()
}

/// A worker's life.
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

/// Binds the calling thread to the `id`-th processor it may use, if that is asked for and possible; gives those that it
/// then may use.
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
            // Programs' panics are caught, so a worker ends in order.
            let _ = worker.join();
        }
    }
}

#[cfg(all(test, loom))]
mod model;
#[cfg(all(test, not(loom)))]
mod tests;
