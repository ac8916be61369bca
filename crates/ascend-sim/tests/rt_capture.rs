//! Rules of capture: what is illegal, what invalidates, how streams join, how replays and task groups behave.
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

mod rt_support;

use std::ptr::null_mut;

use aio_ascend_sim::rt::{capture, copy, event, graph, group, stream};
use rt_support::*;

#[test]
fn captured_tasks_run_at_replay_and_only_then() {
    let _one = fresh();
    let (s, at) = (new_stream(), device_memory(4));
    ok(launch(s, add(at, 1, false)));
    ok(begin(s, 0));
    ok(launch(s, add(at, 10, false)));
    ok(launch(s, add(at, 20, false)));
    let (status, g) = end(s);
    ok(status);
    ok(stream::synchronize_stream(s));
    assert_eq!(get(at), 1, "capture itself computes nothing");
    ok(graph::execute_async(g, s));
    ok(graph::execute_async(g, s));
    assert_eq!(get(at), 1, "nothing runs before a synchronise");
    refused(graph::destroy(g), 107_037, "not finished");
    ok(stream::synchronize_stream(s));
    assert_eq!(get(at), 61);
    ok(graph::destroy(g));
    refused(graph::execute_async(g, s), 107_017, "not a live graph");
}

/// Each call is illegal while stream `s` is captured, fails with the code, and invalidates the capture.
#[test]
fn illegal_calls_fail_with_their_code_and_invalidate_the_capture() {
    let _one = fresh();
    type Call = fn([Ptr; 4]) -> i32;
    let cases: &[(&str, i32, [bool; 3], Call)] = &[
        ("synchronise the stream", 107_041, [true; 3], |[s, ..]| stream::synchronize_stream(s)),
        ("synchronise with timeout", 107_041, [true; 3], |[s, ..]| stream::synchronize_stream_with_timeout(s, 5)),
        ("synchronise the device", 107_041, [true; 3], |_| stream::synchronize_device()),
        ("query the stream", 107_041, [true; 3], |[s, ..]| {
            let mut status = 0;
            // SAFETY: a live result.
            unsafe { stream::stream_query(s, &mut status) }
        }),
        ("synchronise an event", 107_041, [true; 3], |[_, e, ..]| event::synchronize_event(e)),
        ("query an event", 107_041, [true; 3], |[_, e, ..]| {
            let mut status = 0;
            // SAFETY: a live result.
            unsafe { event::query_event_status(e, &mut status) }
        }),
        ("memset", 107_030, [true, true, false], |[_, _, d, _]| copy::memset(d, 4, 0, 4)),
        ("memcpy", 107_030, [true, true, false], |[_, _, d, h]| copy_sync(d, 4, h, 4, 1)),
        ("pageable copy", 107_030, [true, true, false], |[s, _, d, _]| {
            let mut host = Box::new(7i32);
            copy_async(d, (&raw mut *host).cast(), 4, 1, s)
        }),
        ("wait for outside work", 107_024, [true; 3], |[s, e, ..]| event::stream_wait_event(s, e)),
    ];
    for (name, code, illegal, call) in cases {
        for mode in 0..3 {
            reopen();
            let (s, e, d, h) = (new_stream(), new_event(), device_memory(4), pinned(4));
            ok(event::record_event(e, null_mut()));
            ok(begin(s, mode));
            let status = call([s, e, d, h]);
            if !illegal[mode as usize] {
                assert_eq!((status, state(s)), (0, 1), "{name} in mode {mode}");
                continue;
            }
            assert_eq!((status, state(s)), (*code, 2), "{name} in mode {mode}");
            refused(launch(s, add(d, 1, false)), 507_903, "invalidated");
            refused(end(s).0, 507_903, "invalidated");
            assert_eq!(state(s), 0);
            ok(stream::synchronize_stream(s));
        }
    }
}

#[test]
fn a_relaxed_thread_may_make_unsafe_calls_while_it_captures() {
    let _one = fresh();
    let (s, d) = (new_stream(), device_memory(4));
    ok(begin(s, 0));
    let mut mode = 2;
    // SAFETY: a live value.
    ok(unsafe { capture::thread_exchange_mode(&mut mode) });
    assert_eq!(mode, 0);
    ok(copy::memset(d, 4, 0, 4));
    // SAFETY: a live value.
    ok(unsafe { capture::thread_exchange_mode(&mut mode) });
    assert_eq!(mode, 2);
    ok(end(s).0);
}

#[test]
fn begin_and_end_refuse_wrong_streams_and_threads() {
    let _one = fresh();
    let (s, other) = (new_stream(), new_stream());
    refused(begin(null_mut(), 0), 107_031, "default stream");
    refused(begin(s, 3), 107_000, "mode");
    refused(end(s).0, 107_029, "not being captured");
    ok(begin(s, 0));
    refused(begin(s, 0), 107_027, "already");
    refused(end(other).0, 107_029, "not being captured");
    refused(stream::destroy_stream(s), 107_027, "captured");
    let address = s as usize;
    let context = aio_ascend_sim::rt::thread::context();
    let elsewhere = std::thread::spawn(move || {
        aio_ascend_sim::rt::thread::set_context(context);
        end(address as Ptr).0
    });
    assert_eq!(elsewhere.join().unwrap(), 107_038);
    ok(end(s).0);
}

#[test]
fn streams_join_by_events_and_must_be_joined_back() {
    let _one = fresh();
    let (s, side, fork, back, at) = (new_stream(), new_stream(), new_event(), new_event(), device_memory(4));
    ok(begin(s, 0));
    ok(event::record_event(fork, s));
    ok(event::stream_wait_event(side, fork));
    ok(launch(side, add(at, 5, false)));
    refused(end(s).0, 107_025, "not joined back");
    ok(begin(s, 0));
    ok(event::record_event(fork, s));
    ok(event::stream_wait_event(side, fork));
    ok(launch(side, add(at, 5, false)));
    refused(end(side).0, 107_036, "another stream");
    ok(event::record_event(back, side));
    ok(event::stream_wait_event(s, back));
    let (status, g) = end(s);
    ok(status);
    ok(graph::execute_async(g, s));
    ok(stream::synchronize_stream(s));
    assert_eq!(get(at), 5);
}

#[test]
fn two_captures_do_not_merge() {
    let _one = fresh();
    let (a, b, e) = (new_stream(), new_stream(), new_event());
    ok(begin(a, 0));
    ok(begin(b, 0));
    ok(event::record_event(e, a));
    refused(event::stream_wait_event(b, e), 107_032, "another capture");
    assert_eq!((state(a), state(b)), (1, 2));
}

/// A graph of one updatable task behind an external event, as attention in a decode step.
fn patched(s: Ptr, ready: Ptr, at: Ptr) -> (Ptr, Ptr) {
    let mut handle = null_mut();
    ok(begin(s, 0));
    ok(event::stream_wait_event(s, ready));
    ok(event::reset_event(ready, s));
    ok(group::group_begin(s));
    ok(launch(s, add(at, 1, true)));
    // SAFETY: a live result.
    ok(unsafe { group::group_end(s, &mut handle) });
    let (status, g) = end(s);
    ok(status);
    (g, handle)
}

#[test]
fn a_task_group_is_updated_before_each_replay() {
    let _one = fresh();
    let (s, upd, ready, at) = (new_stream(), new_stream(), external_event(), device_memory(4));
    let (g, grp) = patched(s, ready, at);
    for value in [10, 300] {
        ok(graph::execute_async(g, s));
        ok(group::update_begin(upd, grp));
        ok(launch(upd, add(at, value, true)));
        ok(group::update_end(upd));
        ok(event::record_event(ready, upd));
        ok(stream::synchronize_stream(s));
    }
    assert_eq!(get(at), 310);
    assert_eq!(counters().updates, 2);
}

#[test]
fn a_replay_whose_event_never_comes_is_an_error_not_a_hang() {
    let _one = fresh();
    let (s, ready, at) = (new_stream(), external_event(), device_memory(4));
    let (g, _) = patched(s, ready, at);
    ok(graph::execute_async(g, s));
    refused(stream::synchronize_stream(s), 507_046, "event wait");
}

#[test]
fn task_groups_refuse_what_they_cannot_hold() {
    let _one = fresh();
    let (s, upd, ready, at) = (new_stream(), new_stream(), external_event(), device_memory(4));
    refused(group::group_begin(s), 107_029, "not being captured");
    let mut none = null_mut();
    let mut close = || {
        // SAFETY: a live result.
        unsafe { group::group_end(s, &mut none) }
    };
    ok(begin(s, 0));
    refused(close(), 107_033, "no task group");
    ok(group::group_begin(s));
    refused(group::group_begin(s), 107_033, "open already");
    refused(close(), 107_033, "needs tasks");
    refused(launch(s, add(at, 1, false)), 107_034, "add");
    assert_eq!((state(s), end(s).0), (2, 507_903));
    let (_, grp) = patched(s, ready, at);
    refused(group::update_end(upd), 107_033, "no update");
    refused(group::update_begin(upd, null_mut()), 107_017, "not live");
    ok(group::update_begin(upd, grp));
    refused(group::update_begin(s, grp), 107_033, "updated already");
    refused(stream::synchronize_stream(upd), 107_033, "between begin and end");
    refused(event::record_event(ready, upd), 107_034, "event record");
    refused(group::update_end(upd), 107_040, "the group has");
}
