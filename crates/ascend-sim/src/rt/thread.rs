//! What the runtime keeps for each calling thread: its context, its host clock and its capture mode.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::task::Handle;

/// Unsafe calls are refused while any capture in mode GLOBAL is active.
pub const GLOBAL: i32 = 0;
/// Unsafe calls are refused while this thread captures.
pub const THREAD_LOCAL: i32 = 1;
/// Unsafe calls are allowed.
pub const RELAXED: i32 = 2;

static NEXT: AtomicU64 = AtomicU64::new(1);
static LIVE: AtomicUsize = AtomicUsize::new(0);
static EPOCH: AtomicU64 = AtomicU64::new(0);
static LATEST: AtomicU64 = AtomicU64::new(0);

struct Local {
    id: u64,
    context: Cell<Handle>,
    mode: Cell<i32>,
    epoch: Cell<u64>,
    now: Cell<u64>,
}

impl Drop for Local {
    fn drop(&mut self) {
        LIVE.fetch_sub(1, Ordering::SeqCst);
    }
}

fn start() -> Local {
    LIVE.fetch_add(1, Ordering::SeqCst);
    Local {
        id: NEXT.fetch_add(1, Ordering::SeqCst),
        context: Cell::new(0),
        mode: Cell::new(GLOBAL),
        epoch: Cell::new(EPOCH.load(Ordering::SeqCst)),
        now: Cell::new(LATEST.load(Ordering::SeqCst)),
    }
}

thread_local! {
    static LOCAL: Local = start();
}

/// Number of this thread.
pub fn id() -> u64 {
    LOCAL.with(|l| l.id)
}

/// Threads that have called the runtime and have not ended.
pub fn live() -> usize {
    LIVE.load(Ordering::SeqCst)
}

/// The current context of this thread, 0 for none.
pub fn context() -> Handle {
    LOCAL.with(|l| l.context.get())
}

/// Makes a context current.
pub fn set_context(context: Handle) {
    LOCAL.with(|l| l.context.set(context));
}

/// The capture mode of this thread.
pub fn mode() -> i32 {
    LOCAL.with(|l| l.mode.get())
}

/// Replaces the capture mode of this thread.
pub fn set_mode(mode: i32) {
    LOCAL.with(|l| l.mode.set(mode));
}

/// Host time of this thread in modelled nanoseconds.
pub fn now() -> u64 {
    LOCAL.with(|l| {
        let epoch = EPOCH.load(Ordering::SeqCst);
        if l.epoch.replace(epoch) != epoch {
            l.now.set(0);
        }
        l.now.get()
    })
}

/// The thread works for `ns` nanoseconds.
pub fn spend(ns: f64) {
    wait_until(now() + ns.round() as u64);
}

/// The thread waits until `ns`, if that is later than now.
pub fn wait_until(ns: u64) {
    let later = now().max(ns);
    LOCAL.with(|l| l.now.set(later));
    LATEST.fetch_max(later, Ordering::SeqCst);
}

/// Latest host time of all threads.
pub fn latest() -> u64 {
    LATEST.load(Ordering::SeqCst)
}

/// Sets the clocks of all threads to zero.
pub fn reset_clock() {
    EPOCH.fetch_add(1, Ordering::SeqCst);
    LATEST.store(0, Ordering::SeqCst);
}
