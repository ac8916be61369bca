//! Submission: to a queue, into a capture, or into a task-group update, whichever the stream is in.

use std::collections::HashMap;

use crate::rt::code::{
    CONTEXT_NULL, STREAM_CAPTURE_INVALIDATED, STREAM_CONTEXT, STREAM_TASK_FULL, TASK_GROUP_INTR, TASK_GROUP_STATUS,
    refuse,
};
use crate::rt::op::{Node, Op};
use crate::rt::rule::invalidate_stream;
use crate::rt::run::drain;
use crate::rt::state::{QUEUE_DEPTH, World, enter};
use crate::rt::{op::Entry, thread};
use crate::task::{Error, Handle, Task};

/// The stream behind a handle that a call was given: null means the default stream of the current context.
pub fn resolve(world: &mut World, stream: Handle) -> Result<Handle, Error> {
    let context = thread::context();
    let Some(current) = world.contexts.get(&context) else {
        return refuse(
            CONTEXT_NULL,
            "EE1001: the thread has no current context (aclrtSetDevice or aclrtSetCurrentContext)",
        );
    };
    let handle = if stream == 0 { current.stream } else { stream };
    if world.stream(handle)?.context != context {
        return refuse(STREAM_CONTEXT, "EE1001: the stream does not belong to the current context");
    }
    Ok(handle)
}

/// Waits, in host time, until the queue has a free place.
fn make_room(handle: Handle) -> Result<(), Error> {
    loop {
        let mut world = enter()?;
        let now = thread::now();
        let stream = world.stream(handle)?;
        while stream.ends.front().is_some_and(|&end| end <= now) {
            stream.ends.pop_front();
        }
        let pending = stream.queue.len();
        if pending + stream.ends.len() < QUEUE_DEPTH {
            return Ok(());
        }
        if let Some(end) = stream.ends.pop_front() {
            thread::wait_until(end);
            continue;
        }
        drop(world);
        let full = |e: Error| Error { code: STREAM_TASK_FULL, message: format!("{} (the queue is full)", e.message) };
        drain(handle, None, |w| w.streams.get(&handle).is_none_or(|s| s.queue.len() < pending)).map_err(full)?;
    }
}

/// Puts an operation at the end of a stream's queue; the host time must have been spent.
pub fn push(handle: Handle, op: Op) -> Result<(), Error> {
    make_room(handle)?;
    let mut world = enter()?;
    let submitted = thread::now();
    world.stream(handle)?.queue.push_back(Entry { op, submitted });
    crate::rt::state::CHANGED.notify_all();
    Ok(())
}

/// Stores an operation in the capture that records the stream.
pub fn store(world: &mut World, lane: Handle, op: Op) -> Result<(), Error> {
    let capture = world.stream(lane)?.capture.and_then(|c| world.captures.get_mut(&c));
    let Some(capture) = capture else { return refuse(STREAM_CAPTURE_INVALIDATED, "EE1016: the capture has ended") };
    if let Some(call) = &capture.invalid {
        return refuse(STREAM_CAPTURE_INVALIDATED, format!("EE1016: the capture was invalidated by {call}"));
    }
    let counts = !matches!(op, Op::Mark { .. });
    capture.nodes.push(Node { lane, op });
    if counts {
        let seen: &mut HashMap<_, _> = capture.seen.entry(lane).or_default();
        *seen.entry(lane).or_insert(0) += 1;
    }
    Ok(())
}

/// Whether the stream's capture has an open task group on it.
pub fn in_group(world: &World, stream: Handle) -> bool {
    let capture = world.streams.get(&stream).and_then(|s| s.capture).and_then(|c| world.captures.get(&c));
    capture.and_then(|c| c.group).is_some_and(|(lane, _)| lane == stream)
}

/// Refuses work that a task group or an update cannot hold, and invalidates the capture.
pub fn not_in_group(world: &mut World, stream: Handle, what: &str) -> Result<(), Error> {
    if world.stream(stream)?.update.is_some() {
        return refuse(TASK_GROUP_INTR, format!("EE1016: {what} cannot be part of a task-group update"));
    }
    if !in_group(world, stream) {
        return Ok(());
    }
    invalidate_stream(world, stream, what);
    refuse(TASK_GROUP_INTR, format!("EE1016: {what} cannot be part of a task group; the capture is now invalid"))
}

/// Refuses work for a stream that has stopped on a failure.
pub fn not_stopped(world: &mut World, stream: Handle) -> Result<(), Error> {
    let stream = world.stream(stream)?;
    let fault = stream.fault.clone().filter(|_| stream.stop_on_failure);
    fault.map_or(Ok(()), |fault| refuse(fault.code, fault.message))
}

/// Submits one operation that is no operator: at once into the capture or the queue.
pub fn submit(mut stream: Handle, what: &str, host_ns: impl Fn(&World) -> f64, op: Op) -> Result<(), Error> {
    let mut world = enter()?;
    stream = resolve(&mut world, stream)?;
    not_in_group(&mut world, stream, what)?;
    not_stopped(&mut world, stream)?;
    thread::spend(host_ns(&world));
    if world.stream(stream)?.capture.is_some() {
        return store(&mut world, stream, op);
    }
    drop(world);
    push(stream, op)
}

/// Submits the tasks of an operator: runs them in order on a stream, stores them while it is captured, or collects them
/// for a task-group update.
pub fn enqueue(stream: Handle, tasks: Vec<Task>) -> Result<(), Error> {
    let mut world = enter()?;
    let stream = resolve(&mut world, stream)?;
    let begin = thread::now();
    thread::spend(world.host.launch_ns);
    let name = tasks.first().map_or("launch", |t| t.cost.name);
    world.span(-1 - thread::id() as i64, name, begin, thread::now() - begin);
    not_stopped(&mut world, stream)?;
    world.counters.launches += 1;
    let fixed = tasks.iter().find(|t| !t.updatable).map(|t| t.cost.name);
    if let Some(name) = fixed {
        not_in_group(&mut world, stream, name)?;
    }
    if let Some(update) = &mut world.stream(stream)?.update {
        update.tasks.extend(tasks);
        return Ok(());
    }
    if world.stream(stream)?.capture.is_some() {
        return tasks.into_iter().try_for_each(|task| store(&mut world, stream, Op::Work { task, bus: None }));
    }
    drop(world);
    tasks.into_iter().try_for_each(|task| push(stream, Op::Work { task, bus: None }))
}

/// Refuses if the stream has an open update: for calls that change the state of the stream.
pub fn no_open_update(world: &mut World, stream: Handle) -> Result<(), Error> {
    match world.stream(stream)?.update {
        Some(_) => refuse(TASK_GROUP_STATUS, "EE1016: a task-group update is open on the stream"),
        None => Ok(()),
    }
}
