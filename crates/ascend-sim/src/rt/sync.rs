//! Waiting for streams and events: the host's clock catches up with the device's.

use super::capture::no_sync;
use super::code::{LOST_HEARTBEAT, STREAM_SYNC_TIMEOUT, WAIT_TIMEOUT, refuse};
use super::pump::pump;
use super::state::{Locked, Sim};
use super::thread::{now, reach, spend};
use crate::task::{Error, Handle};

/// Longest wait in milliseconds; negative waits for ever.
pub type Timeout = i32;

fn idle(sim: &Sim, stream: Handle) -> bool {
    sim.streams.get(&stream).is_none_or(|s| s.queue.is_empty() && !s.busy)
}

/// Waits until `done`, or until nothing can make progress and a timeout was given.
fn wait_until(mut sim: Locked, done: impl Fn(&Sim) -> bool, timeout: Timeout, code: i32) -> Result<Locked, Error> {
    loop {
        sim = pump(sim)?;
        if done(&sim) {
            return Ok(sim);
        }
        if timeout >= 0 && !sim.streams.values().any(|s| s.busy) {
            reach(now() + timeout as u64 * 1_000_000);
            return refuse(code, format!("EE1001: nothing finished within {timeout} ms of modelled time"));
        }
        sim = sim.wait();
    }
}

fn arrive(end: u64, timeout: Timeout, code: i32) -> Result<(), Error> {
    let limit = u64::try_from(timeout).map_or(u64::MAX, |ms| now().saturating_add(ms * 1_000_000));
    reach(end.min(limit));
    if end > limit { refuse(code, format!("EE1001: not finished within {timeout} ms of modelled time")) } else { Ok(()) }
}

/// Waits for a stream and reports its first failure.
pub fn stream(mut sim: Locked, handle: Handle, timeout: Timeout) -> Result<Locked, Error> {
    let own = sim.streams.get(&handle).and_then(|s| s.capture);
    no_sync(&mut sim, own, "synchronising a stream")?;
    sim = wait_until(sim, |sim| idle(sim, handle), timeout, STREAM_SYNC_TIMEOUT)?;
    let ns = sim.host.sync_ns;
    let Some(stream) = sim.streams.get_mut(&handle) else { return Ok(sim) };
    let (end, fault) = (stream.end, stream.fault.take());
    arrive(end, timeout, STREAM_SYNC_TIMEOUT)?;
    sim.counters.synchronises += 1;
    spend(&mut sim, "synchronise", ns);
    match fault {
        Some(fault) => Err(Error { code: fault.code, message: fault.message }),
        None => Ok(sim),
    }
}

/// Waits for all streams of a device.
pub fn device(mut sim: Locked, device: usize, timeout: Timeout) -> Result<Locked, Error> {
    no_sync(&mut sim, None, "synchronising a device")?;
    let streams: Vec<Handle> = sim.streams.iter().filter(|(_, s)| s.device == device).map(|(&h, _)| h).collect();
    sim = wait_until(sim, |sim| streams.iter().all(|&s| idle(sim, s)), timeout, STREAM_SYNC_TIMEOUT)?;
    let states = || streams.iter().filter_map(|s| sim.streams.get(s));
    let end = states().map(|s| s.end).max().unwrap_or(0);
    arrive(end, timeout, STREAM_SYNC_TIMEOUT)?;
    let ns = sim.host.sync_ns;
    sim.counters.synchronises += 1;
    spend(&mut sim, "synchronise", ns);
    let fault = streams.iter().filter_map(|s| sim.streams.get_mut(s)?.fault.take()).next();
    match fault {
        Some(fault) => Err(Error { code: fault.code, message: fault.message }),
        None if sim.devices[device].lost => refuse(LOST_HEARTBEAT, format!("EE9999: device {device} does not answer")),
        None => Ok(sim),
    }
}

/// Waits for the records of an event that have been issued.
pub fn event(mut sim: Locked, handle: Handle, timeout: Timeout) -> Result<Locked, Error> {
    let own = sim.event(handle)?.captured.map(|(graph, ..)| graph);
    no_sync(&mut sim, own, "synchronising an event")?;
    let done = move |sim: &Sim| sim.events.get(&handle).is_none_or(|e| e.done >= e.issued);
    sim = wait_until(sim, done, timeout, WAIT_TIMEOUT)?;
    let end = sim.event(handle)?.time.unwrap_or(0);
    arrive(end, timeout, WAIT_TIMEOUT)?;
    let ns = sim.host.sync_ns;
    sim.counters.synchronises += 1;
    spend(&mut sim, "synchronise", ns);
    Ok(sim)
}

/// Waits until a stream's queue is empty, without the costs and rules of a synchronise.
pub fn drained(sim: Locked, handle: Handle) -> Result<(), Error> {
    let sim = wait_until(sim, |sim| idle(sim, handle), -1, STREAM_SYNC_TIMEOUT)?;
    reach(sim.streams.get(&handle).map_or(0, |s| s.end));
    Ok(())
}
