//! Streams: creation, synchronising, querying, host functions.

use std::ffi::c_void;
use std::sync::Arc;
use std::time::Duration;

use crate::rt::code::{
    INVALID_PARAM, PARAM_INVALID, RESOURCE_ALLOC_FAIL, STREAM_CAPTURED, STREAM_SYNC_TIMEOUT, guard, out, put, refuse,
};
use crate::rt::device::{current, drain_device};
use crate::rt::op::Op;
use crate::rt::rule::{Target, no_sync};
use crate::rt::run::drain;
use crate::rt::state::{MAX_STREAMS, World, enter, world};
use crate::rt::submit::{no_open_update, resolve, submit};
use crate::rt::thread;
use crate::task::{Cost, Error, Handle, Task};

const FAST_SYNC: u32 = 2;
const KNOWN_FLAGS: u32 = 0xf;

fn create(stream: *mut *mut c_void, flags: u32) -> Result<Handle, Error> {
    out(stream, "stream")?;
    if flags & !KNOWN_FLAGS != 0 {
        return refuse(PARAM_INVALID, format!("EE1001: unknown stream flags {flags:#x}"));
    }
    let mut world = enter()?;
    current(&world)?;
    if world.streams_held() >= MAX_STREAMS {
        return refuse(
            RESOURCE_ALLOC_FAIL,
            format!("EE1023: Too many streams are created: {} (graphs hold streams too)", world.streams_held()),
        );
    }
    Ok(world.add_stream(thread::context(), flags & FAST_SYNC != 0))
}

/// `aclrtCreateStream`.
///
/// # Safety
/// `stream` is null or writable.
pub unsafe extern "C" fn create_stream(stream: *mut *mut c_void) -> i32 {
    // SAFETY: as this function's; `create` refuses null.
    guard(|| unsafe { put(stream, create(stream, 0)? as *mut c_void, "stream") })
}

/// `aclrtCreateStreamWithConfig`: priorities 0 to 7 are accepted and have no effect.
///
/// # Safety
/// `stream` is null or writable.
pub unsafe extern "C" fn create_stream_with_config(stream: *mut *mut c_void, priority: u32, flags: u32) -> i32 {
    guard(|| {
        if priority > 7 {
            return refuse(PARAM_INVALID, format!("EE1001: stream priority {priority} is not in 0..=7"));
        }
        // SAFETY: as this function's; `create` refuses null.
        unsafe { put(stream, create(stream, flags)? as *mut c_void, "stream") }
    })
}

fn destroy(stream: *mut c_void, force: bool) -> Result<(), Error> {
    let handle = stream as Handle;
    let mut world = world()?;
    if world.stream(handle)?.capture.is_some() {
        return refuse(STREAM_CAPTURED, "EE1016: the stream is being captured");
    }
    if world.contexts.values().any(|c| c.stream == handle) {
        return refuse(PARAM_INVALID, "EE1001: a default stream ends with its context");
    }
    let lost = world.lost;
    drop(world);
    if !force && !lost {
        drain(handle, None, |_| false)?;
    }
    crate::rt::state::world()?.streams.remove(&handle);
    Ok(())
}

/// `aclrtDestroyStream`: finishes the stream's work first.
pub extern "C" fn destroy_stream(stream: *mut c_void) -> i32 {
    guard(|| destroy(stream, false))
}

/// `aclrtDestroyStreamForce`: drops the stream's work.
pub extern "C" fn destroy_stream_force(stream: *mut c_void) -> i32 {
    guard(|| destroy(stream, true))
}

/// The failure of a stream; it is reported once, unless the stream stops on failure.
fn take_fault(world: &mut World, handle: Handle) -> Result<(), Error> {
    let stream = world.stream(handle)?;
    let fault = if stream.stop_on_failure { stream.fault.clone() } else { stream.fault.take() };
    fault.map_or(Ok(()), |fault| refuse(fault.code, fault.message))
}

/// The host waits until `end`, at most `limit` of modelled time, plus the cost of synchronising.
fn host_wait(world: &mut World, end: u64, fast: bool, limit: Option<Duration>, what: &str) -> Result<(), Error> {
    let now = thread::now();
    let most = limit.map_or(u64::MAX, |l| now.saturating_add(l.as_nanos() as u64));
    thread::wait_until(end.min(most));
    let cost = if fast { world.host.sync_ns * 0.4 } else { world.host.sync_ns };
    thread::spend(cost);
    world.counters.syncs += 1;
    world.span(-1 - thread::id() as i64, "synchronise", now, thread::now() - now);
    if end > most {
        return refuse(
            STREAM_SYNC_TIMEOUT,
            format!("EE1002: {what} did not finish in {:?} of modelled time", limit.unwrap_or_default()),
        );
    }
    Ok(())
}

fn limit(ms: i32) -> Result<Option<Duration>, Error> {
    match ms {
        -1 => Ok(None),
        ms if ms > 0 => Ok(Some(Duration::from_millis(ms as u64))),
        _ => refuse(INVALID_PARAM, format!("EH0002: timeout must be -1 or positive, got {ms}")),
    }
}

fn synchronize(stream: *mut c_void, limit: Option<Duration>, call: &str) -> Result<(), Error> {
    let mut world = enter()?;
    let handle = resolve(&mut world, stream as Handle)?;
    no_sync(&mut world, call, Target::Stream(handle))?;
    drop(world);
    drain(handle, limit, |_| false)?;
    let mut world = enter()?;
    let (end, fast) = (world.stream(handle)?.ready, world.stream(handle)?.fast_sync);
    host_wait(&mut world, end, fast, limit, "the stream")?;
    world.stream(handle)?.ends.clear();
    take_fault(&mut world, handle)
}

/// `aclrtSynchronizeStream`.
pub extern "C" fn synchronize_stream(stream: *mut c_void) -> i32 {
    guard(|| synchronize(stream, None, "aclrtSynchronizeStream"))
}

/// `aclrtSynchronizeStreamWithTimeout`: the timeout is of modelled time.
pub extern "C" fn synchronize_stream_with_timeout(stream: *mut c_void, ms: i32) -> i32 {
    guard(|| synchronize(stream, limit(ms)?, "aclrtSynchronizeStreamWithTimeout"))
}

fn synchronize_all(limit: Option<Duration>, call: &str) -> Result<(), Error> {
    let mut world = enter()?;
    no_sync(&mut world, call, Target::Device)?;
    drop(world);
    let (streams, end) = drain_device(limit)?;
    let mut world = enter()?;
    host_wait(&mut world, end, false, limit, "the device")?;
    streams
        .into_iter()
        .filter(|s| enter_has(&world, *s))
        .collect::<Vec<_>>()
        .into_iter()
        .try_for_each(|s| take_fault(&mut world, s))
}

fn enter_has(world: &World, stream: Handle) -> bool {
    world.streams.contains_key(&stream)
}

/// `aclrtSynchronizeDevice`.
pub extern "C" fn synchronize_device() -> i32 {
    guard(|| synchronize_all(None, "aclrtSynchronizeDevice"))
}

/// `aclrtSynchronizeDeviceWithTimeout`: the timeout is of modelled time.
pub extern "C" fn synchronize_device_with_timeout(ms: i32) -> i32 {
    guard(|| synchronize_all(limit(ms)?, "aclrtSynchronizeDeviceWithTimeout"))
}

/// `aclrtStreamQuery`: 0 complete, 1 not yet, by the modelled clock.
///
/// # Safety
/// `status` is null or writable.
pub unsafe extern "C" fn stream_query(stream: *mut c_void, status: *mut i32) -> i32 {
    guard(|| {
        out(status, "status")?;
        let mut world = enter()?;
        let handle = resolve(&mut world, stream as Handle)?;
        no_sync(&mut world, "aclrtStreamQuery", Target::Stream(handle))?;
        thread::spend(world.host.event_ns);
        drop(world);
        let stuck = drain(handle, Some(Duration::ZERO), |_| false).is_err();
        let complete = !stuck && enter()?.stream(handle)?.ready <= thread::now();
        // SAFETY: as this function's.
        unsafe { put(status, i32::from(!complete), "status") }
    })
}

/// `aclrtSetStreamFailureMode`: 0 continue, 1 stop on failure.
pub extern "C" fn set_stream_failure_mode(stream: *mut c_void, mode: u64) -> i32 {
    guard(|| {
        let mut world = enter()?;
        let handle = resolve(&mut world, stream as Handle)?;
        if mode > 1 {
            return refuse(PARAM_INVALID, format!("EE1001: unknown failure mode {mode}"));
        }
        no_open_update(&mut world, handle)?;
        world.stream(handle)?.stop_on_failure = mode == 1;
        Ok(())
    })
}

/// `aclrtStreamGetId`.
///
/// # Safety
/// `id` is null or writable.
pub unsafe extern "C" fn stream_get_id(stream: *mut c_void, id: *mut i32) -> i32 {
    guard(|| {
        let mut world = enter()?;
        let handle = resolve(&mut world, stream as Handle)?;
        let number = world.stream(handle)?.id;
        // SAFETY: as this function's.
        unsafe { put(id, number, "streamId") }
    })
}

/// A host function of the caller's.
pub type HostFunc = Option<unsafe extern "C" fn(*mut c_void)>;

/// `aclrtLaunchHostFunc`: runs the function when the stream reaches it. It must not call the runtime.
pub extern "C" fn launch_host_func(stream: *mut c_void, func: HostFunc, args: *mut c_void) -> i32 {
    guard(|| {
        let Some(func) = func else { return refuse(INVALID_PARAM, "EH0002: fn is null") };
        let args = args as usize;
        let run = Arc::new(move || {
            // SAFETY: the caller vouches for the function and its argument until the stream has run it.
            unsafe { func(args as *mut c_void) };
            Ok(())
        });
        let task = Task { cost: Cost { name: "host function", ..Cost::default() }, run, updatable: false };
        submit(stream as Handle, "a host function", |w| w.host.event_ns, Op::Work { task, bus: None })
    })
}
