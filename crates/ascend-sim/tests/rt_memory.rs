//! Rules of devices, memory, copies, streams, events and failures, and the modelled clock.
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

mod rt_support;

use std::ptr::{null, null_mut};

use aio_ascend_sim::rt::control::control;
use aio_ascend_sim::rt::report::{report, take_trace};
use aio_ascend_sim::rt::{copy, device, event, malloc, stream, thread, vmm};
use rt_support::*;

#[test]
fn init_and_finalize_pair() {
    let _one = fresh();
    refused(device::acl_init(null()), 100_002, "already");
    ok(device::acl_finalize());
    refused(device::acl_finalize(), 100_037, "again");
    refused(device::set_device(0), 100_001, "aclInit");
}

#[test]
fn devices_and_contexts_are_checked() {
    let _one = fresh();
    refused(device::set_device(1), 107_001, "does not exist");
    refused(device::set_current_context(0x123 as Ptr), 107_017, "not a live context");
    let of_first = new_stream();
    let mut context = null_mut();
    // SAFETY: a live result.
    ok(unsafe { device::create_context(&mut context, 0) });
    refused(stream::synchronize_stream(of_first), 107_003, "current context");
    ok(device::destroy_context(context));
    refused(stream::synchronize_stream(of_first), 107_002, "no current context");
    refused(stream::synchronize_stream(0x55 as Ptr), 107_002, "no current context");
}

#[test]
fn allocations_are_rounded_and_bounded_by_the_device() {
    let _one = fresh();
    control("device", "910B4").unwrap();
    let (mut free, mut total, mut at) = (0, 0, null_mut());
    let a = device_memory(33);
    // SAFETY: live results.
    ok(unsafe { malloc::get_mem_info(1, &mut free, &mut total) });
    assert_eq!((total, total - free), (32 << 30, 96), "33 bytes take 64 and 32 more");
    // SAFETY: a live result.
    refused(unsafe { malloc::malloc(&mut at, 33 << 30, 0) }, 207_001, "out of device memory");
    // SAFETY: a live result.
    refused(unsafe { malloc::malloc(&mut at, 0, 0) }, 100_000, "size is 0");
    // SAFETY: a live result.
    refused(unsafe { malloc::malloc(&mut at, 4, 9) }, 107_018, "policy");
    ok(malloc::free(a));
    refused(malloc::free(a), 107_000, "freed already");
    refused(malloc::free(0x40 as Ptr), 107_000, "not the start");
}

#[test]
fn copies_check_sizes_sides_and_lifetime() {
    let _one = fresh();
    let (d, h, s) = (device_memory(8), pinned(8), new_stream());
    refused(copy_sync(d, 4, h, 8, 1), 107_000, "destMax");
    refused(copy_sync(d, 16, h, 16, 1), 107_000, "past the end");
    refused(copy_sync(h, 8, d, 8, 1), 107_000, "not device memory");
    refused(copy_sync(d, 8, d, 8, 1), 107_000, "says host");
    refused(copy_sync(d, 8, h, 8, 9), 100_000, "kind");
    refused(copy_async(h, h, 8, 0, s), 207_000, "host to host");
    ok(copy_async(d, h, 8, 1, s));
    ok(malloc::free(d));
    refused(stream::synchronize_stream(s), 507_053, "use after free");
    refused(copy::memset(d, 8, 0, 8), 107_000, "use after free");
    ok(stream::synchronize_stream(s));
}

#[test]
fn only_pinned_memory_is_copied_asynchronously() {
    let _one = fresh();
    let (d, h, s) = (device_memory(4), pinned(4), new_stream());
    set(h, 7);
    ok(copy_async(d, h, 4, 1, s));
    set(h, 8);
    ok(stream::synchronize_stream(s));
    assert_eq!(get(d), 8, "the copy read when the stream reached it");
    let mut pageable = Box::new(9);
    ok(copy_async(d, (&raw mut *pageable).cast(), 4, 1, s));
    *pageable = 10;
    assert_eq!(get(d), 9, "the copy was finished when the call returned");
}

#[test]
fn mapped_memory_is_usable_as_one_range_until_it_is_unmapped() {
    let _one = fresh();
    let size = 2 << 20;
    let (mut base, mut parts) = (null_mut(), [null_mut(); 2]);
    let property = [0u64; 4];
    // SAFETY: live results; the property is large enough.
    unsafe {
        ok(vmm::reserve(&mut base, 4 * size, 0, null_mut(), 0));
        for (i, part) in parts.iter_mut().enumerate() {
            ok(vmm::malloc_physical(part, size, property.as_ptr().cast(), 0));
            ok(vmm::map((base as usize + i * size) as Ptr, size, 0, *part, 0));
        }
    }
    let across = (base as usize + size - 8) as Ptr;
    ok(copy::memset(across, 16, 1, 16));
    refused(copy::memset(across, 2 * size, 1, 2 * size), 107_000, "past the end");
    refused(vmm::release(base), 107_000, "still has memory mapped");
    refused(vmm::free_physical(parts[0]), 107_000, "still mapped");
    ok(vmm::unmap(base));
    refused(copy::memset(across, 16, 1, 16), 107_000, "not device memory");
    ok(vmm::map((base as usize + 2 * size) as Ptr, size, 0, parts[0], 0));
    assert_eq!(get((base as usize + 3 * size - 4) as Ptr), 0x0101_0101, "the content moved along");
    for (at, part) in [(2 * size, parts[0]), (size, parts[1])] {
        ok(vmm::unmap((base as usize + at) as Ptr));
        ok(vmm::free_physical(part));
    }
    ok(vmm::release(base));
}

#[test]
fn streams_and_events_end_at_the_limits() {
    let _one = fresh();
    let streams: Vec<_> = (0..1983).map(|_| new_stream()).collect();
    let mut none = null_mut();
    // SAFETY: a live result.
    refused(unsafe { stream::create_stream(&mut none) }, 207_005, "Too many streams");
    ok(stream::destroy_stream(streams[0]));
    let s = new_stream();
    refused(stream::synchronize_stream(streams[0]), 107_017, "not a live stream");
    let (status, code) = (end(s).0, 107_029);
    refused(status, code, "not being captured");
    ok(begin(s, 0));
    refused(end(s).0, 207_005, "the graph needs 1 more");
}

#[test]
fn a_full_queue_makes_the_host_wait() {
    let _one = fresh();
    control("constant.launch_ns", "0").unwrap();
    let (s, at) = (new_stream(), device_memory(4));
    control("reset_clock", "1").unwrap();
    (0..2048).for_each(|_| ok(launch(s, add(at, 1, false))));
    assert_eq!((get(at), thread::now()), (0, 0));
    ok(launch(s, add(at, 1, false)));
    assert_eq!((get(at), thread::now()), (1, 6000), "gap 2 us and floor 4 us of the first kernel");
}

#[test]
fn events_order_streams_and_measure_modelled_time() {
    let _one = fresh();
    let (a, b, at) = (new_stream(), new_stream(), device_memory(4));
    let (first, last, mut ms) = (new_event(), new_event(), 0f32);
    ok(event::record_event(first, a));
    ok(launch(a, add(at, 1, false)));
    ok(event::record_event(last, a));
    ok(event::stream_wait_event(b, last));
    // SAFETY: a live result.
    let elapsed = |ms: &mut f32, from, to| unsafe { event::event_elapsed_time(ms, from, to) };
    refused(elapsed(&mut ms, first, last), 107_006, "not reached");
    ok(stream::synchronize_stream(b));
    assert_eq!(get(at), 1, "waiting for b ran a up to the event");
    ok(elapsed(&mut ms, first, last));
    assert!(ms > 0.0);
    refused(elapsed(&mut ms, last, first), 107_007, "earlier");
    ok(event::destroy_event(last));
    refused(event::synchronize_event(last), 107_017, "not a live event");
}

#[test]
fn failures_are_reported_by_the_synchronise_and_the_device_reopens_after_a_loss() {
    let _one = fresh();
    let pinned_before = report().unwrap().live.memory;
    let (s, at) = (new_stream(), device_memory(4));
    control("fail_task", "2").unwrap();
    (0..3).for_each(|_| ok(launch(s, add(at, 1, false))));
    refused(stream::synchronize_stream(s), 507_015, "as asked for");
    assert_eq!(get(at), 2, "the stream went on");
    ok(stream::set_stream_failure_mode(s, 1));
    control("fail_task", "1").unwrap();
    (0..3).for_each(|_| ok(launch(s, add(at, 1, false))));
    refused(stream::synchronize_stream(s), 507_015, "as asked for");
    refused(launch(s, add(at, 1, false)), 507_015, "as asked for");
    assert_eq!(get(at), 2, "the stream stopped");
    control("fail_malloc", "1").unwrap();
    let mut none = null_mut();
    // SAFETY: a live result.
    refused(unsafe { malloc::malloc(&mut none, 4, 0) }, 207_001, "as asked for");
    control("lose_device", "1").unwrap();
    refused(stream::synchronize_stream(s), 507_010, "lost");
    ok(device::reset_device_force(0));
    ok(device::set_device(0));
    let live = report().unwrap().live;
    assert_eq!((live.streams, live.events, live.graphs, live.memory), (0, 0, 0, pinned_before));
}

#[test]
fn without_execution_costs_are_counted_and_no_memory_is_needed() {
    let _one = fresh();
    control("execute", "0").unwrap();
    control("trace", "1").unwrap();
    let (s, at, h) = (new_stream(), device_memory(40 << 30), pinned(4));
    set(h, 5);
    ok(launch(s, add(at, 1, false)));
    ok(stream::synchronize_stream(s));
    ok(copy_sync(h, 4, at, 4, 2));
    assert_eq!(get(h), 0, "memory without content reads as zero");
    let report = report().unwrap();
    assert_eq!((report.counters.launches, report.counters.tasks, report.counters.busy), (1, 1, 4000));
    assert!(report.json().contains("\"kind\":\"modelled\""));
    let names: Vec<_> = take_trace().unwrap().into_iter().map(|s| s.name).collect();
    assert_eq!(names, ["add", "add", "synchronise"]);
}

#[test]
fn controls_refuse_unknown_keys_and_values() {
    let _one = fresh();
    for (key, value, text) in [
        ("speed", "1", "unknown key"),
        ("device", "910A", "known: 910B1"),
        ("execute", "2", "0 or 1"),
        ("constant.none", "1", "no constant"),
        ("constant.hbm_bytes_per_s", "0", "a rate"),
    ] {
        assert!(control(key, value).unwrap_err().message.contains(text), "{key}");
    }
}
