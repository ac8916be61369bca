//! The rules of capture: what is stored, what is illegal meanwhile, and when a capture may end.

use super::code::*;
use super::state::{Graph, Lane, Locked, MAX_STREAMS, QUEUE, Sim, Status, Work};
use super::thread::mode;
use crate::task::{Error, Handle};

/// Modes of a capture: of the process, of the thread, none.
pub const GLOBAL: i32 = 0;
/// Restricts the capturing thread.
pub const THREAD_LOCAL: i32 = 1;
/// Restricts nothing but what touches the capture.
pub const RELAXED: i32 = 2;

/// Takes streams of the device for a caller or a graph.
pub fn take_streams(sim: &mut Sim, device: usize, count: usize) -> Result<(), Error> {
    let device = &mut sim.devices[device];
    if device.streams + count > MAX_STREAMS {
        return refuse(RESOURCE_ALLOC_FAIL, format!("EE1023: Too many streams are created: the device has {MAX_STREAMS}"));
    }
    device.streams += count;
    Ok(())
}

/// Makes an active capture invalid.
pub fn invalidate(sim: &mut Sim, graph: Handle) {
    if let Some(graph) = sim.graphs.get_mut(&graph).filter(|g| g.status == Status::Active) {
        graph.status = Status::Invalidated;
    }
}

/// Whether an active capture restricts the calling thread.
fn restricts(graph: &Graph) -> bool {
    graph.status == Status::Active && (graph.mode == GLOBAL || graph.thread == std::thread::current().id())
}

/// Refuses to synchronise or query while a capture is active, and invalidates it.
pub fn no_sync(sim: &mut Sim, own: Option<Handle>, what: &str) -> Result<(), Error> {
    let hit = own.or_else(|| sim.graphs.iter().find(|(_, g)| restricts(g)).map(|(&h, _)| h));
    let Some(hit) = hit else { return Ok(()) };
    invalidate(sim, hit);
    refuse(NOT_PERMITTED_CAPTURING, format!("EE1001: {what} is not permitted while a stream is captured; the capture is invalidated"))
}

/// Refuses calls that are unsafe in the mode of an active capture.
pub fn no_unsafe(sim: &Sim, what: &str) -> Result<(), Error> {
    let hits = |g: &Graph| restricts(g) && g.mode != RELAXED;
    if mode() == RELAXED || !sim.graphs.values().any(hits) {
        return Ok(());
    }
    refuse(CAPTURE_MODE_NOT_SUPPORT, format!("EE1001: {what} is unsafe while a stream is captured; exchange the thread's mode to RELAXED"))
}

/// Stores work of a captured stream.
pub fn store(sim: &mut Sim, graph: Handle, stream: Handle, work: Work) -> Result<(), Error> {
    let Some(found) = sim.graphs.get_mut(&graph) else { return refuse(INTERNAL_ERROR, "EE9999: a capture is lost") };
    if found.status == Status::Invalidated {
        return refuse(STREAM_CAPTURE_INVALIDATED, "EE1001: the capture has been invalidated");
    }
    let device = found.device;
    let Some(lane) = found.lanes.iter_mut().find(|l| l.stream == stream) else {
        return refuse(INTERNAL_ERROR, "EE9999: a stream's part of a capture is lost");
    };
    if let Some(cells) = &mut lane.group {
        match &work {
            Work::Task(cell) if cell.get().updatable => cells.push(cell.clone()),
            _ => {
                found.status = Status::Invalidated;
                return refuse(TASK_GROUP_INTR, "EE1001: a task group holds operator tasks only; the capture is invalidated");
            }
        }
    }
    lane.work.push(work);
    if lane.work.len() % QUEUE == 1 && lane.work.len() > 1 {
        hold(sim, graph, device)?;
    }
    Ok(())
}

/// Lets a graph hold one more stream.
fn hold(sim: &mut Sim, graph: Handle, device: usize) -> Result<(), Error> {
    if sim.software_queues {
        return Ok(());
    }
    if let Err(error) = take_streams(sim, device, 1) {
        invalidate(sim, graph);
        return Err(error);
    }
    if let Some(graph) = sim.graphs.get_mut(&graph) {
        graph.streams += 1;
    }
    Ok(())
}

/// Adds a stream to a capture.
pub fn join(sim: &mut Sim, graph: Handle, stream: Handle) -> Result<(), Error> {
    let Some(found) = sim.graphs.get(&graph) else { return refuse(INTERNAL_ERROR, "EE9999: a capture is lost") };
    let (context, device) = (found.context, found.device);
    hold(sim, graph, device)?;
    let runner = sim.add_stream(context, device);
    if let Some(runner) = sim.streams.get_mut(&runner) {
        runner.hidden = true;
    }
    if let Some(found) = sim.graphs.get_mut(&graph) {
        found.lanes.push(Lane { stream, runner, ..Lane::default() });
    }
    if let Some(stream) = sim.streams.get_mut(&stream) {
        stream.capture = Some(graph);
    }
    Ok(())
}

/// Records an event in a capture.
pub fn record(sim: &mut Sim, graph: Handle, stream: Handle, event: Handle) -> Result<(), Error> {
    store(sim, graph, stream, Work::Record(event))?;
    let Some(found) = sim.graphs.get_mut(&graph) else { return Ok(()) };
    let at = found.lanes.iter().position(|l| l.stream == stream).map(|i| (graph, i, found.lanes[i].work.len()));
    found.events.insert(event);
    if let Some(event) = sim.events.get_mut(&event) {
        event.captured = at;
    }
    Ok(())
}

/// Waits in a capture for an event of the same capture, or for an external one.
pub fn wait(sim: &mut Sim, graph: Handle, stream: Handle, event: Handle, external: bool) -> Result<(), Error> {
    let captured = sim.event(event)?.captured;
    match captured {
        _ if external => {}
        Some((of, lane, len)) if of == graph => {
            if let Some(lane) = sim.graphs.get_mut(&graph).and_then(|g| g.lanes.get_mut(lane)) {
                lane.joined = lane.joined.max(len);
            }
        }
        Some(_) => {
            invalidate(sim, graph);
            return refuse(CAPTURE_CONFLICT, "EE1001: the event belongs to another capture");
        }
        None => {
            invalidate(sim, graph);
            let message = "EE1001: a captured stream waits for an event recorded outside of its capture; create it with the EXTERNAL flag";
            return refuse(CAPTURE_DEPENDENCY, message);
        }
    }
    store(sim, graph, stream, Work::Wait(event, None))
}

/// Ends a capture: releases its streams, and drops the graph if it is not whole.
pub fn end(sim: &mut Locked, graph: Handle) -> Result<(), Error> {
    let Some(found) = sim.graphs.get_mut(&graph) else { return refuse(INTERNAL_ERROR, "EE9999: a capture is lost") };
    let open = found.lanes.iter().any(|l| l.group.is_some());
    let unjoined = found.lanes.iter().skip(1).any(|l| l.joined < l.work.len());
    let status = std::mem::replace(&mut found.status, Status::Ready);
    let streams: Vec<Handle> = found.lanes.iter().map(|l| l.stream).collect();
    for event in found.events.clone() {
        if let Some(event) = sim.events.get_mut(&event) {
            event.captured = None;
        }
    }
    for stream in streams {
        if let Some(stream) = sim.streams.get_mut(&stream) {
            stream.capture = None;
        }
    }
    let verdict = match (status, open, unjoined) {
        (Status::Active, false, false) => return Ok(()),
        (Status::Active, true, _) => refuse(TASK_GROUP_STATUS, "EE1001: the capture ends inside a task group"),
        (Status::Active, false, true) => refuse(STREAM_UNJOINED, "EE1001: a stream that joined the capture was not joined back"),
        _ => refuse(STREAM_CAPTURE_INVALIDATED, "EE1001: an illegal call has invalidated the capture"),
    };
    remove(sim, graph);
    verdict
}

/// Removes a graph with its task groups and streams.
pub fn remove(sim: &mut Sim, graph: Handle) {
    let Some(found) = sim.graphs.remove(&graph) else { return };
    let device = &mut sim.devices[found.device];
    device.streams = device.streams.saturating_sub(found.streams);
    for lane in found.lanes.iter().skip(1) {
        sim.streams.remove(&lane.runner);
        sim.pending.remove(&lane.runner);
    }
    sim.groups.retain(|_, group| group.graph != graph);
}

/// A stream's part of its active capture.
pub fn lane(sim: &mut Sim, stream: Handle) -> Result<&mut Lane, Error> {
    let graph = sim.streams.get(&stream).and_then(|s| s.capture);
    let Some(found) = graph.and_then(|g| sim.graphs.get_mut(&g)) else {
        return refuse(STREAM_NOT_CAPTURED, "EE1001: the stream is not being captured");
    };
    if found.status == Status::Invalidated {
        return refuse(STREAM_CAPTURE_INVALIDATED, "EE1001: the capture has been invalidated");
    }
    let lane = found.lanes.iter_mut().find(|l| l.stream == stream);
    lane.map_or_else(|| refuse(INTERNAL_ERROR, "EE9999: a stream's part of a capture is lost"), Ok)
}
