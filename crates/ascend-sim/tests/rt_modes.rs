//! What several threads see of a capture, host functions, the asking for states, copies of rows, and messages by thread.
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

mod rt_support;

use std::ffi::{CStr, c_void};
use std::ptr::null_mut;

use aio_ascend_sim::rt::control::control;
use aio_ascend_sim::rt::{capture, control as controls, copy, device, event, graph, malloc, stream, thread};
use rt_support::*;

/// Runs a call in a second thread of the same context and capture mode.
fn second(mode: i32, call: impl FnOnce() -> i32 + Send) -> i32 {
    let context = thread::context();
    let run = || {
        ok(device::set_current_context(context as Ptr));
        let mut mode = mode;
        // SAFETY: a live value.
        ok(unsafe { capture::thread_exchange_mode(&mut mode) });
        call()
    };
    std::thread::scope(|scope| scope.spawn(run).join().unwrap())
}

/// Unsafe calls of a thread that does not capture, by the mode of the capture and of the thread.
#[test]
fn another_threads_unsafe_calls_break_only_a_global_capture() {
    let _one = fresh();
    for capture_mode in 0..3 {
        for thread_mode in 0..3 {
            reopen();
            let (s, d) = (new_stream(), device_memory(4) as usize);
            ok(begin(s, capture_mode));
            let status = second(thread_mode, move || copy::memset(d as Ptr, 4, 0, 4));
            let breaks = capture_mode == 0 && thread_mode == 0;
            let want = if breaks { (107_030, 2) } else { (0, 1) };
            assert_eq!((status, state(s)), want, "capture in mode {capture_mode}, thread in mode {thread_mode}");
        }
    }
}

/// The thread that captures is bound by its capture unless one of the two is relaxed.
#[test]
fn a_threads_own_unsafe_calls_need_a_relaxed_mode() {
    let _one = fresh();
    for capture_mode in 0..3 {
        for thread_mode in 0..3 {
            reopen();
            let (status, after) = std::thread::scope(|scope| {
                let run = || {
                    ok(device::set_device(0));
                    let (s, d, mut mode) = (new_stream(), device_memory(4), thread_mode);
                    ok(begin(s, capture_mode));
                    // SAFETY: a live value.
                    ok(unsafe { capture::thread_exchange_mode(&mut mode) });
                    (copy::memset(d, 4, 0, 4), state(s))
                };
                scope.spawn(run).join().unwrap()
            });
            let allowed = capture_mode == 2 || thread_mode == 2;
            let want = if allowed { (0, 1) } else { (107_030, 2) };
            assert_eq!((status, after), want, "capture in mode {capture_mode}, thread in mode {thread_mode}");
        }
    }
}

#[test]
fn another_thread_may_synchronise_its_own_stream_unless_the_capture_is_global() {
    let _one = fresh();
    for (mode, want) in [(0, (107_041, 2)), (1, (0, 1)), (2, (0, 1))] {
        reopen();
        let (s, other) = (new_stream(), new_stream() as usize);
        ok(begin(s, mode));
        let status = second(0, move || stream::synchronize_stream(other as Ptr));
        assert_eq!((status, state(s)), want, "mode {mode}");
        // The captured stream itself is closed to every thread.
        let captured = s as usize;
        assert_eq!(second(2, move || stream::synchronize_stream(captured as Ptr)), 107_041);
    }
}

#[test]
fn a_relaxed_capture_may_end_in_another_thread() {
    let _one = fresh();
    for (mode, want) in [(0, 107_038), (1, 107_038), (2, 0)] {
        reopen();
        let s = new_stream() as usize;
        ok(begin(s as Ptr, mode));
        assert_eq!(second(0, move || end(s as Ptr).0), want, "mode {mode}");
        assert_eq!(state(s as Ptr), i32::from(want != 0));
    }
}

unsafe extern "C" fn double(at: *mut c_void) {
    let value = get(at);
    set(at, 2 * value);
}

#[test]
fn host_functions_run_in_order_also_in_replays() {
    let _one = fresh();
    let (s, h) = (new_stream(), pinned(4));
    set(h, 1);
    ok(launch(s, add_host(h, 4)));
    ok(stream::launch_host_func(s, Some(double), h));
    ok(launch(s, add_host(h, 1)));
    assert_eq!(get(h), 1, "nothing ran yet");
    ok(stream::synchronize_stream(s));
    assert_eq!(get(h), 11);
    ok(begin(s, 0));
    ok(stream::launch_host_func(s, Some(double), h));
    let (status, g) = end(s);
    ok(status);
    assert_eq!(get(h), 11, "the capture ran nothing");
    (0..2).for_each(|_| ok(graph::execute_async(g, s)));
    ok(stream::synchronize_stream(s));
    assert_eq!(get(h), 44);
}

/// A task that adds to pinned memory, as a kernel could not; it shows the order.
fn add_host(at: Ptr, value: i32) -> aio_ascend_sim::task::Task {
    let at = at as usize;
    let mut task = add(null_mut(), 0, false);
    task.run = std::sync::Arc::new(move || {
        set(at as Ptr, get(at as Ptr) + value);
        Ok(())
    });
    task
}

#[test]
fn states_follow_the_modelled_clock() {
    let _one = fresh();
    let (s, e, d) = (new_stream(), new_event(), device_memory(4));
    control("constant.kernel_floor_ns", "1e6").unwrap();
    ok(launch(s, add(d, 1, false)));
    ok(event::record_event(e, s));
    let states = || {
        let (mut of_stream, mut of_event) = (-1, -1);
        // SAFETY: live results.
        unsafe {
            ok(stream::stream_query(s, &mut of_stream));
            ok(event::query_event_status(e, &mut of_event));
        }
        (of_stream, of_event)
    };
    assert_eq!(states(), (1, 0), "1 ms of device time has not passed on the host");
    ok(event::synchronize_event(e));
    assert_eq!(states(), (0, 1));
    assert_eq!(get(d), 1);
}

#[test]
fn an_event_completes_again_after_a_reset_and_a_record() {
    let _one = fresh();
    let (a, b, e, d) = (new_stream(), new_stream(), new_event(), device_memory(4));
    ok(event::record_event(e, a));
    ok(event::reset_event(e, a));
    // Reset: this wait is for the next record, which comes later.
    ok(event::stream_wait_event(b, e));
    ok(launch(b, add(d, 10, false)));
    refused(stream::synchronize_stream(b), 507_046, "event wait");
    ok(event::record_event(e, a));
    ok(stream::synchronize_stream(b));
    assert_eq!(get(d), 10);
}

#[test]
fn rows_are_copied_with_their_pitches() {
    let _one = fresh();
    let (d, h) = (device_memory(24), pinned(12));
    let fill = |at: Ptr, n: i32| (0..n).for_each(|i| set((at as usize + 4 * i as usize) as Ptr, 100 + i));
    fill(h, 3);
    let read = |at: Ptr, n: usize| (0..n).map(|i| get((at as usize + 4 * i) as Ptr)).collect::<Vec<_>>();
    // SAFETY: three rows of 4 bytes, 8 apart on the device.
    ok(unsafe { copy::memcpy_2d(d, 8, h, 4, 4, 3, 1) });
    assert_eq!(read(d, 6), [100, 0, 101, 0, 102, 0]);
    let (s, back) = (new_stream(), pinned(24));
    // SAFETY: three rows of 4 bytes, 8 apart on both sides.
    ok(unsafe { copy::memcpy_2d_async(back, 8, d, 8, 4, 3, 2, s) });
    assert_eq!(read(back, 6), [0; 6], "pinned memory: the copy waits for its turn");
    ok(stream::synchronize_stream(s));
    assert_eq!(read(back, 6), [100, 0, 101, 0, 102, 0]);
}

#[test]
fn registered_memory_counts_as_pinned() {
    let _one = fresh();
    let (mut host, mut seen) = (vec![7i32; 4], null_mut());
    let (at, d, s) = (host.as_mut_ptr().cast::<c_void>(), device_memory(16), new_stream());
    // SAFETY: the vector outlives its registration.
    ok(unsafe { malloc::host_register(at, 16, 0, &mut seen) });
    assert_eq!(seen, at);
    ok(begin(s, 0));
    ok(copy_async(d, at, 16, 1, s));
    let (status, g) = end(s);
    ok(status);
    set(at, 9);
    ok(graph::execute_async(g, s));
    ok(stream::synchronize_stream(s));
    assert_eq!(get(d), 9, "the copy reads at replay");
    ok(malloc::host_unregister(at));
    refused(
        {
            ok(begin(s, 0));
            copy_async(d, at, 16, 1, s)
        },
        107_030,
        "pageable",
    );
}

#[test]
fn each_thread_has_its_own_message() {
    let _one = fresh();
    let text = || {
        let at = controls::recent_err_msg();
        // SAFETY: null, or a text of this thread.
        (!at.is_null()).then(|| unsafe { CStr::from_ptr(at) }.to_string_lossy().into_owned())
    };
    refused(malloc::free(null_mut()), 100_000, "is null");
    let first = text();
    assert_eq!(first.as_deref(), Some("EH0002: devPtr is null"));
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let before = text();
            device::set_device(99);
            (before, text())
        });
        let (before, after) = other.join().unwrap();
        assert_eq!(before, None);
        assert!(after.unwrap().contains("device 99"));
    });
    assert_eq!(text(), first);
}

/// Each thread has a stream and a number; all take part in one further number, in the order that events give.
#[test]
fn threads_work_on_their_own_streams_at_once() {
    let _one = fresh();
    let (streams, events) = ([(); 4].map(|()| new_stream() as usize), [(); 4].map(|()| new_event() as usize));
    let (own, shared) = ([(); 4].map(|()| device_memory(4) as usize), device_memory(4) as usize);
    let work = |i: usize| {
        let s = streams[i] as Ptr;
        (0..500).for_each(|_| ok(launch(s, add(own[i] as Ptr, 1, false))));
        if let Some(before) = i.checked_sub(1) {
            ok(event::stream_wait_event(s, events[before] as Ptr));
        }
        ok(launch(s, add(shared as Ptr, 10i32.pow(i as u32), false)));
        ok(event::record_event(events[i] as Ptr, s));
        stream::synchronize_stream(s)
    };
    let statuses = std::thread::scope(|scope| {
        let start = |i: usize| {
            let context = thread::context();
            scope.spawn(move || {
                ok(device::set_current_context(context as Ptr));
                work(i)
            })
        };
        let threads: Vec<_> = (0..4).map(start).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(statuses, [0; 4]);
    assert_eq!(own.map(|at| get(at as Ptr)), [500; 4]);
    assert_eq!(get(shared as Ptr), 1 + 10 + 100 + 1000);
    assert_eq!(counters().tasks, 4 * 501);
}
