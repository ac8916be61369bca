//! A fresh simulated device for each test of the runtime, and short forms of its calls.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aio_ascend_sim::rt::{block, capture, control, copy, device, event, graph, malloc, report, stream};
use aio_ascend_sim::task::{Access, Cost, Fault, Task, last_message};

pub type Ptr = *mut c_void;

static ONE: Mutex<()> = Mutex::new(());

/// Opens the device; the runtime is one per process, so tests take turns.
pub fn fresh() -> MutexGuard<'static, ()> {
    let lock = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    reopen();
    lock
}

/// Opens the device anew inside a test. The test keeps its turn: a thread that has used the runtime and waits for a turn
/// would look to another test like one that may still submit work.
pub fn reopen() {
    device::acl_finalize();
    let defaults = [
        ("device", "910B3"),
        ("host", "native"),
        ("devices", "1"),
        ("execute", "1"),
        ("software_queues", "0"),
        ("trace", "0"),
        ("fail_malloc", "0"),
        ("fail_task", "0"),
        ("fail_replay_task", "0"),
        ("lose_device", "0"),
        ("reset_clock", "1"),
    ];
    defaults.iter().for_each(|(key, value)| control::control(key, value).unwrap());
    ok(device::acl_init(std::ptr::null()));
    ok(device::set_device(0));
}

/// The call must succeed.
#[track_caller]
pub fn ok(status: i32) {
    assert_eq!(status, 0, "{}", last_message());
}

/// The call must be refused with this status and a message that contains `text`.
#[track_caller]
pub fn refused(status: i32, code: i32, text: &str) {
    assert_eq!(status, code, "{}", last_message());
    assert!(last_message().contains(text), "{:?} lacks {text:?}", last_message());
}

macro_rules! make {
    ($($name:ident: $call:expr;)*) => {$(
        #[track_caller]
        pub fn $name() -> Ptr {
            let mut handle = null_mut();
            // SAFETY: a live result.
            ok(unsafe { $call(&mut handle) });
            handle
        }
    )*};
}

make! {
    new_stream: stream::create_stream;
    new_event: event::create_event;
    external_event: |to| event::create_event_with_flag(to, 0x20);
}

#[track_caller]
pub fn device_memory(bytes: usize) -> Ptr {
    let mut at = null_mut();
    // SAFETY: a live result.
    ok(unsafe { malloc::malloc(&mut at, bytes, 0) });
    at
}

#[track_caller]
pub fn pinned(bytes: usize) -> Ptr {
    let mut at = null_mut();
    // SAFETY: a live result.
    ok(unsafe { malloc::malloc_host(&mut at, bytes) });
    at
}

pub fn get(at: Ptr) -> i32 {
    // SAFETY: tests pass live simulated memory, which is host memory.
    unsafe { at.cast::<i32>().read() }
}

pub fn set(at: Ptr, value: i32) {
    // SAFETY: as for reading.
    unsafe { at.cast::<i32>().write(value) }
}

/// A kernel that adds `value` to the number at an address.
pub fn add(at: Ptr, value: i32, updatable: bool) -> Task {
    let at = at as usize;
    let run = Arc::new(move || {
        block::check_range(at, 4, Access::Write).map_err(|e| Fault { code: 507_015, message: e.message })?;
        set(at as Ptr, get(at as Ptr) + value);
        Ok(())
    });
    Task { cost: Cost { name: "add", read: 4, write: 4, ..Cost::default() }, run, updatable }
}

/// Submits a kernel; gives the status as an operator would.
pub fn launch(stream: Ptr, task: Task) -> i32 {
    aio_ascend_sim::rt::code::guard(|| aio_ascend_sim::rt::submit::enqueue(stream as usize, vec![task]))
}

pub fn begin(stream: Ptr, mode: i32) -> i32 {
    capture::capture_begin(stream, mode)
}

pub fn end(stream: Ptr) -> (i32, Ptr) {
    let mut handle = null_mut();
    // SAFETY: a live result.
    let status = unsafe { graph::capture_end(stream, &mut handle) };
    (status, handle)
}

/// State of the stream's capture: 0 none, 1 active, 2 invalidated.
pub fn state(of: Ptr) -> i32 {
    let (mut state, mut handle) = (-1, null_mut());
    // SAFETY: live results.
    ok(unsafe { capture::capture_get_info(of, &mut state, &mut handle) });
    state
}

pub fn copy_async(dst: Ptr, src: Ptr, bytes: usize, kind: i32, stream: Ptr) -> i32 {
    // SAFETY: tests pass memory of that size.
    unsafe { copy::memcpy_async(dst, bytes, src, bytes, kind, stream) }
}

pub fn copy_sync(dst: Ptr, max: usize, src: Ptr, bytes: usize, kind: i32) -> i32 {
    // SAFETY: tests pass memory of that size.
    unsafe { copy::memcpy(dst, max, src, bytes, kind) }
}

pub fn counters() -> aio_ascend_sim::rt::state::Counters {
    report::report().unwrap().counters
}

/// A rule: its name, the documented code, what the message contains, and a call that breaks it on a fresh device.
pub type Rule = (&'static str, i32, &'static str, fn() -> i32);

pub fn check(rules: &[Rule]) {
    let _one = fresh();
    for (name, code, text, call) in rules {
        reopen();
        let status = call();
        let message = last_message();
        assert_eq!(status, *code, "{name}: {message}");
        assert!(message.contains(text), "{name}: {message:?} lacks {text:?}");
    }
}

/// Calls a function with a new, live result.
#[macro_export]
macro_rules! with_out {
    ($call:path: $t:expr $(, $arg:expr)*) => {{
        let mut to = $t;
        #[allow(clippy::macro_metavars_in_unsafe, reason = "the arguments are handles and numbers")]
        // SAFETY: a live result.
        let status = unsafe { $call(&mut to $(, $arg)*) };
        status
    }};
}

/// Runs a call in a thread that has not set a device.
#[track_caller]
pub fn elsewhere(call: impl FnOnce() -> i32 + Send) -> i32 {
    let (status, text) = std::thread::scope(|scope| scope.spawn(|| (call(), last_message())).join().unwrap());
    aio_ascend_sim::task::record(&aio_ascend_sim::task::Error { code: status, message: text });
    status
}
