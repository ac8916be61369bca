//! Captured graphs: capture begin and end, replay, destruction.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::Arc;

use crate::rt::capture::origin_of;
use crate::rt::close::close;
use crate::rt::code::{
    FEATURE_NOT_SUPPORT, INVALID_HANDLE, MODEL_CAPTURED, MODEL_RUNNING, RESOURCE_ALLOC_FAIL, guard, out, put, refuse,
};
use crate::rt::op::{Graph, Op, Replay};
use crate::rt::rule::invalidate_stream;
use crate::rt::state::{Capture, Group, MAX_STREAMS, TASKS_PER_STREAM, World, enter, world};
use crate::rt::submit::{no_open_update, not_stopped, push, resolve};
use crate::rt::thread;
use crate::task::{Error, Handle};

/// Streams that a graph holds: one for each captured stream, and further ones for more tasks than a stream takes.
fn streams_of(capture: &Capture) -> usize {
    let mut tasks: HashMap<Handle, usize> = HashMap::new();
    capture.nodes.iter().for_each(|n| *tasks.entry(n.lane).or_insert(0) += 1);
    for lane in capture.seen.keys() {
        tasks.entry(*lane).or_insert(0);
    }
    tasks.values().map(|n| n.div_ceil(TASKS_PER_STREAM).max(1)).sum()
}

/// Turns a capture into a graph.
fn finish(world: &mut World, handle: Handle, capture: Capture) -> Result<(), Error> {
    let streams = streams_of(&capture);
    if !world.software_queues && world.streams_held() + streams > MAX_STREAMS {
        return refuse(
            RESOURCE_ALLOC_FAIL,
            format!(
                "EE1023: Too many streams are created: {} are held, the graph needs {streams} more",
                world.streams_held()
            ),
        );
    }
    let graph = Arc::new(Graph::new(handle, streams, capture.nodes));
    for (group, (start, len)) in capture.groups {
        world.groups.insert(group, Group { graph: Arc::clone(&graph), start, len });
    }
    world.graphs.insert(handle, graph);
    Ok(())
}

/// `aclmdlRICaptureEnd`: the capture ends whether or not a graph comes of it, except in the wrong thread or stream.
///
/// # Safety
/// `graph` is null or writable.
pub unsafe extern "C" fn capture_end(stream: *mut c_void, graph: *mut *mut c_void) -> i32 {
    guard(|| {
        out(graph, "modelRI")?;
        let mut world = enter()?;
        let stream = resolve(&mut world, stream as Handle)?;
        let handle = origin_of(&mut world, stream)?;
        // SAFETY: as this function's.
        unsafe { put(graph, std::ptr::null_mut(), "modelRI")? };
        let capture = close(&mut world, handle)?;
        finish(&mut world, handle, capture)?;
        // SAFETY: as this function's.
        unsafe { put(graph, handle as *mut c_void, "modelRI") }
    })
}

fn live(world: &World, graph: *mut c_void) -> Result<Arc<Graph>, Error> {
    if world.captures.contains_key(&(graph as Handle)) {
        return refuse(MODEL_CAPTURED, "EE1016: the graph is still being captured");
    }
    let dead = || refuse(INVALID_HANDLE, format!("EE1001: {graph:?} is not a live graph"));
    world.graphs.get(&(graph as Handle)).cloned().map_or_else(dead, Ok)
}

/// `aclmdlRIExecuteAsync`.
pub extern "C" fn execute_async(graph: *mut c_void, stream: *mut c_void) -> i32 {
    guard(|| {
        let mut world = enter()?;
        let graph = live(&world, graph)?;
        let stream = resolve(&mut world, stream as Handle)?;
        no_open_update(&mut world, stream)?;
        if world.stream(stream)?.capture.is_some() {
            invalidate_stream(&mut world, stream, "aclmdlRIExecuteAsync");
            return refuse(
                FEATURE_NOT_SUPPORT,
                "EE1016: a graph cannot be replayed into a capture; the capture is now invalid",
            );
        }
        not_stopped(&mut world, stream)?;
        let tasks = graph.nodes().len();
        let begin = thread::now();
        thread::spend(world.host.replay_ns + world.host.replay_task_ns * tasks as f64);
        world.counters.replays += 1;
        world.span(-1 - thread::id() as i64, "graph replay", begin, thread::now() - begin);
        drop(world);
        push(stream, Op::Replay(Replay { graph, cursor: 0, lanes: HashMap::new(), marks: HashMap::new() }))
    })
}

fn pending(world: &World, graph: &Arc<Graph>) -> bool {
    let uses = |op: &Op| match op {
        Op::Replay(replay) => Arc::ptr_eq(&replay.graph, graph),
        Op::Update { graph: other, .. } => Arc::ptr_eq(other, graph),
        _ => false,
    };
    world.streams.values().any(|s| s.queue.iter().any(|e| uses(&e.op)))
}

/// `aclmdlRIDestroy`: refused while a replay has not finished.
pub extern "C" fn destroy(graph: *mut c_void) -> i32 {
    guard(|| {
        let mut world = world()?;
        let found = live(&world, graph)?;
        if pending(&world, &found) {
            return refuse(MODEL_RUNNING, "EE1016: the graph has work that has not finished; synchronise first");
        }
        world.groups.retain(|_, g| !Arc::ptr_eq(&g.graph, &found));
        world.graphs.remove(&found.handle);
        Ok(())
    })
}
