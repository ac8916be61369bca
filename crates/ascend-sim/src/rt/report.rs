//! Report and trace of the modelled clock. Everything printed says that it is modelled.

use std::ffi::{CStr, c_char};
use std::fmt::Write as _;

use crate::rt::block;
use crate::rt::code::{INVALID_PARAM, guard, refuse};
use crate::rt::profile::Constant;
use crate::rt::state::{Counters, Span, World, world};
use crate::rt::{thread, vmm};
use crate::task::Error;

/// Live handles of each kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// Streams, default streams not counted.
    pub streams: usize,
    /// Events.
    pub events: usize,
    /// Graphs and captures.
    pub graphs: usize,
    /// Memory blocks, reservations and physical pieces.
    pub memory: usize,
    /// Tensors, scalars, arrays, lists.
    pub objects: usize,
    /// Executors.
    pub executors: usize,
}

/// A report.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Device profile.
    pub device: &'static str,
    /// Host profile.
    pub host: &'static str,
    /// Latest host time in modelled nanoseconds.
    pub host_ns: u64,
    /// Latest device time in modelled nanoseconds.
    pub device_ns: u64,
    /// Device memory in use, in bytes.
    pub memory: u64,
    /// Counters since the last reset.
    pub counters: Counters,
    /// Live handles.
    pub live: Live,
    /// Constants in use.
    pub constants: Vec<Constant>,
}

fn live(world: &World) -> Live {
    Live {
        streams: world.streams.len().saturating_sub(world.contexts.len()),
        events: world.events.values().filter(|e| !e.gone).count(),
        graphs: world.graphs.len() + world.captures.len(),
        memory: block::usage().1 + vmm::live(),
        objects: crate::tensor::handles::live(),
        executors: crate::tensor::exec::live(),
    }
}

/// The state of the clock, the counters and the live handles.
pub fn report() -> Result<Report, Error> {
    let world = world()?;
    let mut constants = world.device.constants.clone();
    constants.extend(world.host.constants.iter().cloned());
    Ok(Report {
        device: world.device.name,
        host: world.host.name,
        host_ns: thread::latest(),
        device_ns: world.streams.values().map(|s| s.ready).max().unwrap_or(0),
        memory: block::usage().0,
        counters: world.counters.clone(),
        live: live(&world),
        constants,
    })
}

/// A text as a JSON string.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => out.push(' '),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn constant_json(c: &Constant) -> String {
    format!(
        "{{\"name\":\"{}\",\"value\":{},\"low\":{},\"high\":{},\"source\":{},\"confidence\":{}}}",
        c.name,
        c.value,
        c.low,
        c.high,
        quoted(&c.source),
        quoted(&c.confidence)
    )
}

impl Report {
    /// The report as JSON.
    pub fn json(&self) -> String {
        let c = &self.counters;
        let l = &self.live;
        format!(
            "{{\"kind\":\"modelled\",\"device\":\"{}\",\"host\":\"{}\",\"host_ns\":{},\"device_ns\":{},\"memory\":{},\
             \"launches\":{},\"copies\":{},\"replays\":{},\"syncs\":{},\"updates\":{},\"tasks\":{},\"busy_ns\":{},\
             \"constants\":[{}],\
             \"live\":{{\"streams\":{},\"events\":{},\"graphs\":{},\"memory\":{},\"objects\":{},\"executors\":{}}}}}",
            self.device,
            self.host,
            self.host_ns,
            self.device_ns,
            self.memory,
            c.launches,
            c.copies,
            c.replays,
            c.syncs,
            c.updates,
            c.tasks,
            c.busy,
            self.constants.iter().map(constant_json).collect::<Vec<_>>().join(","),
            l.streams,
            l.events,
            l.graphs,
            l.memory,
            l.objects,
            l.executors
        )
    }
}

/// Takes the spans traced since tracing began.
pub fn take_trace() -> Result<Vec<Span>, Error> {
    Ok(world()?.trace.as_mut().map(std::mem::take).unwrap_or_default())
}

/// The spans in the form of Chrome and Perfetto; process 1 is the host, process 2 the device.
pub fn trace_json(spans: &[Span]) -> String {
    let mut out = String::from(
        "{\"displayTimeUnit\":\"ns\",\"otherData\":{\"kind\":\"modelled\"},\"traceEvents\":[\n\
         {\"name\":\"process_name\",\"ph\":\"M\",\"pid\":1,\"args\":{\"name\":\"host (modelled)\"}},\n\
         {\"name\":\"process_name\",\"ph\":\"M\",\"pid\":2,\"args\":{\"name\":\"device (modelled)\"}}",
    );
    for span in spans {
        let (pid, tid) = if span.lane < 0 { (1, -1 - span.lane) } else { (2, span.lane) };
        let (start, ns) = (span.start as f64 / 1e3, span.ns as f64 / 1e3);
        let event = format!(
            "{{\"name\":\"{}\",\"ph\":\"X\",\"pid\":{pid},\"tid\":{tid},\"ts\":{start},\"dur\":{ns}}}",
            span.name
        );
        let written = write!(out, ",\n{event}");
        debug_assert!(written.is_ok(), "writing to a string cannot fail");
    }
    out.push_str("\n]}\n");
    out
}

/// Copies a text with a final zero if it fits; returns the bytes needed, and whether it was copied.
///
/// # Safety
/// `buffer` is null or has `bytes` bytes.
unsafe fn give(text: &str, buffer: *mut c_char, bytes: usize) -> (usize, bool) {
    let needed = text.len() + 1;
    let fits = !buffer.is_null() && bytes >= needed;
    if fits {
        // SAFETY: the buffer has room for the text and the zero.
        unsafe {
            std::ptr::copy_nonoverlapping(text.as_ptr(), buffer.cast(), text.len());
            buffer.add(text.len()).write(0);
        }
    }
    (needed, fits)
}

/// `aioSimReport`: writes the report as text with a final zero; returns the bytes needed. A short buffer gets nothing.
///
/// # Safety
/// `buffer` is null or has `bytes` bytes.
pub unsafe extern "C" fn sim_report(buffer: *mut c_char, bytes: usize) -> usize {
    let mut needed = 0;
    guard(|| {
        // SAFETY: as this function's.
        needed = unsafe { give(&report()?.json(), buffer, bytes) }.0;
        Ok(())
    });
    needed
}

/// `aioSimTraceText`: the same for the trace, which starts afresh once it was written.
///
/// # Safety
/// `buffer` is null or has `bytes` bytes.
pub unsafe extern "C" fn sim_trace_text(buffer: *mut c_char, bytes: usize) -> usize {
    let mut needed = 0;
    guard(|| {
        let text = trace_json(world()?.trace.as_deref().unwrap_or_default());
        // SAFETY: as this function's.
        let (bytes, taken) = unsafe { give(&text, buffer, bytes) };
        needed = bytes;
        if taken {
            take_trace()?;
        }
        Ok(())
    });
    needed
}

/// `aioSimHostTime`: the latest host time of all threads, in modelled nanoseconds.
pub extern "C" fn sim_host_time() -> u64 {
    thread::latest()
}

/// `aioSimTrace`: writes the trace to a file and starts it afresh.
///
/// # Safety
/// `path` is null or a text that ends in a zero.
pub unsafe extern "C" fn sim_trace(path: *const c_char) -> i32 {
    guard(|| {
        if path.is_null() {
            return refuse(INVALID_PARAM, "EH0002: path is null");
        }
        // SAFETY: not null, and as this function's.
        let path = unsafe { CStr::from_ptr(path) }.to_string_lossy().into_owned();
        let text = trace_json(&take_trace()?);
        std::fs::write(&path, text).or_else(|e| refuse(INVALID_PARAM, format!("{path}: {e}")))
    })
}
