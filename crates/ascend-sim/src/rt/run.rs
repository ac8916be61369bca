//! Executes queues. Nothing runs by itself: a call that waits runs what it waits for, in the order the rules demand.
//!
//! So a missing synchronise shows as stale data, every time, and the modelled clock does not depend on the machine.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::rt::code::{AICORE_EXCEPTION, MODEL_EXECUTE, STREAM_SYNC_TIMEOUT, refuse};
use crate::rt::op::Op;
use crate::rt::state::{CHANGED, World, due, enter};
use crate::rt::thread;
use crate::task::{Error, Fault, Handle, Task};

/// A cursor past every node, once the node that failed has been counted.
const END: usize = usize::MAX - 1;

/// What came of looking at the head of a queue.
enum Turn {
    /// The queue is empty.
    Idle,
    /// The head waits for an event, or another thread runs it.
    Stuck,
    /// The head is done.
    Moved,
    /// The head is to run, without the lock.
    Run(Task, Option<Handle>, Option<Fault>),
}

/// The head of a queue: its operation, the stream of the graph if it belongs to one, and when it was submitted.
fn head(world: &mut World, handle: Handle) -> Option<(Op, Option<Handle>, u64)> {
    let stream = world.streams.get_mut(&handle)?;
    loop {
        let ready = stream.ready;
        let entry = stream.queue.front_mut()?;
        let submitted = entry.submitted;
        let Op::Replay(replay) = &mut entry.op else { return Some((entry.op.clone(), None, submitted)) };
        replay.lanes.entry(0).or_insert(ready.max(submitted));
        let node = replay.graph.nodes().get(replay.cursor).cloned();
        if let Some(node) = node {
            return Some((node.op, Some(node.lane), submitted));
        }
        let end = replay.lanes.values().copied().max().unwrap_or(ready);
        stream.ready = end;
        stream.ends.push_back(end);
        stream.queue.pop_front();
        CHANGED.notify_all();
    }
}

/// Device time at which the head of a queue can start.
fn time(world: &World, handle: Handle, lane: Option<Handle>, submitted: u64) -> u64 {
    let Some(stream) = world.streams.get(&handle) else { return submitted };
    match (lane, stream.queue.front().map(|e| &e.op)) {
        (Some(lane), Some(Op::Replay(replay))) => {
            replay.lanes.get(&lane).or(replay.lanes.get(&0)).copied().unwrap_or(submitted)
        }
        _ => stream.ready.max(submitted),
    }
}

/// Ends the head of a queue at a device time.
fn finish(world: &mut World, handle: Handle, lane: Option<Handle>, end: u64) {
    let Some(stream) = world.streams.get_mut(&handle) else { return };
    match (lane, stream.queue.front_mut().map(|e| &mut e.op)) {
        (Some(lane), Some(Op::Replay(replay))) => {
            replay.lanes.insert(lane, end);
            replay.cursor += 1;
        }
        _ => {
            stream.ready = end;
            stream.ends.push_back(end);
            stream.queue.pop_front();
        }
    }
    CHANGED.notify_all();
}

fn mark(world: &mut World, handle: Handle, slot: usize, note: Option<u64>) -> u64 {
    match world.streams.get_mut(&handle).and_then(|s| s.queue.front_mut()).map(|e| &mut e.op) {
        Some(Op::Replay(replay)) => match note {
            Some(at) => *replay.marks.entry(slot).insert_entry(at).get(),
            None => replay.marks.get(&slot).copied().unwrap_or(0),
        },
        _ => 0,
    }
}

/// Looks at the head of a queue and does what needs no unlocking.
fn turn(world: &mut World, handle: Handle) -> Turn {
    if world.streams.get(&handle).is_some_and(|s| s.running) {
        return Turn::Stuck;
    }
    let Some((op, lane, submitted)) = head(world, handle) else { return Turn::Idle };
    let at = time(world, handle, lane, submitted);
    if lane.is_some() && op.event().is_some_and(|e| world.events.get(&e).is_none_or(|e| e.gone)) {
        return without_event(world, handle, lane, at, op.name());
    }
    let end = match op {
        Op::Work { task, bus } => return start(world, handle, lane, at, task, bus),
        Op::Record { event } => {
            if let Some(event) = world.events.get_mut(&event) {
                event.done += 1;
                event.time = at;
            }
            at
        }
        Op::Wait { event, target } => match world.events.get(&event) {
            Some(event) if event.done < target => return Turn::Stuck,
            event => at.max(event.map_or(0, |e| e.time)),
        },
        Op::WaitSet { event } => match world.events.get(&event) {
            Some(event) if event.done <= event.cleared => return Turn::Stuck,
            event => at.max(event.map_or(0, |e| e.time)),
        },
        Op::Reset { event } => {
            if let Some(event) = world.events.get_mut(&event) {
                event.cleared = event.done;
            }
            at
        }
        Op::Mark { slot } => mark(world, handle, slot, Some(at)),
        Op::Join { slot } => at.max(mark(world, handle, slot, None)),
        Op::Update { graph, at: first, tasks } => {
            let cost = world.device.update_task_ns * tasks.len() as f64;
            for (node, task) in graph.nodes().iter_mut().skip(first).zip(tasks) {
                node.op = Op::Work { task, bus: None };
            }
            at + cost.round() as u64
        }
        Op::Replay(_) => at,
    };
    finish(world, handle, lane, end);
    Turn::Moved
}

/// A replay comes to an event that was destroyed since the capture: the replay fails.
fn without_event(world: &mut World, handle: Handle, lane: Option<Handle>, at: u64, what: &str) -> Turn {
    if let Some(stream) = world.streams.get_mut(&handle) {
        let message = format!("EE1016: a replay came to an {what} whose event was destroyed");
        stream.fault.get_or_insert(Fault { code: MODEL_EXECUTE, message });
        if let Some(Op::Replay(replay)) = stream.queue.front_mut().map(|e| &mut e.op) {
            replay.cursor = END;
        }
    }
    finish(world, handle, lane, at);
    Turn::Moved
}

/// Charges a task and hands it out to run; one that must not run ends at once.
fn start(world: &mut World, handle: Handle, lane: Option<Handle>, at: u64, task: Task, bus: Option<usize>) -> Turn {
    let gap = world.device.task_gap_ns.round() as u64;
    let ns = bus.map_or_else(|| world.device.kernel_ns(&task.cost), |bytes| world.device.copy_ns(bytes));
    let Some(stream) = world.streams.get_mut(&handle) else { return Turn::Idle };
    if stream.stop_on_failure && stream.fault.is_some() {
        finish(world, handle, lane, at);
        return Turn::Moved;
    }
    // The gap separates tasks that follow each other; after an idle time it is already over.
    let begin = if at == stream.ready || lane.is_some() { at + gap } else { at.max(stream.ready + gap) };
    stream.running = true;
    let id = i64::from(stream.id);
    world.counters.tasks += 1;
    world.counters.busy += ns;
    world.span(id, task.cost.name, begin, ns);
    let failing = due(&mut world.inject.task) | (lane.is_some() && due(&mut world.inject.replay_task));
    let message = || format!("EZ9999: the task {} failed, as asked for", task.cost.name);
    let fault = failing.then(|| Fault { code: AICORE_EXCEPTION, message: message() });
    set_time(world, handle, lane, begin + ns);
    Turn::Run(task, lane, fault)
}

fn set_time(world: &mut World, handle: Handle, lane: Option<Handle>, end: u64) {
    let Some(stream) = world.streams.get_mut(&handle) else { return };
    match (lane, stream.queue.front_mut().map(|e| &mut e.op)) {
        (Some(lane), Some(Op::Replay(replay))) => drop(replay.lanes.insert(lane, end)),
        _ => stream.ready = end,
    }
}

/// After a task has run: keeps its failure and ends it. A failing task ends its replay.
fn ran(world: &mut World, handle: Handle, lane: Option<Handle>, name: &str, outcome: Result<(), Fault>) {
    let Some(stream) = world.streams.get_mut(&handle) else { return };
    stream.running = false;
    let mut failed = false;
    if let Err(fault) = outcome {
        failed = true;
        let fault = match lane {
            Some(_) => Fault {
                code: MODEL_EXECUTE,
                message: format!("{} (in the replay of a graph, task {name}, code {})", fault.message, fault.code),
            },
            None => fault,
        };
        stream.fault.get_or_insert(fault);
    }
    if failed && let Some(Op::Replay(replay)) = stream.queue.front_mut().map(|e| &mut e.op) {
        replay.cursor = END;
    }
    let end = match (lane, stream.queue.front().map(|e| &e.op)) {
        (Some(lane), Some(Op::Replay(replay))) => replay.lanes.get(&lane).copied().unwrap_or(stream.ready),
        _ => stream.ready,
    };
    finish(world, handle, lane, end);
}

/// Moves a stream on by one entry.
fn step(handle: Handle) -> Result<Turn, Error> {
    let mut world = enter()?;
    let turn = turn(&mut world, handle);
    let Turn::Run(task, lane, fault) = turn else { return Ok(turn) };
    let execute = world.execute;
    drop(world);
    let panicked =
        |_| Err(Fault { code: AICORE_EXCEPTION, message: format!("EZ9999: the task {} panicked", task.cost.name) });
    let outcome = match fault {
        Some(fault) => Err(fault),
        None if execute => catch_unwind(AssertUnwindSafe(|| (task.run)())).unwrap_or_else(panicked),
        None => Ok(()),
    };
    let mut world = crate::rt::state::world()?;
    ran(&mut world, handle, lane, task.cost.name, outcome);
    Ok(Turn::Moved)
}

/// Moves any other stream on by one entry; `false` if all are stuck.
fn step_other(handle: Handle) -> Result<bool, Error> {
    let mut others: Vec<_> = enter()?.streams.keys().copied().filter(|&s| s != handle).collect();
    others.sort_unstable();
    for other in others {
        if matches!(step(other)?, Turn::Moved) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What a stuck stream waits for, for messages.
fn reason(world: &mut World, handle: Handle) -> String {
    let id = world.streams.get(&handle).map_or(0, |s| s.id);
    let what = head(world, handle).map_or("nothing", |(op, ..)| op.name());
    format!("EE9999: stream {id} waits at {what}, which no submitted work completes")
}

/// Waits for other threads; an error when the time is over or when no thread is left that could submit anything.
fn wait(handle: Handle, since: Instant, limit: Option<Duration>) -> Result<(), Error> {
    let mut world = enter()?;
    world.blocked.insert(thread::id());
    let active = world.streams.values().any(|s| s.running);
    let stuck = !active && world.blocked.len() >= thread::live();
    if stuck || limit.is_some_and(|l| since.elapsed() >= l) {
        world.blocked.remove(&thread::id());
        return refuse(STREAM_SYNC_TIMEOUT, reason(&mut world, handle));
    }
    let (mut world, _) =
        CHANGED.wait_timeout(world, Duration::from_millis(20)).unwrap_or_else(std::sync::PoisonError::into_inner);
    world.blocked.remove(&thread::id());
    Ok(())
}

/// Runs a stream, and what it depends on, until `done` or until its queue is empty.
pub fn drain(handle: Handle, limit: Option<Duration>, done: impl Fn(&World) -> bool) -> Result<(), Error> {
    let since = Instant::now();
    loop {
        if done(&*enter()?) {
            return Ok(());
        }
        match step(handle)? {
            Turn::Idle => return Ok(()),
            Turn::Stuck if !step_other(handle)? => wait(handle, since, limit)?,
            _ => {}
        }
    }
}
