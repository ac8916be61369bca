//! Events: recording, waiting, timing.

use std::ffi::c_void;
use std::time::Duration;

use crate::rt::code::{
    CAPTURE_CONFLICT, CAPTURE_DEPENDENCY, EVENT_CAPTURED, EVENT_TIMESTAMP_INVALID, EVENT_TIMESTAMP_REVERSAL,
    INVALID_PARAM, NO_EVENT, PARAM_INVALID, STREAM_CAPTURE_IMPLICIT, STREAM_SYNC_TIMEOUT, WAIT_TIMEOUT, guard, out,
    put, refuse,
};
use crate::rt::op::Op;
use crate::rt::rule::{Target, invalidate, invalidate_stream, no_sync};
use crate::rt::run::drain;
use crate::rt::state::{Event, MAX_EVENTS, World, enter, world};
use crate::rt::submit::{not_in_group, push, resolve, store};
use crate::rt::thread;
use crate::task::{Error, Handle};

const TIME_LINE: u32 = 0x8;
const EXTERNAL: u32 = 0x20;
const KNOWN_FLAGS: u32 = 0x7b;
/// Step of the device's timer.
const TICK_NS: u64 = 20;

fn create(event: *mut *mut c_void, flags: u32) -> Result<(), Error> {
    out(event, "event")?;
    if flags & !KNOWN_FLAGS != 0 {
        return refuse(PARAM_INVALID, format!("EE1001: unknown event flags {flags:#x}"));
    }
    let mut world = enter()?;
    let handle = world.handle();
    world.events.insert(handle, Event { flags, ..Event::default() });
    // SAFETY: not null, and every caller's contract says that it is writable.
    unsafe { put(event, handle as *mut c_void, "event") }
}

/// `aclrtCreateEvent`: with timing.
///
/// # Safety
/// `event` is null or writable.
pub unsafe extern "C" fn create_event(event: *mut *mut c_void) -> i32 {
    guard(|| create(event, TIME_LINE))
}

/// `aclrtCreateEventWithFlag`, and `aclrtCreateEventExWithFlag`.
///
/// # Safety
/// `event` is null or writable.
pub unsafe extern "C" fn create_event_with_flag(event: *mut *mut c_void, flags: u32) -> i32 {
    guard(|| create(event, flags))
}

/// `aclrtDestroyEvent`: records and waits that were submitted before keep their effect.
pub extern "C" fn destroy_event(event: *mut c_void) -> i32 {
    guard(|| {
        let mut world = world()?;
        let captured = world.event(event as Handle)?.captured.as_ref().map(|(c, ..)| *c);
        if captured.is_some_and(|c| world.captures.contains_key(&c)) {
            return refuse(EVENT_CAPTURED, "EE1016: the event belongs to an active capture");
        }
        let found = world.event(event as Handle)?;
        found.gone = true;
        let held = found.allocated;
        world.events_held -= usize::from(held);
        world.forget_events();
        Ok(())
    })
}

/// Takes one of the device's events at the first record.
fn allocate(world: &mut World, event: Handle) -> Result<(), Error> {
    if world.event(event)?.allocated {
        return Ok(());
    }
    if world.events_held >= MAX_EVENTS {
        return refuse(NO_EVENT, format!("EE1023: more than {MAX_EVENTS} events are in use"));
    }
    world.event(event)?.allocated = true;
    world.events_held += 1;
    Ok(())
}

fn record_captured(world: &mut World, event: Handle, stream: Handle, capture: Handle) -> Result<(), Error> {
    if world.event(event)?.flags & EXTERNAL != 0 {
        return store(world, stream, Op::Record { event });
    }
    let mark = world.captures.get_mut(&capture).map(|c| {
        c.marks += 1;
        (c.marks, c.seen.get(&stream).cloned().unwrap_or_default())
    });
    let (slot, seen) = mark.unwrap_or_default();
    store(world, stream, Op::Mark { slot })?;
    world.event(event)?.captured = Some((capture, slot, seen));
    Ok(())
}

/// `aclrtRecordEvent`.
pub extern "C" fn record_event(event: *mut c_void, stream: *mut c_void) -> i32 {
    guard(|| {
        let (mut world, event) = (enter()?, event as Handle);
        let stream = resolve(&mut world, stream as Handle)?;
        world.event(event)?;
        not_in_group(&mut world, stream, "an event record")?;
        allocate(&mut world, event)?;
        thread::spend(world.host.event_ns);
        if let Some(capture) = world.stream(stream)?.capture {
            return record_captured(&mut world, event, stream, capture);
        }
        let found = world.event(event)?;
        found.issued += 1;
        found.stream = stream;
        found.captured = None;
        drop(world);
        push(stream, Op::Record { event })
    })
}

/// A wait in a capture: for a mark of the same capture, which lets another stream join, or for an external event.
fn wait_captured(world: &mut World, event: Handle, stream: Handle) -> Result<bool, Error> {
    let own = world.stream(stream)?.capture;
    let found = world.event(event)?;
    let external = found.flags & EXTERNAL != 0;
    let mark = found.captured.clone().filter(|_| !external);
    let mark = mark.filter(|(c, ..)| world.captures.contains_key(c));
    match (own, mark) {
        (None, None) => Ok(false),
        (Some(_), None) if external => store(world, stream, Op::WaitSet { event }).map(|()| true),
        (Some(_), None) => {
            invalidate_stream(world, stream, "aclrtStreamWaitEvent for work outside the capture");
            refuse(
                CAPTURE_DEPENDENCY,
                "EE1016: a captured stream cannot wait for an event recorded outside the capture",
            )
        }
        (Some(own), Some((other, ..))) if own != other => {
            invalidate_stream(world, stream, "aclrtStreamWaitEvent that would merge two captures");
            refuse(CAPTURE_CONFLICT, "EE1016: the event belongs to another capture")
        }
        (None, Some((capture, ..))) if world.contexts.values().any(|c| c.stream == stream) => {
            invalidate(world, capture, "aclrtStreamWaitEvent on the default stream");
            refuse(
                STREAM_CAPTURE_IMPLICIT,
                "EE1016: the default stream cannot join a capture; the capture is now invalid",
            )
        }
        (_, Some((capture, slot, seen))) => {
            world.stream(stream)?.capture = Some(capture);
            if let Some(capture) = world.captures.get_mut(&capture) {
                let mine = capture.seen.entry(stream).or_default();
                for (lane, count) in seen {
                    let known = mine.entry(lane).or_insert(0);
                    *known = count.max(*known);
                }
            }
            store(world, stream, Op::Join { slot }).map(|()| true)
        }
    }
}

/// `aclrtStreamWaitEvent`: waits for the last record; without one since the last reset, for the next.
pub extern "C" fn stream_wait_event(stream: *mut c_void, event: *mut c_void) -> i32 {
    guard(|| {
        let (mut world, event) = (enter()?, event as Handle);
        let stream = resolve(&mut world, stream as Handle)?;
        world.event(event)?;
        not_in_group(&mut world, stream, "an event wait")?;
        thread::spend(world.host.event_ns);
        if wait_captured(&mut world, event, stream)? {
            return Ok(());
        }
        let found = world.event(event)?;
        let target = if found.issued > found.reset_at { found.issued } else { found.issued + 1 };
        drop(world);
        push(stream, Op::Wait { event, target })
    })
}

/// `aclrtResetEvent`: a task of the stream.
pub extern "C" fn reset_event(event: *mut c_void, stream: *mut c_void) -> i32 {
    guard(|| {
        let (mut world, event) = (enter()?, event as Handle);
        let stream = resolve(&mut world, stream as Handle)?;
        world.event(event)?;
        not_in_group(&mut world, stream, "an event reset")?;
        thread::spend(world.host.event_ns);
        if world.stream(stream)?.capture.is_some() {
            return store(&mut world, stream, Op::Reset { event });
        }
        let found = world.event(event)?;
        found.reset_at = found.issued;
        drop(world);
        push(stream, Op::Reset { event })
    })
}

/// Runs the stream of an event's last record up to it.
fn complete(event: Handle, limit: Option<Duration>) -> Result<(), Error> {
    let mut world = enter()?;
    let found = world.event(event)?;
    let (target, stream) = (found.issued, found.stream);
    drop(world);
    let timeout = |e: Error| if e.code == STREAM_SYNC_TIMEOUT { Error { code: WAIT_TIMEOUT, ..e } } else { e };
    drain(stream, limit, |w| w.events.get(&event).is_none_or(|e| e.done >= target)).map_err(timeout)?;
    if enter()?.event(event)?.done < target {
        return refuse(WAIT_TIMEOUT, "EE1002: the stream that was to record the event was destroyed");
    }
    Ok(())
}

fn synchronize(event: *mut c_void, ms: i32) -> Result<(), Error> {
    let (mut world, event) = (enter()?, event as Handle);
    world.event(event)?;
    if ms < -1 || ms == 0 {
        return refuse(INVALID_PARAM, format!("EH0002: timeout must be -1 or positive, got {ms}"));
    }
    no_sync(&mut world, "aclrtSynchronizeEvent", Target::Event(event))?;
    drop(world);
    let limit = (ms > 0).then(|| Duration::from_millis(ms as u64));
    complete(event, limit)?;
    let mut world = enter()?;
    let end = world.event(event)?.time;
    let most = limit.map_or(u64::MAX, |l| thread::now().saturating_add(l.as_nanos() as u64));
    thread::wait_until(end.min(most));
    thread::spend(world.host.sync_ns);
    world.counters.syncs += 1;
    if end > most {
        return refuse(WAIT_TIMEOUT, format!("EE1002: the event was not recorded in {ms} ms of modelled time"));
    }
    Ok(())
}

/// `aclrtSynchronizeEvent`.
pub extern "C" fn synchronize_event(event: *mut c_void) -> i32 {
    guard(|| synchronize(event, -1))
}

/// `aclrtSynchronizeEventWithTimeout`: the timeout is of modelled time.
pub extern "C" fn synchronize_event_with_timeout(event: *mut c_void, ms: i32) -> i32 {
    guard(|| synchronize(event, ms))
}

/// `aclrtQueryEventStatus`: 0 not ready, 1 complete.
///
/// # Safety
/// `status` is null or writable.
pub unsafe extern "C" fn query_event_status(event: *mut c_void, status: *mut i32) -> i32 {
    guard(|| {
        out(status, "status")?;
        let (mut world, event) = (enter()?, event as Handle);
        world.event(event)?;
        no_sync(&mut world, "aclrtQueryEventStatus", Target::Event(event))?;
        thread::spend(world.host.event_ns);
        drop(world);
        let stuck = complete(event, Some(Duration::ZERO)).is_err();
        let mut world = enter()?;
        let found = world.event(event)?;
        let complete = !stuck && found.done >= found.issued && found.time <= thread::now();
        // SAFETY: as this function's.
        unsafe { put(status, i32::from(complete), "status") }
    })
}

/// Device time of a completed event.
fn stamp(world: &mut World, event: *mut c_void) -> Result<u64, Error> {
    let found = world.event(event as Handle)?;
    if found.flags & TIME_LINE == 0 {
        return refuse(EVENT_TIMESTAMP_INVALID, "EE1001: the event was created without the flag for timing");
    }
    if found.issued == 0 || found.done < found.issued {
        return refuse(EVENT_TIMESTAMP_INVALID, "EE1001: the event has not been recorded, or not reached yet");
    }
    Ok(found.time / TICK_NS * TICK_NS)
}

/// `aclrtEventElapsedTime`: modelled milliseconds.
///
/// # Safety
/// `ms` is null or writable.
pub unsafe extern "C" fn event_elapsed_time(ms: *mut f32, start: *mut c_void, end: *mut c_void) -> i32 {
    guard(|| {
        let mut world = enter()?;
        let (start, end) = (stamp(&mut world, start)?, stamp(&mut world, end)?);
        if end < start {
            return refuse(EVENT_TIMESTAMP_REVERSAL, "EE1001: the end event is earlier than the start event");
        }
        // SAFETY: as this function's.
        unsafe { put(ms, ((end - start) as f64 / 1e6) as f32, "ms") }
    })
}

/// `aclrtEventGetTimestamp`: modelled microseconds.
///
/// # Safety
/// `us` is null or writable.
pub unsafe extern "C" fn event_get_timestamp(event: *mut c_void, us: *mut u64) -> i32 {
    guard(|| {
        let at = stamp(&mut *enter()?, event)?;
        // SAFETY: as this function's.
        unsafe { put(us, at / 1000, "timestamp") }
    })
}
