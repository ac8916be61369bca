//! Initialisation, devices and contexts.

use std::ffi::{c_char, c_void};

use crate::rt::close::close;
use crate::rt::code::{
    CONTEXT_NULL, INVALID_DEVICEID, INVALID_HANDLE, INVALID_PARAM, PARAM_INVALID, REPEAT_FINALIZE, REPEAT_INITIALIZE,
    UNINITIALIZE, guard, out, put, refuse,
};
use crate::rt::run::drain;
use crate::rt::state::{Capture, Context, World, enter, world};
use crate::rt::{block, thread, vmm};
use crate::task::{Error, Handle};

/// `aclInit`: the configuration file is ignored.
pub extern "C" fn acl_init(_config: *const c_char) -> i32 {
    guard(|| {
        let mut world = world()?;
        if world.ready {
            return refuse(REPEAT_INITIALIZE, "EH0001: aclInit was called already");
        }
        world.ready = true;
        world.finalized = false;
        Ok(())
    })
}

/// `aclFinalize`: releases every device.
pub extern "C" fn acl_finalize() -> i32 {
    guard(|| {
        let mut world = world()?;
        if !world.ready {
            let (code, what) =
                if world.finalized { (REPEAT_FINALIZE, "again") } else { (UNINITIALIZE, "before aclInit") };
            return refuse(code, format!("EH0001: aclFinalize was called {what}"));
        }
        let devices: Vec<_> = world.open.keys().copied().collect();
        devices.into_iter().for_each(|device| release(&mut world, device));
        (world.ready, world.finalized) = (false, true);
        Ok(())
    })
}

fn check_device(world: &World, device: i32) -> Result<(), Error> {
    if (0..world.devices).contains(&device) {
        return Ok(());
    }
    refuse(INVALID_DEVICEID, format!("EE1001: device {device} does not exist (devices: {})", world.devices))
}

fn add_context(world: &mut World, device: i32, implicit: bool) -> Handle {
    let handle = world.handle();
    let stream = world.add_stream(handle, false);
    world.contexts.insert(handle, Context { device, stream, implicit });
    handle
}

/// Removes a context and its streams. A capture ends with the stream that began it.
fn remove_context(world: &mut World, context: Handle) {
    world.contexts.remove(&context);
    world.streams.retain(|_, s| s.context != context);
    let orphan = |(&h, c): (&Handle, &Capture)| (!world.streams.contains_key(&c.origin)).then_some(h);
    let orphans: Vec<_> = world.captures.iter().filter_map(orphan).collect();
    orphans.into_iter().for_each(|capture| drop(close(world, capture)));
}

/// Removes everything of a device.
fn release(world: &mut World, device: i32) {
    world.open.remove(&device);
    world.lost = false;
    let gone: Vec<_> = world.contexts.iter().filter(|(_, c)| c.device == device).map(|(&h, _)| h).collect();
    gone.into_iter().for_each(|context| remove_context(world, context));
    if world.contexts.is_empty() {
        world.events.clear();
        world.events_held = 0;
        world.captures.clear();
        world.groups.clear();
        world.graphs.clear();
        vmm::release_all();
        block::free_device();
    }
}

/// `aclrtSetDevice`: makes the device's implicit context current.
pub extern "C" fn set_device(device: i32) -> i32 {
    guard(|| {
        let mut world = enter()?;
        check_device(&world, device)?;
        *world.open.entry(device).or_insert(0) += 1;
        let found = world.contexts.iter().find(|(_, c)| c.device == device && c.implicit).map(|(&h, _)| h);
        let context = found.unwrap_or_else(|| add_context(&mut world, device, true));
        thread::set_context(context);
        Ok(())
    })
}

fn reset(device: i32, force: bool) -> Result<(), Error> {
    let mut world = world()?;
    if !world.ready {
        return refuse(UNINITIALIZE, "EH0001: aclInit has not been called");
    }
    check_device(&world, device)?;
    let Some(uses) = world.open.get_mut(&device) else {
        return refuse(INVALID_DEVICEID, format!("EE1001: device {device} has not been set"));
    };
    *uses -= 1;
    if force || *uses == 0 {
        release(&mut world, device);
        thread::set_context(0);
    }
    Ok(())
}

/// `aclrtResetDevice`: the last reset releases the device, with its streams, events, graphs and memory.
pub extern "C" fn reset_device(device: i32) -> i32 {
    guard(|| reset(device, false))
}

/// `aclrtResetDeviceForce`: releases the device at once.
pub extern "C" fn reset_device_force(device: i32) -> i32 {
    guard(|| reset(device, true))
}

/// The current context.
pub fn current(world: &World) -> Result<&Context, Error> {
    let none =
        || refuse(CONTEXT_NULL, "EE1001: the thread has no current context (aclrtSetDevice or aclrtSetCurrentContext)");
    world.contexts.get(&thread::context()).map_or_else(none, Ok)
}

/// `aclrtGetDevice`.
///
/// # Safety
/// `device` is null or writable.
pub unsafe extern "C" fn get_device(device: *mut i32) -> i32 {
    guard(|| {
        let current = current(&*enter()?)?.device;
        // SAFETY: as this function's.
        unsafe { put(device, current, "deviceId") }
    })
}

/// `aclrtGetDeviceCount`.
///
/// # Safety
/// `count` is null or writable.
pub unsafe extern "C" fn get_device_count(count: *mut u32) -> i32 {
    guard(|| {
        let devices = world()?.devices;
        // SAFETY: as this function's.
        unsafe { put(count, devices.max(0) as u32, "count") }
    })
}

/// `aclrtGetSocName`: static text.
pub extern "C" fn get_soc_name() -> *const c_char {
    let name = world().map_or("910B3", |w| w.device.name);
    let names =
        [("910B1", c"Ascend910B1"), ("910B2", c"Ascend910B2"), ("910B3", c"Ascend910B3"), ("910B4", c"Ascend910B4")];
    names.iter().find(|(n, _)| *n == name).map_or(c"Ascend910B3", |(_, soc)| soc).as_ptr()
}

/// `aclrtGetRunMode`: the caller runs on the host (1).
///
/// # Safety
/// `mode` is null or writable.
pub unsafe extern "C" fn get_run_mode(mode: *mut i32) -> i32 {
    const HOST: i32 = 1;
    // SAFETY: as this function's.
    guard(|| enter().and_then(|_world| unsafe { put(mode, HOST, "runMode") }))
}

/// `aclrtDeviceCanAccessPeer`.
///
/// # Safety
/// `can` is null or writable.
pub unsafe extern "C" fn device_can_access_peer(can: *mut i32, device: i32, peer: i32) -> i32 {
    guard(|| {
        let world = enter()?;
        check_device(&world, device)?;
        check_device(&world, peer)?;
        // SAFETY: as this function's.
        unsafe { put(can, i32::from(device != peer), "canAccessPeer") }
    })
}

/// `aclrtDeviceEnablePeerAccess`.
pub extern "C" fn device_enable_peer_access(peer: i32, flags: u32) -> i32 {
    guard(|| {
        let world = enter()?;
        check_device(&world, peer)?;
        if flags != 0 {
            return refuse(INVALID_PARAM, format!("EH0002: flags must be 0, got {flags}"));
        }
        Ok(())
    })
}

/// `aclrtCreateContext`: the new context becomes current.
///
/// # Safety
/// `context` is null or writable.
pub unsafe extern "C" fn create_context(context: *mut *mut c_void, device: i32) -> i32 {
    guard(|| {
        out(context, "context")?;
        let mut world = enter()?;
        check_device(&world, device)?;
        let handle = add_context(&mut world, device, false);
        thread::set_context(handle);
        // SAFETY: as this function's.
        unsafe { put(context, handle as *mut c_void, "context") }
    })
}

fn check_context(world: &World, context: *mut c_void) -> Result<Handle, Error> {
    let handle = context as Handle;
    if world.contexts.contains_key(&handle) {
        return Ok(handle);
    }
    let code = if context.is_null() { INVALID_PARAM } else { INVALID_HANDLE };
    refuse(code, format!("EE1001: {context:?} is not a live context"))
}

/// `aclrtDestroyContext`: with its streams.
pub extern "C" fn destroy_context(context: *mut c_void) -> i32 {
    guard(|| {
        let mut world = world()?;
        let handle = check_context(&world, context)?;
        if world.contexts[&handle].implicit {
            return refuse(PARAM_INVALID, "EE1001: the implicit context ends with aclrtResetDevice");
        }
        remove_context(&mut world, handle);
        Ok(())
    })
}

/// `aclrtSetCurrentContext`.
pub extern "C" fn set_current_context(context: *mut c_void) -> i32 {
    guard(|| {
        let world = enter()?;
        thread::set_context(check_context(&world, context)?);
        Ok(())
    })
}

/// `aclrtGetCurrentContext`.
///
/// # Safety
/// `context` is null or writable.
pub unsafe extern "C" fn get_current_context(context: *mut *mut c_void) -> i32 {
    guard(|| {
        current(&*enter()?)?;
        // SAFETY: as this function's.
        unsafe { put(context, thread::context() as *mut c_void, "context") }
    })
}

/// Runs every stream of the current context's device to its end; returns their handles and the latest device time.
pub fn drain_device(limit: Option<std::time::Duration>) -> Result<(Vec<Handle>, u64), Error> {
    let world = enter()?;
    let device = current(&world)?.device;
    let of_device = |c: &Handle| world.contexts.get(c).is_some_and(|c| c.device == device);
    let mut streams: Vec<_> = world.streams.iter().filter(|(_, s)| of_device(&s.context)).map(|(&h, _)| h).collect();
    drop(world);
    streams.sort_unstable();
    streams.iter().try_for_each(|&stream| drain(stream, limit, |_| false))?;
    let world = enter()?;
    let end = streams.iter().filter_map(|s| world.streams.get(s)).map(|s| s.ready).max();
    Ok((streams, end.unwrap_or(0)))
}
