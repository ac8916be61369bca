//! Work on its way to a stream: stored by a capture, collected by an update, or queued.

use super::capture;
use super::code::{STREAM_TASK_FULL, TASK_GROUP_STATUS, refuse};
use super::pump::pump;
use super::state::{Cell, Entry, Locked, QUEUE, Sim, Work, lock};
use super::thread::{context, now, reach, spend};
use crate::task::{Error, Handle, Task};

/// Submits the tasks of one operator call.
pub fn enqueue(stream: Handle, tasks: Vec<Task>) -> Result<(), Error> {
    let mut sim = lock()?;
    let stream = sim.stream(stream, context())?;
    let ns = sim.host.launch_ns;
    spend(&mut sim, tasks.first().map_or("launch", |t| t.cost.name), ns);
    sim.counters.launches += 1;
    if let Some(update) = sim.streams.get_mut(&stream).and_then(|s| s.update.as_mut()) {
        update.tasks.extend(tasks);
        return Ok(());
    }
    for task in tasks {
        sim = submit(sim, stream, Work::Task(Cell::new(task)))?;
    }
    Ok(())
}

/// Submits one piece of work to a live stream, and runs what can run.
pub fn submit(mut sim: Locked, stream: Handle, work: Work) -> Result<Locked, Error> {
    let state = sim.streams.get(&stream);
    if state.is_some_and(|s| s.update.is_some()) {
        return refuse(TASK_GROUP_STATUS, "EE1001: a task-group update takes operator calls only");
    }
    if let Some(graph) = state.and_then(|s| s.capture) {
        capture::store(&mut sim, graph, stream, work)?;
        return Ok(sim);
    }
    make_room(&mut sim, stream)?;
    if let Some(state) = sim.streams.get_mut(&stream) {
        state.queue.push_back(Entry { work, at: now(), graph: None });
    }
    sim.pending.insert(stream);
    pump(sim)
}

/// Blocks the host, in modelled time, while the stream's queue is full.
fn make_room(sim: &mut Sim, handle: Handle) -> Result<(), Error> {
    let Some(stream) = sim.streams.get_mut(&handle) else { return Ok(()) };
    while stream.ends.front().is_some_and(|&end| end <= now()) {
        stream.ends.pop_front();
    }
    if stream.queue.len() >= QUEUE {
        let message = format!("EE1001: {QUEUE} tasks wait in the queue behind an event that no stream has recorded");
        return refuse(STREAM_TASK_FULL, message);
    }
    if stream.ends.len() + stream.queue.len() < QUEUE {
        return Ok(());
    }
    if let Some(end) = stream.ends.pop_front() {
        reach(end);
        sim.counters.stalls += 1;
    }
    Ok(())
}
