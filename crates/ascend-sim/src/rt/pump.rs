//! Runs the work of the streams in modelled time.
//!
//! Work runs in the thread of whoever submits or waits; its times follow from the order of submission and from events alone.
//! A stream that waits for an event keeps its queue until the event is set.

use std::sync::Arc;

use super::code::{AICORE_EXCEPTION, LOST_HEARTBEAT, MODEL_EXECUTE};
use super::state::{Entry, HostFn, Locked, Sim, Work, notify};
use super::thread::now;
use crate::task::{Cost, Error, Fault, Handle, Run};

/// Work that runs outside of the lock.
enum Outside {
    Task { stream: Handle, run: Option<Run>, cost: Cost, ns: u64, at: u64, graph: bool },
    Call { stream: Handle, function: HostFn, argument: usize },
}

/// Runs all work that can run. The lock is released while a task runs.
pub fn pump(mut sim: Locked) -> Result<Locked, Error> {
    loop {
        let pending: Vec<Handle> = sim.pending.iter().copied().collect();
        let Some(work) = pending.into_iter().find_map(|stream| step(&mut sim, stream)) else { return Ok(sim) };
        let Some(work) = work else { continue };
        if matches!(work, Outside::Task { .. }) {
            sim.running += 1;
        }
        drop(sim);
        let fault = execute(&work);
        sim = super::state::lock()?;
        finish(&mut sim, &work, fault);
        notify();
    }
}

fn execute(work: &Outside) -> Option<Fault> {
    match work {
        Outside::Task { run: Some(run), .. } => {
            let run = Arc::clone(run);
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run()));
            let panicked = || Err(Fault { code: AICORE_EXCEPTION, message: "EZ9999: a kernel of the simulator failed".into() });
            done.unwrap_or_else(|_| panicked()).err()
        }
        Outside::Task { .. } => None,
        Outside::Call { function, argument, .. } => {
            // SAFETY: the caller of `aclrtLaunchHostFunc` gave a function for this argument.
            unsafe { function(*argument as *mut std::ffi::c_void) };
            None
        }
    }
}

fn finish(sim: &mut Sim, work: &Outside, fault: Option<Fault>) {
    let (Outside::Task { stream, .. } | Outside::Call { stream, .. }) = work;
    if let Outside::Task { .. } = work {
        sim.running -= 1;
    }
    let (gap, handle) = (sim.chip.task_gap_ns as u64, *stream);
    let Some(stream) = sim.streams.get_mut(&handle) else { return };
    stream.busy = false;
    match work {
        Outside::Task { cost, ns, at, graph, .. } => {
            let start = if stream.end == 0 { *at } else { (stream.end + gap).max(*at) };
            stream.end = start + ns;
            let (id, end) = (stream.id, stream.end);
            if !graph {
                stream.ends.push_back(end);
            }
            sim.counters.tasks += 1;
            sim.counters.read += cost.read;
            sim.counters.written += cost.write;
            sim.counters.busy_ns += ns;
            sim.trace.add(cost.name, Some(id), start, end);
            if let Some(fault) = fault {
                fail(sim, handle, fault, *graph);
            }
        }
        Outside::Call { .. } => stream.end = stream.end.max(now()),
    }
    if sim.streams.get(&handle).is_some_and(|s| s.queue.is_empty()) {
        sim.pending.remove(&handle);
    }
}

/// Keeps the first failure of a stream, and drops what follows if the stream stops on failures.
fn fail(sim: &mut Sim, handle: Handle, fault: Fault, graph: bool) {
    let Some(stream) = sim.streams.get_mut(&handle) else { return };
    let fault = if graph {
        Fault { code: MODEL_EXECUTE, message: format!("EZ9999: a replay failed: {} [{}]", fault.message, fault.code) }
    } else {
        fault
    };
    stream.fault.get_or_insert(fault);
    if stream.stop_on_failure {
        let ends = stream.queue.drain(..).filter_map(|e| match e.work {
            Work::ReplayEnd(graph) => Some(graph),
            _ => None,
        });
        for graph in ends.collect::<Vec<_>>() {
            end_replay(sim, graph, 0);
        }
    }
}

fn end_replay(sim: &mut Sim, graph: Handle, end: u64) {
    if let Some(graph) = sim.graphs.get_mut(&graph) {
        graph.running = graph.running.saturating_sub(1);
        graph.end = graph.end.max(end);
    }
}

/// Takes the next work of a stream. `None`: it cannot go on; `Some(None)`: done inside the lock.
fn step(sim: &mut Sim, handle: Handle) -> Option<Option<Outside>> {
    let stream = sim.streams.get_mut(&handle)?;
    if stream.busy {
        return None;
    }
    let Some(entry) = stream.queue.front().cloned() else {
        sim.pending.remove(&handle);
        return Some(None);
    };
    if let Work::Wait(event, need) = entry.work {
        let state = sim.events.get(&event);
        if state.is_some_and(|e| e.done < need.unwrap_or(e.cleared + 1)) {
            return None;
        }
        let time = state.and_then(|e| e.time).unwrap_or(0);
        stream.end = stream.end.max(time).max(entry.at);
    }
    stream.queue.pop_front();
    let outside = run_inside(sim, handle, entry);
    if let Some(stream) = sim.streams.get_mut(&handle) {
        stream.busy = outside.is_some();
        if stream.queue.is_empty() && outside.is_none() {
            sim.pending.remove(&handle);
        }
    }
    notify();
    Some(outside)
}

fn run_inside(sim: &mut Sim, handle: Handle, entry: Entry) -> Option<Outside> {
    let Entry { work, at, graph } = entry;
    let stream = sim.streams.get_mut(&handle)?;
    match work {
        Work::Task(cell) => {
            let task = cell.get();
            let ns = cell.fixed.unwrap_or_else(|| sim.chip.kernel_ns(&task.cost));
            let run = numeric(sim, handle, &task.run, graph.is_some());
            return Some(Outside::Task { stream: handle, run, cost: task.cost, ns, at, graph: graph.is_some() });
        }
        Work::Call(function, argument) => {
            stream.end = stream.end.max(at);
            return Some(Outside::Call { stream: handle, function, argument });
        }
        Work::Wait(..) => {}
        Work::Record(event) => {
            stream.end = stream.end.max(at);
            let end = stream.end;
            if let Some(event) = sim.events.get_mut(&event) {
                event.done += 1;
                event.time = Some(end / 20 * 20);
            }
        }
        Work::Reset(event) => {
            stream.end = stream.end.max(at);
            if let Some(event) = sim.events.get_mut(&event) {
                event.cleared = event.done;
            }
        }
        Work::Replay(graph) => replay(sim, handle, graph, at),
        Work::ReplayEnd(graph) => {
            let end = stream.end;
            stream.ends.push_back(end);
            end_replay(sim, graph, end);
        }
        Work::Update(cells) => {
            let ns = sim.chip.update_task_ns.round() as u64 * cells.len() as u64;
            stream.end = stream.end.max(at) + ns;
            let (id, end) = (stream.id, stream.end);
            stream.ends.push_back(end);
            sim.trace.add("task update", Some(id), end - ns, end);
            cells.into_iter().for_each(|(cell, task)| cell.set(task));
        }
    }
    None
}

/// The numerics of a task, unless it runs for its cost alone, or a fault is injected.
fn numeric(sim: &mut Sim, handle: Handle, run: &Run, graph: bool) -> Option<Run> {
    let device = sim.streams.get(&handle)?.device;
    if sim.devices[device].lost {
        let message = format!("EE9999: device {device} does not answer");
        fail(sim, handle, Fault { code: LOST_HEARTBEAT, message }, false);
        return None;
    }
    if let Some(left) = sim.faults.task {
        sim.faults.task = left.checked_sub(1).filter(|&left| left > 0);
        if left <= 1 {
            let message = "EZ9999: an injected fault of a kernel".into();
            fail(sim, handle, Fault { code: AICORE_EXCEPTION, message }, graph);
            return None;
        }
    }
    (!super::memory::memory().shapes_only).then(|| Arc::clone(run))
}

/// Puts a graph's first lane in front of the stream's queue, and the other lanes on their own streams.
fn replay(sim: &mut Sim, handle: Handle, graph: Handle, at: u64) {
    let Some(found) = sim.graphs.get_mut(&graph) else { return };
    let lanes: Vec<(Handle, Vec<Work>)> = found.lanes.iter().map(|l| (l.runner, l.work.clone())).collect();
    for event in found.events.clone() {
        if let Some(event) = sim.events.get_mut(&event) {
            event.cleared = event.done;
        }
    }
    let begin = sim.streams.get(&handle).map_or(at, |s| s.end.max(at));
    for (i, (runner, work)) in lanes.into_iter().enumerate() {
        let entries = work.into_iter().map(|work| Entry { work, at: begin, graph: Some(graph) });
        if i == 0 {
            let Some(stream) = sim.streams.get_mut(&handle) else { return };
            stream.queue.push_front(Entry { work: Work::ReplayEnd(graph), at: begin, graph: None });
            entries.rev().for_each(|entry| stream.queue.push_front(entry));
        } else if let Some(stream) = sim.streams.get_mut(&runner) {
            stream.queue.extend(entries);
            sim.pending.insert(runner);
        }
    }
}
