//! Records when threads enter, wait and leave, for traces.
//!
//! Off, a thread reads one flag at each barrier. On, each thread appends to its own list, whose lock is contended only
//! when a step's marks are taken. Used by the pool; executables turn the marks into steps of a timeline.

use aio_backend::timeline::{Event, Mark};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// See the module documentation.
#[derive(Debug)]
pub struct Recorder {
    on: AtomicBool,
    /// Times count from here.
    origin: Instant,
    /// The task of the first stage of the present run.
    first_task: AtomicU32,
    lanes: Box<[Mutex<Vec<Mark>>]>,
}

impl Recorder {
    pub(super) fn new(threads: usize) -> Recorder {
        Recorder {
            on: AtomicBool::new(false),
            origin: Instant::now(),
            first_task: AtomicU32::new(0),
            lanes: (0..threads).map(|_| Mutex::default()).collect(),
        }
    }

    /// Whether marks are kept.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Begins to keep marks.
    pub fn start(&self) {
        self.on.store(true, Ordering::Relaxed);
    }

    /// Says which task the first stage of the next run is.
    pub fn set_first_task(&self, task: usize) {
        // Off, nothing is written, so the flag stays in every thread's cache.
        if self.is_on() {
            self.first_task.store(task as u32, Ordering::Relaxed);
        }
    }

    /// Nanoseconds from the recorder's origin to an instant.
    pub fn nanoseconds(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.origin).as_nanos() as u64
    }

    /// Takes the marks of all threads, by thread. No run may be in progress.
    pub fn take(&self) -> Vec<Vec<Mark>> {
        self.lanes
            .iter()
            .map(|lane| std::mem::take(&mut *lane.lock().unwrap_or_else(PoisonError::into_inner)))
            .collect()
    }

    pub(super) fn enter(&self, thread: usize, stage: usize) {
        self.mark(thread, || Event::Enter { task: self.task(stage) });
    }

    pub(super) fn arrive(&self, thread: usize, barrier: u32) {
        self.mark(thread, || Event::Arrive { barrier });
    }

    pub(super) fn resume(&self, thread: usize, stage: usize) {
        self.mark(thread, || Event::Resume { task: self.task(stage) });
    }

    pub(super) fn leave(&self, thread: usize) {
        self.mark(thread, || Event::Leave);
    }

    fn task(&self, stage: usize) -> u32 {
        self.first_task.load(Ordering::Relaxed) + stage as u32
    }

    fn mark(&self, thread: usize, event: impl FnOnce() -> Event) {
        if self.is_on() {
            let mark = Mark { at_ns: self.nanoseconds(Instant::now()), event: event() };
            self.lanes[thread].lock().unwrap_or_else(PoisonError::into_inner).push(mark);
        }
    }
}
