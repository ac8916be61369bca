//! The end of a capture: what it leaves, and the checks that decide whether a graph can be made of it.
//!
//! Called by the end of a capture, and when the context of its stream goes.

use crate::rt::code::{STREAM_CAPTURE_INVALIDATED, STREAM_NOT_CAPTURED, STREAM_UNJOINED, TASK_GROUP_STATUS, refuse};
use crate::rt::state::{Capture, World};
use crate::task::{Error, Handle};

/// Whether the origin has waited for everything that joined streams do.
fn joined(capture: &Capture) -> bool {
    let Some(known) = capture.seen.get(&capture.origin) else { return true };
    let total = |lane: &Handle| capture.seen.get(lane).and_then(|s| s.get(lane)).copied().unwrap_or(0);
    capture.seen.keys().filter(|l| **l != capture.origin).all(|l| known.get(l).copied().unwrap_or(0) >= total(l))
}

/// Ends a capture and checks that a graph can be made of it.
pub fn close(world: &mut World, handle: Handle) -> Result<Capture, Error> {
    let Some(capture) = world.captures.remove(&handle) else {
        return refuse(STREAM_NOT_CAPTURED, "EE1016: the stream is not being captured");
    };
    world.streams.values_mut().filter(|s| s.capture == Some(handle)).for_each(|s| s.capture = None);
    world
        .events
        .values_mut()
        .filter(|e| e.captured.as_ref().is_some_and(|c| c.0 == handle))
        .for_each(|e| e.captured = None);
    if let Some(call) = &capture.invalid {
        return refuse(STREAM_CAPTURE_INVALIDATED, format!("EE1016: the capture was invalidated by {call}"));
    }
    if capture.group.is_some() {
        return refuse(TASK_GROUP_STATUS, "EE1016: the capture ended inside a task group");
    }
    if !joined(&capture) {
        return refuse(
            STREAM_UNJOINED,
            "EE1016: a stream that joined the capture was not joined back (record an event there, wait for it here)",
        );
    }
    Ok(capture)
}
