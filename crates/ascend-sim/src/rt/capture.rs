//! Capture of streams: begin, modes, state.

use std::collections::HashMap;
use std::ffi::c_void;

use crate::rt::code::{
    CAPTURE_UNMATCHED, CAPTURE_WRONG_THREAD, PARAM_INVALID, STREAM_CAPTURE_IMPLICIT, STREAM_CAPTURED,
    STREAM_NOT_CAPTURED, guard, out, put, refuse,
};
use crate::rt::device::current;
use crate::rt::state::{Capture, World, enter, ready};
use crate::rt::submit::{no_open_update, resolve};
use crate::rt::thread;
use crate::task::{Error, Handle};

fn check_mode(mode: i32) -> Result<(), Error> {
    if (thread::GLOBAL..=thread::RELAXED).contains(&mode) {
        return Ok(());
    }
    refuse(PARAM_INVALID, format!("EE1001: unknown capture mode {mode}"))
}

/// `aclmdlRICaptureBegin`: earlier work of the stream still runs.
pub extern "C" fn capture_begin(stream: *mut c_void, mode: i32) -> i32 {
    guard(|| {
        let mut world = enter()?;
        check_mode(mode)?;
        let stream = resolve(&mut world, stream as Handle)?;
        if current(&world)?.stream == stream {
            return refuse(STREAM_CAPTURE_IMPLICIT, "EE1016: the default stream cannot be captured");
        }
        no_open_update(&mut world, stream)?;
        if world.stream(stream)?.capture.is_some() {
            return refuse(STREAM_CAPTURED, "EE1016: the stream is being captured already");
        }
        let handle = world.handle();
        world.stream(stream)?.capture = Some(handle);
        let capture = Capture {
            origin: stream,
            thread: thread::id(),
            mode,
            invalid: None,
            nodes: Vec::new(),
            seen: HashMap::from([(stream, HashMap::new())]),
            marks: 0,
            group: None,
            groups: HashMap::new(),
        };
        world.captures.insert(handle, capture);
        Ok(())
    })
}

/// The capture that a stream began, for its end.
pub fn origin_of(world: &mut World, stream: Handle) -> Result<Handle, Error> {
    let handle = world.stream(stream)?.capture;
    let found = handle.and_then(|h| world.captures.get(&h).map(|c| (h, c)));
    let Some((handle, capture)) = found else {
        return refuse(STREAM_NOT_CAPTURED, "EE1016: the stream is not being captured");
    };
    if capture.origin != stream {
        return refuse(CAPTURE_UNMATCHED, "EE1016: the capture began on another stream");
    }
    if capture.thread != thread::id() && capture.mode != thread::RELAXED {
        return refuse(CAPTURE_WRONG_THREAD, "EE1016: the capture began in another thread, and not in mode RELAXED");
    }
    Ok(handle)
}

/// `aclmdlRICaptureGetInfo`: state 0 none, 1 active, 2 invalidated, and the handle that the graph will have.
///
/// # Safety
/// `state` and `graph` are null or writable.
pub unsafe extern "C" fn capture_get_info(stream: *mut c_void, state: *mut i32, graph: *mut *mut c_void) -> i32 {
    guard(|| {
        out(state, "status")?;
        let mut world = enter()?;
        let stream = resolve(&mut world, stream as Handle)?;
        let handle = world.stream(stream)?.capture;
        let capture = handle.and_then(|h| world.captures.get(&h));
        let value = capture.map_or(0, |c| if c.invalid.is_some() { 2 } else { 1 });
        // SAFETY: as this function's; `graph` is optional.
        unsafe {
            if !graph.is_null() {
                put(graph, handle.unwrap_or(0) as *mut c_void, "modelRI")?;
            }
            put(state, value, "status")
        }
    })
}

/// `aclmdlRICaptureThreadExchangeMode`: swaps the thread's mode with `mode`.
///
/// # Safety
/// `mode` is null or readable and writable.
pub unsafe extern "C" fn thread_exchange_mode(mode: *mut i32) -> i32 {
    guard(|| {
        out(mode, "mode")?;
        ready()?;
        // SAFETY: not null, and as this function's.
        let new = unsafe { mode.read_unaligned() };
        check_mode(new)?;
        let old = thread::mode();
        thread::set_mode(new);
        // SAFETY: as this function's.
        unsafe { put(mode, old, "mode") }
    })
}
