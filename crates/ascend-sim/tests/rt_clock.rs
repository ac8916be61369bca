//! The modelled clock: what profiles hold, what a kernel, a copy, a replay and an update cost, on the device and the host.
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

mod rt_support;

use std::ptr::null_mut;

use aio_ascend_sim::rt::control::control;
use aio_ascend_sim::rt::profile::{Constant, DeviceProfile, HostProfile};
use aio_ascend_sim::rt::report::{report, take_trace, trace_json};
use aio_ascend_sim::rt::{event, graph, group, stream, thread};
use aio_ascend_sim::task::Cost;
use rt_support::*;

#[test]
fn every_constant_of_every_profile_has_a_range_a_source_and_a_confidence() {
    let devices = ["910B1", "910B2", "910B3", "910B4"].map(|name| DeviceProfile::named(name).unwrap().constants);
    let hosts = ["native", "torch-eager"].map(|name| HostProfile::named(name).unwrap().constants);
    let all: Vec<&Constant> = devices.iter().chain(&hosts).flatten().collect();
    assert!(all.len() > 60);
    for c in all {
        assert!(c.low <= c.value && c.value <= c.high && c.low >= 0.0, "{c:?}");
        assert!(c.source.len() > 3 && !c.confidence.is_empty(), "{c:?}");
    }
    assert!(DeviceProfile::named("910A").unwrap_err().message.contains("910B1, 910B2, 910B3, 910B4"));
    assert!(HostProfile::named("fast").unwrap_err().message.contains("native, torch-eager"));
}

#[test]
fn a_kernel_takes_as_long_as_its_slowest_resource_and_no_less_than_the_floor() {
    let mut chip = DeviceProfile::named("910B3").unwrap();
    for (name, value) in [
        ("hbm_bytes_per_s", 1e12),
        ("l2_bytes_per_s", 4e12),
        ("cube_flops_per_s", 2e14),
        ("cube_int8_per_s", 4e14),
        ("vector_ops_per_s", 1e13),
        ("kernel_floor_ns", 3000.0),
    ] {
        assert!(chip.set(name, value), "{name}");
    }
    let base = Cost { name: "kernel", ..Cost::default() };
    for (what, cost, ns) in [
        ("nothing", base.clone(), 3000),
        ("reads and writes share the bus", Cost { read: 6_000_000, write: 4_000_000, ..base.clone() }, 10_000),
        ("L2 is faster", Cost { l2: 40_000_000, ..base.clone() }, 10_000),
        ("both forms of the cube add", Cost { cube_flops: 1 << 31, cube_int8: 1 << 32, ..base.clone() }, 21_475),
        ("vectors", Cost { vector_ops: 100_000_000, ..base.clone() }, 10_000),
        ("memory and L2 add", Cost { read: 10_000_000, l2: 80_000_000, ..base.clone() }, 30_000),
        ("the slowest decides", Cost { read: 10_000_000, vector_ops: 200_000_000, ..base.clone() }, 20_000),
    ] {
        assert_eq!(chip.kernel_ns(&cost), ns, "{what}");
    }
}

/// Round constants, so that times can be added up by hand.
fn round_constants() {
    for (name, value) in [
        ("launch_ns", "1000"),
        ("copy_ns", "500"),
        ("event_ns", "100"),
        ("sync_ns", "5000"),
        ("replay_ns", "2000"),
        ("replay_task_ns", "10"),
        ("update_ns", "300"),
        ("task_gap_ns", "20"),
        ("kernel_floor_ns", "4000"),
        ("copy_base_ns", "1000"),
        ("copy_bytes_per_s", "1e9"),
        ("update_task_ns", "700"),
    ] {
        control(&format!("constant.{name}"), value).unwrap();
    }
    control("reset_clock", "1").unwrap();
}

/// Modelled time that a call takes the host.
fn takes(call: impl FnOnce()) -> u64 {
    let before = thread::now();
    call();
    thread::now() - before
}

#[test]
fn calls_cost_the_host_what_its_profile_says() {
    let _one = fresh();
    let (s, e, d, h) = (new_stream(), new_event(), device_memory(64), pinned(64));
    round_constants();
    assert_eq!(takes(|| ok(launch(s, add(d, 1, false)))), 1000);
    assert_eq!(takes(|| ok(copy_async(d, h, 64, 1, s))), 500);
    assert_eq!(takes(|| ok(event::record_event(e, s))), 100);
    assert_eq!(takes(|| ok(event::stream_wait_event(s, e))), 100);
    assert_eq!(takes(|| ok(copy_sync(d, 64, h, 64, 1))), 1000 + 64, "base and bytes");
    ok(begin(s, 0));
    assert_eq!(takes(|| (0..3).for_each(|_| ok(launch(s, add(d, 1, false))))), 3000, "a capture costs the launches");
    let (status, g) = end(s);
    ok(status);
    assert_eq!(takes(|| ok(graph::execute_async(g, s))), 2000 + 30);
    let wait = takes(|| ok(stream::synchronize_stream(s)));
    assert!(wait >= 5000);
    assert_eq!(takes(|| ok(stream::synchronize_stream(s))), 5000, "nothing to wait for");
}

#[test]
fn the_device_runs_a_stream_in_order_with_gaps_and_the_host_runs_ahead() {
    let _one = fresh();
    let (s, first, last, d, h) = (new_stream(), new_event(), new_event(), device_memory(64), pinned(64));
    round_constants();
    // Launches every 1 us; kernels of 4 us with gaps of 20 ns: the device falls behind.
    ok(event::record_event(first, s));
    (0..5).for_each(|_| ok(launch(s, add(d, 1, false))));
    ok(copy_async(h, d, 64, 2, s));
    ok(event::record_event(last, s));
    assert_eq!(thread::now(), 100 + 5 * 1000 + 500 + 100);
    ok(stream::synchronize_stream(s));
    // The first kernel starts when its launch has ended at 1100.
    let end = 1100 + 5 * 4000 + 4 * 20 + 20 + 1064;
    assert_eq!(thread::now(), end + 5000);
    let mut ms = 0f32;
    // SAFETY: a live result.
    ok(unsafe { event::event_elapsed_time(&mut ms, first, last) });
    let ticks = |ns: u64| ns / 20 * 20;
    assert_eq!(ms, ((ticks(end) - ticks(100)) as f64 / 1e6) as f32, "between device times, in steps of 20 ns");
    assert_eq!(report().unwrap().counters.busy, 5 * 4000 + 1064);
}

#[test]
fn an_update_is_charged_to_host_and_device() {
    let _one = fresh();
    let (s, upd, d) = (new_stream(), new_stream(), device_memory(4));
    let mut handle = null_mut();
    ok(begin(s, 0));
    ok(group::group_begin(s));
    ok(launch(s, add(d, 1, true)));
    // SAFETY: a live result.
    ok(unsafe { group::group_end(s, &mut handle) });
    ok(end(s).0);
    round_constants();
    let host = takes(|| {
        ok(group::update_begin(upd, handle));
        ok(launch(upd, add(d, 2, true)));
        ok(group::update_end(upd));
    });
    assert_eq!(host, 1000 + 300, "the operator's two phases, begin and end");
    ok(stream::synchronize_stream(upd));
    assert_eq!(thread::now(), 1300 + 700 + 5000);
}

#[test]
fn a_trace_shows_host_and_device_and_says_that_it_is_modelled() {
    let _one = fresh();
    let (s, d) = (new_stream(), device_memory(4));
    round_constants();
    control("trace", "1").unwrap();
    ok(launch(s, add(d, 1, false)));
    ok(stream::synchronize_stream(s));
    let spans = take_trace().unwrap();
    let of = |lane: fn(i64) -> bool| {
        spans.iter().filter(|s| lane(s.lane)).map(|s| (s.name, s.start, s.ns)).collect::<Vec<_>>()
    };
    assert_eq!(of(|lane| lane >= 0), [("add", 1000, 4000)]);
    assert_eq!(of(|lane| lane < 0), [("add", 0, 1000), ("synchronise", 1000, 4000 + 5000)]);
    let json = trace_json(&spans);
    assert!(json.contains("\"kind\":\"modelled\"") && json.contains("\"dur\":4}"), "{json}");
}
