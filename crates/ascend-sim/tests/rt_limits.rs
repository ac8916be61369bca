//! Limits of the device, and what the host sees of them: back-pressure, lazy events, streams that graphs hold.
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

mod rt_support;

use std::ptr::null_mut;

use aio_ascend_sim::rt::control::control;
use aio_ascend_sim::rt::report::report;
use aio_ascend_sim::rt::{copy, device, event, graph, malloc, stream, thread, vmm};
use rt_support::*;

#[test]
fn a_device_has_65536_events_and_takes_one_at_the_first_record() {
    let _one = fresh();
    let events: Vec<_> = (0..65_537).map(|_| new_event()).collect();
    let (last, used) = events.split_last().unwrap();
    used.iter().for_each(|&e| ok(event::record_event(e, null_mut())));
    refused(event::record_event(*last, null_mut()), 207_007, "more than 65536 events");
    ok(event::record_event(used[0], null_mut()));
    ok(event::destroy_event(used[0]));
    ok(event::record_event(*last, null_mut()));
    ok(device::reset_device(0));
    ok(device::set_device(0));
    ok(event::record_event(new_event(), null_mut()));
}

#[test]
fn a_full_queue_holds_the_host_until_a_task_has_ended() {
    let _one = fresh();
    control("constant.launch_ns", "100").unwrap();
    control("constant.kernel_floor_ns", "10000").unwrap();
    let (s, d) = (new_stream(), device_memory(4));
    control("reset_clock", "1").unwrap();
    for n in 1..=4u64 {
        (0..2048).for_each(|_| ok(launch(s, add(d, 1, false))));
        let ended = (n - 1) * 2048;
        // A gap of 2 us and a kernel of 10 us for each task that must have ended.
        assert_eq!(thread::now(), (12_000 * ended).max(100 * 2048 * n), "after {n} times the depth");
    }
    ok(stream::synchronize_stream(s));
    assert_eq!(get(d), 4 * 2048);
}

#[test]
fn a_long_capture_continues_on_further_streams_unless_queues_are_software() {
    let _one = fresh();
    for (software, tasks, streams) in [("0", 2013, 1), ("0", 2014, 2), ("0", 4027, 3), ("1", 4027, 0)] {
        reopen();
        control("software_queues", software).unwrap();
        let (s, d) = (new_stream(), device_memory(4));
        ok(begin(s, 0));
        (0..tasks).for_each(|_| ok(launch(s, add(d, 1, false))));
        ok(end(s).0);
        // The default stream and `s` are two; the rest is free.
        let free = 1984 - 2 - streams;
        (0..free).for_each(|_| {
            new_stream();
        });
        refused(with_out!(stream::create_stream: null_mut()), 207_005, "Too many streams");
    }
}

#[test]
fn a_graph_gives_its_streams_back_when_it_is_destroyed() {
    let _one = fresh();
    let s = new_stream();
    let graphs: Vec<_> = (0..1982)
        .map(|_| {
            ok(begin(s, 0));
            let (status, g) = end(s);
            ok(status);
            g
        })
        .collect();
    ok(begin(s, 0));
    refused(end(s).0, 207_005, "Too many streams");
    ok(graph::destroy(graphs[0]));
    ok(begin(s, 0));
    ok(end(s).0);
}

#[test]
fn allocations_are_aligned_and_take_32_bytes_more_than_their_rounded_size() {
    let _one = fresh();
    let used = || report().unwrap().memory;
    let mut before = used();
    for (bytes, taken) in [(1, 64), (32, 64), (33, 96), (4096, 4128)] {
        let d = device_memory(bytes);
        assert_eq!((d as usize % 64, used() - before), (0, taken), "{bytes} bytes");
        before = used();
    }
}

#[test]
fn memory_returns_to_the_device_when_it_is_freed() {
    let _one = fresh();
    control("execute", "0").unwrap();
    let big = device_memory(40 << 30);
    refused(with_out!(malloc::malloc: null_mut(), 40 << 30, 0), 207_001, "out of device memory");
    ok(malloc::free(big));
    ok(malloc::free(device_memory(40 << 30)));
}

#[test]
fn physical_memory_comes_in_granules_of_two_mebibytes() {
    let _one = fresh();
    let property = [0u64; 4];
    for option in [0, 1] {
        let mut granule = 0;
        // SAFETY: a live result; the property is large enough.
        ok(unsafe { vmm::granularity(property.as_ptr().cast(), option, &mut granule) });
        assert_eq!(granule, 2 << 20);
    }
    let before = report().unwrap().memory;
    let mut handle = null_mut();
    // SAFETY: a live result; the property is large enough.
    ok(unsafe { vmm::malloc_physical(&mut handle, 6 << 20, property.as_ptr().cast(), 0) });
    assert_eq!(report().unwrap().memory - before, 6 << 20);
    ok(vmm::free_physical(handle));
    assert_eq!(report().unwrap().memory, before);
}

#[test]
fn a_released_device_keeps_nothing() {
    let _one = fresh();
    let (s, d, mut base, mut part) = (new_stream(), device_memory(4), null_mut(), null_mut());
    let property = [0u64; 4];
    // SAFETY: live results; the property is large enough.
    unsafe {
        ok(vmm::reserve(&mut base, 4 << 20, 0, null_mut(), 0));
        ok(vmm::malloc_physical(&mut part, 2 << 20, property.as_ptr().cast(), 0));
    }
    ok(vmm::map(base, 2 << 20, 0, part, 0));
    ok(copy::memset(base, 4, 1, 4));
    ok(event::record_event(new_event(), s));
    ok(begin(s, 0));
    ok(launch(s, add(d, 1, false)));
    let (status, g) = end(s);
    ok(status);
    ok(begin(s, 0));
    ok(device::reset_device(0));
    let report = report().unwrap();
    let live = report.live;
    assert_eq!((live.streams, live.events, live.graphs, report.memory), (0, 0, 0, 0));
    ok(device::set_device(0));
    refused(copy::memset(base, 4, 1, 4), 107_000, "not device memory");
    refused(vmm::unmap(base), 107_000, "nothing is mapped");
    refused(graph::execute_async(g, null_mut()), 107_017, "not a live graph");
    // The capture that was open does not linger: an unsafe call is allowed again.
    let d = device_memory(4);
    ok(copy::memset(d, 4, 0, 4));
}
