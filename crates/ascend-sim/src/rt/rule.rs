//! What is illegal while streams are captured. An illegal call fails and invalidates the captures it concerns.

use crate::rt::code::{CAPTURE_MODE_NOT_SUPPORT, EVENT_CAPTURED, NOT_PERMITTED_CAPTURING, TASK_GROUP_STATUS, refuse};
use crate::rt::state::{Capture, World};
use crate::rt::thread;
use crate::task::{Error, Handle};

/// What a synchronising or querying call addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A stream.
    Stream(Handle),
    /// An event.
    Event(Handle),
    /// A device or context, with all its streams.
    Device,
}

/// Marks captures as invalid; returns how many there were.
fn invalidate_where(world: &mut World, why: &str, concerned: impl Fn(Handle, &Capture) -> bool) -> usize {
    let mut hit = 0;
    for (&handle, capture) in &mut world.captures {
        if concerned(handle, capture) {
            capture.invalid.get_or_insert_with(|| why.to_owned());
            hit += 1;
        }
    }
    hit
}

/// Invalidates a capture.
pub fn invalidate(world: &mut World, capture: Handle, why: &str) {
    invalidate_where(world, why, |handle, _| handle == capture);
}

/// Invalidates the capture that records a stream.
pub fn invalidate_stream(world: &mut World, stream: Handle, why: &str) {
    let capture = world.streams.get(&stream).and_then(|s| s.capture);
    capture.into_iter().for_each(|capture| invalidate(world, capture, why));
}

/// Refuses to synchronise or query: a captured stream or event from any thread, anything from a thread that captures,
/// and anything at all while a capture in mode GLOBAL is active.
pub fn no_sync(world: &mut World, call: &str, target: Target) -> Result<(), Error> {
    let owner = match target {
        Target::Stream(stream) => world.streams.get(&stream).and_then(|s| s.capture),
        Target::Event(event) => {
            world.events.get(&event).and_then(|e| e.captured.as_ref()).map(|(capture, ..)| *capture)
        }
        Target::Device => None,
    };
    let owner = owner.filter(|c| world.captures.contains_key(c));
    let me = thread::id();
    let hit = invalidate_where(world, call, |handle, capture| {
        Some(handle) == owner || target == Target::Device || capture.mode == thread::GLOBAL || capture.thread == me
    });
    if hit == 0 {
        return no_update(world, call, target);
    }
    let code =
        if owner.is_some() && matches!(target, Target::Event(_)) { EVENT_CAPTURED } else { NOT_PERMITTED_CAPTURING };
    refuse(
        code,
        format!("EE1016: {call} is not permitted while a stream is being captured; the capture is now invalid"),
    )
}

/// Refuses to synchronise a stream on which a task-group update is open.
fn no_update(world: &World, call: &str, target: Target) -> Result<(), Error> {
    match target {
        Target::Stream(stream) if world.streams.get(&stream).is_some_and(|s| s.update.is_some()) => {
            refuse(TASK_GROUP_STATUS, format!("EE1016: {call} between begin and end of a task-group update"))
        }
        _ => Ok(()),
    }
}

/// Refuses an unsafe call, by the capture modes: a thread in mode RELAXED may make it; in mode THREAD_LOCAL, unless it
/// captures itself; in mode GLOBAL, unless any thread captures in mode GLOBAL.
pub fn no_unsafe(world: &mut World, call: &str) -> Result<(), Error> {
    let (mode, me) = (thread::mode(), thread::id());
    if mode == thread::RELAXED {
        return Ok(());
    }
    let hit = invalidate_where(world, call, |_, capture| match capture.mode {
        thread::RELAXED => false,
        thread::GLOBAL if mode == thread::GLOBAL => true,
        _ => capture.thread == me,
    });
    if hit == 0 {
        return Ok(());
    }
    refuse(
        CAPTURE_MODE_NOT_SUPPORT,
        format!(
            "EE1016: {call} is unsafe while a stream is being captured, unless the thread is in mode RELAXED; the capture is now invalid"
        ),
    )
}
