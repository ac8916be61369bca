//! Random programs over several streams, ordered by events, give what the same steps give one after the other, directly
//! and as captured graphs.
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

mod rt_support;

use std::sync::Arc;

use aio_ascend_sim::rt::{event, graph, stream};
use aio_ascend_sim::task::Task;
use rt_support::*;

/// A small generator of numbers, the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % n
    }
}

/// A step whose effect depends on the order: x becomes 3 x + c.
fn step(x: i32, c: i32) -> i32 {
    x.wrapping_mul(3).wrapping_add(c)
}

fn kernel(at: Ptr, c: i32) -> Task {
    let at = at as usize;
    let mut task = add(at as Ptr, 0, false);
    task.run = Arc::new(move || {
        set(at as Ptr, step(get(at as Ptr), c));
        Ok(())
    });
    task
}

/// Issues a program: each step on some stream, after the step before it. Ends with all streams joined to the first.
fn issue(streams: &[Ptr], at: Ptr, program: &[(usize, i32)]) {
    let mut last = 0;
    let follow = |from: usize, to: usize| {
        let e = new_event();
        ok(event::record_event(e, streams[from]));
        ok(event::stream_wait_event(streams[to], e));
        // What waits keeps the record, not the event's handle. In a capture the event belongs to it until it ends.
        if event::destroy_event(e) != 0 {
            assert_eq!(state(streams[0]), 1);
        }
    };
    for &(on, c) in program {
        if on != last {
            follow(last, on);
        }
        ok(launch(streams[on], kernel(at, c)));
        last = on;
    }
    let mut used: Vec<usize> = program.iter().map(|s| s.0).filter(|&s| s != 0).collect();
    used.sort_unstable();
    used.dedup();
    used.into_iter().for_each(|s| follow(s, 0));
}

#[test]
fn steps_that_events_order_run_in_that_order_on_any_streams() {
    let _one = fresh();
    for seed in 1..=60u64 {
        reopen();
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let streams: Vec<Ptr> = (0..2 + random.below(3)).map(|_| new_stream()).collect();
        let program: Vec<(usize, i32)> =
            (0..1 + random.below(30)).map(|_| (random.below(streams.len()), random.below(1000) as i32)).collect();
        let run = |x: i32| program.iter().fold(x, |x, &(_, c)| step(x, c));
        let at = device_memory(4);
        set(at, 1);
        ok(begin(streams[0], 0));
        issue(&streams, at, &program);
        let (status, g) = end(streams[0]);
        ok(status);
        assert_eq!(get(at), 1, "seed {seed}: the capture ran nothing");
        issue(&streams, at, &program);
        // Waiting for the first stream is waiting for what it joined.
        ok(stream::synchronize_stream(streams[0]));
        assert_eq!(get(at), run(1), "seed {seed}: single launches");
        (0..2).for_each(|_| ok(graph::execute_async(g, streams[0])));
        ok(stream::synchronize_stream(streams[0]));
        assert_eq!(get(at), run(run(run(1))), "seed {seed}: two replays");
        ok(graph::destroy(g));
    }
}
