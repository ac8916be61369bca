//! A table of the runtime's rules for streams, events, captures and graphs: what is refused, with which code, and what the
//! message names.
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

mod rt_support;

use std::ptr::null_mut;

use aio_ascend_sim::rt::control::control;
use aio_ascend_sim::rt::{device, event, graph, group, malloc, stream};
use rt_support::*;

/// `aclrtEventGetTimestamp` with its result first, as the other calls have it.
unsafe fn timestamp(to: &mut u64, of: Ptr) -> i32 {
    // SAFETY: a live result.
    unsafe { event::event_get_timestamp(of, to) }
}

const STREAMS: &[Rule] = &[
    ("unknown flags", 107_000, "flags 0x10", || with_out!(stream::create_stream_with_config: null_mut(), 0, 0x10)),
    ("an unknown priority", 107_000, "priority 8", || with_out!(stream::create_stream_with_config: null_mut(), 8, 0)),
    ("use after destruction", 107_017, "not a live stream", || {
        let s = new_stream();
        ok(stream::destroy_stream(s));
        launch(s, add(device_memory(4), 1, false))
    }),
    ("double destruction", 107_017, "not a live stream", || {
        let s = new_stream();
        ok(stream::destroy_stream(s));
        stream::destroy_stream(s)
    }),
    ("another context's stream", 107_003, "current context", || {
        let s = new_stream();
        ok(with_out!(device::create_context: null_mut(), 0));
        launch(s, add(device_memory(4), 1, false))
    }),
    ("a timeout of nothing", 100_000, "got 0", || stream::synchronize_stream_with_timeout(new_stream(), 0)),
    ("a timeout that modelled time passes", 507_046, "modelled time", || {
        control("constant.kernel_floor_ns", "2e6").unwrap();
        let s = new_stream();
        ok(launch(s, add(device_memory(4), 1, false)));
        stream::synchronize_stream_with_timeout(s, 1)
    }),
    ("a device timeout that modelled time passes", 507_046, "modelled time", || {
        control("constant.kernel_floor_ns", "2e6").unwrap();
        ok(launch(new_stream(), add(device_memory(4), 1, false)));
        stream::synchronize_device_with_timeout(1)
    }),
    ("an unknown failure mode", 107_000, "mode 2", || stream::set_stream_failure_mode(new_stream(), 2)),
    ("a host function of null", 100_000, "fn is null", || stream::launch_host_func(new_stream(), None, null_mut())),
    ("a kernel that fails", 507_015, "as asked for", || {
        control("fail_task", "1").unwrap();
        ok(launch(null_mut(), add(device_memory(4), 1, false)));
        stream::synchronize_device()
    }),
    ("a kernel on freed memory", 507_015, "use after free", || {
        let d = device_memory(4);
        ok(launch(null_mut(), add(d, 1, false)));
        ok(malloc::free(d));
        stream::synchronize_stream(null_mut())
    }),
    ("a kernel that panics", 507_015, "panicked", || {
        let mut task = add(null_mut(), 1, false);
        task.run = std::sync::Arc::new(|| std::panic::resume_unwind(Box::new("in a test")));
        ok(launch(null_mut(), task));
        stream::synchronize_stream(null_mut())
    }),
    ("work for a stream that has stopped", 507_015, "as asked for", || {
        let (s, d, h) = (new_stream(), device_memory(4), pinned(4));
        ok(stream::set_stream_failure_mode(s, 1));
        control("fail_task", "1").unwrap();
        ok(launch(s, add(d, 1, false)));
        refused(stream::synchronize_stream(s), 507_015, "as asked for");
        copy_async(d, h, 4, 1, s)
    }),
    ("a full queue that cannot drain", 507_002, "queue is full", || {
        let (s, d) = (new_stream(), device_memory(4));
        ok(event::stream_wait_event(s, new_event()));
        (1..2048).for_each(|_| ok(launch(s, add(d, 1, false))));
        launch(s, add(d, 1, false))
    }),
    ("a wait that nothing completes", 507_046, "event wait", || {
        let s = new_stream();
        ok(event::stream_wait_event(s, new_event()));
        stream::synchronize_stream(s)
    }),
    ("a lost device", 507_010, "lost", || {
        let s = new_stream();
        control("lose_device", "1").unwrap();
        launch(s, add(8 as Ptr, 1, false))
    }),
];

#[test]
fn streams_and_failures() {
    check(STREAMS);
}

const EVENTS: &[Rule] = &[
    ("unknown flags", 107_000, "flags 0x4", || with_out!(event::create_event_with_flag: null_mut(), 4)),
    ("use after destruction", 107_017, "not a live event", || {
        let e = new_event();
        ok(event::destroy_event(e));
        event::record_event(e, null_mut())
    }),
    ("the time of an event without timing", 107_006, "flag for timing", || {
        let mut e = null_mut();
        // SAFETY: a live result.
        ok(unsafe { event::create_event_with_flag(&mut e, 1) });
        ok(event::record_event(e, null_mut()));
        ok(event::synchronize_event(e));
        with_out!(timestamp: 0, e)
    }),
    (
        "the time of an event that was not recorded",
        107_006,
        "not been recorded",
        || with_out!(timestamp: 0, new_event()),
    ),
    ("elapsed time backwards", 107_007, "earlier", || {
        let (first, last) = (new_event(), new_event());
        ok(event::record_event(first, null_mut()));
        ok(launch(null_mut(), add(device_memory(4), 1, false)));
        ok(event::record_event(last, null_mut()));
        ok(event::synchronize_event(last));
        let mut ms = 0f32;
        // SAFETY: a live result.
        unsafe { event::event_elapsed_time(&mut ms, last, first) }
    }),
    ("a timeout of less than -1", 100_000, "got -2", || event::synchronize_event_with_timeout(new_event(), -2)),
    ("a timeout that modelled time passes", 107_019, "modelled time", || {
        control("constant.kernel_floor_ns", "2e6").unwrap();
        let e = new_event();
        ok(launch(null_mut(), add(device_memory(4), 1, false)));
        ok(event::record_event(e, null_mut()));
        event::synchronize_event_with_timeout(e, 1)
    }),
    ("an event whose stream was destroyed by force", 107_019, "destroyed", || {
        let (s, e) = (new_stream(), new_event());
        ok(event::record_event(e, s));
        ok(stream::destroy_stream_force(s));
        event::synchronize_event(e)
    }),
];

#[test]
fn events_and_times() {
    check(EVENTS);
}

/// Begins a capture in a mode and gives its stream.
fn capturing(mode: i32) -> Ptr {
    let s = new_stream();
    ok(begin(s, mode));
    s
}

fn grouped(s: Ptr, d: Ptr) -> Ptr {
    let mut handle = null_mut();
    ok(group::group_begin(s));
    ok(launch(s, add(d, 1, true)));
    // SAFETY: a live result.
    ok(unsafe { group::group_end(s, &mut handle) });
    handle
}

const CAPTURES_AND_GRAPHS: &[Rule] = &[
    ("capture of the default stream", 107_031, "default stream", || begin(null_mut(), 0)),
    ("an unknown mode", 107_000, "mode 3", || begin(new_stream(), 3)),
    ("a capture inside a capture", 107_027, "already", || begin(capturing(0), 0)),
    ("an end without a begin", 107_029, "not being captured", || end(new_stream()).0),
    ("a capture cannot take in the default stream", 107_031, "default stream", || {
        let (s, e) = (capturing(0), new_event());
        ok(event::record_event(e, s));
        let status = event::stream_wait_event(null_mut(), e);
        assert_eq!(state(s), 2, "the capture is invalid");
        status
    }),
    ("an unknown thread mode", 107_000, "mode -1", || {
        let mut mode = -1;
        // SAFETY: a live value.
        unsafe { aio_ascend_sim::rt::capture::thread_exchange_mode(&mut mode) }
    }),
    ("destroying an event of a capture", 107_028, "active capture", || {
        let (s, e) = (capturing(0), new_event());
        ok(event::record_event(e, s));
        event::destroy_event(e)
    }),
    ("synchronising an event of a capture", 107_028, "not permitted", || {
        let (s, e) = (capturing(2), new_event());
        ok(event::record_event(e, s));
        event::synchronize_event(e)
    }),
    ("replay of a graph that is being captured", 107_026, "still being captured", || {
        let (s, mut status, mut handle) = (capturing(0), 0, null_mut());
        // SAFETY: live results.
        ok(unsafe { aio_ascend_sim::rt::capture::capture_get_info(s, &mut status, &mut handle) });
        graph::execute_async(handle, null_mut())
    }),
    ("replay inside a capture", 207_000, "cannot be replayed into a capture", || {
        let s = capturing(0);
        let (status, g) = end(s);
        ok(status);
        ok(begin(s, 0));
        let status = graph::execute_async(g, s);
        assert_eq!(state(s), 2, "the capture is invalid");
        status
    }),
    ("destruction of a graph that runs", 107_037, "not finished", || {
        let s = capturing(0);
        ok(launch(s, add(device_memory(4), 1, false)));
        let (status, g) = end(s);
        ok(status);
        ok(graph::execute_async(g, s));
        graph::destroy(g)
    }),
    ("replay after destruction", 107_017, "not a live graph", || {
        let (status, g) = end(capturing(0));
        ok(status);
        ok(graph::destroy(g));
        graph::execute_async(g, null_mut())
    }),
    ("a task of a replay fails", 507_011, "in the replay of a graph, task add", || {
        let (s, d) = (capturing(0), device_memory(4));
        (0..3).for_each(|_| ok(launch(s, add(d, 1, false))));
        let (status, g) = end(s);
        ok(status);
        control("fail_replay_task", "2").unwrap();
        ok(launch(s, add(d, 10, false)));
        ok(graph::execute_async(g, s));
        let status = stream::synchronize_stream(s);
        assert_eq!(get(d), 11, "the failure ended the replay after its first task, and single launches do not count");
        status
    }),
    ("a replay after the destruction of its event", 507_011, "whose event was destroyed", || {
        let (s, e, d) = (new_stream(), external_event(), device_memory(4));
        ok(begin(s, 0));
        ok(event::stream_wait_event(s, e));
        ok(launch(s, add(d, 1, false)));
        let (status, g) = end(s);
        ok(status);
        ok(event::destroy_event(e));
        ok(graph::execute_async(g, s));
        let status = stream::synchronize_stream(s);
        assert_eq!(get(d), 0, "nothing ran past the event");
        status
    }),
    ("a replay on freed memory", 507_011, "use after free", || {
        let (s, d) = (capturing(0), device_memory(4));
        ok(launch(s, add(d, 1, false)));
        let (status, g) = end(s);
        ok(status);
        ok(malloc::free(d));
        ok(graph::execute_async(g, s));
        stream::synchronize_stream(s)
    }),
    ("an end inside a task group", 107_033, "inside a task group", || {
        let s = capturing(0);
        ok(group::group_begin(s));
        end(s).0
    }),
    ("a copy in a task group", 107_034, "a copy cannot be part", || {
        let (s, d, h) = (capturing(0), device_memory(4), pinned(4));
        ok(group::group_begin(s));
        copy_async(d, h, 4, 1, s)
    }),
    ("an update before the capture has ended", 107_033, "still being captured", || {
        let s = capturing(0);
        let g = grouped(s, device_memory(4));
        group::update_begin(new_stream(), g)
    }),
    ("an update on a captured stream", 107_027, "captured stream", || {
        let s = capturing(0);
        let g = grouped(s, device_memory(4));
        ok(end(s).0);
        group::update_begin(capturing(0), g)
    }),
    ("an update with too few tasks", 107_040, "the group has", || {
        let s = capturing(0);
        let g = grouped(s, device_memory(4));
        ok(end(s).0);
        ok(group::update_begin(s, g));
        group::update_end(s)
    }),
    ("the graph of an update is destroyed meanwhile", 107_017, "destroyed", || {
        let (s, d) = (capturing(0), device_memory(4));
        let g = grouped(s, d);
        let (status, graph) = end(s);
        ok(status);
        ok(group::update_begin(s, g));
        ok(launch(s, add(d, 1, true)));
        ok(graph::destroy(graph));
        group::update_end(s)
    }),
    ("a graph with more streams than are free", 207_005, "the graph needs 1 more", || {
        (0..1982).for_each(|_| {
            new_stream();
        });
        end(capturing(0)).0
    }),
];

#[test]
fn captures_graphs_and_task_groups() {
    check(CAPTURES_AND_GRAPHS);
}
