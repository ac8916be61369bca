//! Control of the simulator: profiles, constants, execution, faults. Not part of AscendCL.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};

use crate::nn::mode;
use crate::rt::code::{INVALID_PARAM, guard, refuse};
use crate::rt::profile::{DeviceProfile, HostProfile};
use crate::rt::state::{CHANGED, Counters, World, world};
use crate::rt::thread;
use crate::task::{Error, last_message};

/// Keys of [`control`], for messages.
const KEYS: &str = "device, host, devices, execute, software_queues, trace, reset_clock, fail_malloc, fail_task, \
                    fail_replay_task, lose_device, vary_sums, constant.NAME";

fn bad<T>(key: &str, value: &str, want: &str) -> Result<T, Error> {
    refuse(INVALID_PARAM, format!("control {key}: {value:?} is not {want}"))
}

fn switch(key: &str, value: &str) -> Result<bool, Error> {
    match value {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => bad(key, value, "0 or 1"),
    }
}

/// The n-th call from now, counted from 1; 0 for none.
fn nth(key: &str, value: &str) -> Result<Option<u64>, Error> {
    let n = value.parse::<u64>().or_else(|_| bad(key, value, "a count"))?;
    Ok((n > 0).then_some(n))
}

fn reset_clock(world: &mut World) {
    thread::reset_clock();
    world.counters = Counters::default();
    world.events.values_mut().for_each(|e| e.time = 0);
    for stream in world.streams.values_mut() {
        stream.ready = 0;
        stream.ends.clear();
        stream.queue.iter_mut().for_each(|e| e.submitted = 0);
    }
}

fn set_constant(world: &mut World, name: &str, value: &str) -> Result<(), Error> {
    let number = value.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
    let Some(number) = number else { return bad(name, value, "a number of at least 0") };
    if name.ends_with("_per_s") && number == 0.0 {
        return bad(name, value, "a rate");
    }
    if world.device.set(name, number) || world.host.set(name, number) {
        return Ok(());
    }
    refuse(INVALID_PARAM, format!("control: no constant {name:?}"))
}

/// Sets one property of the simulator.
pub fn control(key: &str, value: &str) -> Result<(), Error> {
    let mut world = world()?;
    match key {
        "device" => world.device = DeviceProfile::named(value)?,
        "host" => world.host = HostProfile::named(value)?,
        "devices" => match value.parse() {
            Ok(n @ 1..=64) => world.devices = n,
            _ => return bad(key, value, "1 to 64"),
        },
        "execute" => world.execute = switch(key, value)?,
        "software_queues" => world.software_queues = switch(key, value)?,
        "trace" => world.trace = switch(key, value)?.then(Vec::new),
        "reset_clock" => reset_clock(&mut world),
        "fail_malloc" => world.inject.malloc = nth(key, value)?,
        "fail_task" => world.inject.task = nth(key, value)?,
        "fail_replay_task" => world.inject.replay_task = nth(key, value)?,
        "vary_sums" => mode::vary_sums(switch(key, value)?),
        "lose_device" => world.lost = switch(key, value)?,
        _ => match key.strip_prefix("constant.") {
            Some(name) => return set_constant(&mut world, name, value),
            None => return refuse(INVALID_PARAM, format!("control: unknown key {key:?} (known: {KEYS})")),
        },
    }
    CHANGED.notify_all();
    Ok(())
}

/// `aioSimControl`.
///
/// # Safety
/// Both are null or texts that end in a zero.
pub unsafe extern "C" fn sim_control(key: *const c_char, value: *const c_char) -> i32 {
    guard(|| {
        if key.is_null() || value.is_null() {
            return refuse(INVALID_PARAM, "EH0002: key or value is null");
        }
        // SAFETY: not null, and as this function's.
        let (key, value) = unsafe { (CStr::from_ptr(key), CStr::from_ptr(value)) };
        control(&key.to_string_lossy(), &value.to_string_lossy())
    })
}

thread_local! {
    static TEXT: RefCell<CString> = RefCell::new(CString::default());
}

/// `aclGetRecentErrMsg`: text of this thread's last refused call, null if there was none; valid until the next call of
/// this function in the thread.
pub extern "C" fn recent_err_msg() -> *const c_char {
    let message = last_message();
    if message.is_empty() {
        return std::ptr::null();
    }
    let text = CString::new(message.replace('\0', " ")).unwrap_or_default();
    TEXT.with(|kept| {
        *kept.borrow_mut() = text;
        kept.borrow().as_ptr()
    })
}
