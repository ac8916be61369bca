//! The data of the simulated runtime: every live handle, the profiles, the counters. One lock, one condition variable.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};

use crate::rt::code::{INVALID_HANDLE, LOST_HEARTBEAT, UNINITIALIZE, refuse};
use crate::rt::op::{Entry, Graph, Node};
use crate::rt::profile::{DeviceProfile, HostProfile};
use crate::task::{Error, Fault, Handle, Task};

/// Streams of a device, counting those that graphs hold.
pub const MAX_STREAMS: usize = 1984;
/// Events of a device.
pub const MAX_EVENTS: usize = 65536;
/// Tasks of a stream that are submitted and not finished.
pub const QUEUE_DEPTH: usize = 2048;
/// Tasks of one captured stream; after these a further stream is appended.
pub const TASKS_PER_STREAM: usize = 2013;

/// A context.
pub struct Context {
    /// Its device.
    pub device: i32,
    /// The stream that a null handle means.
    pub stream: Handle,
    /// Whether `aclrtSetDevice` made it.
    pub implicit: bool,
}

/// A stream.
pub struct Stream {
    /// Number for reports.
    pub id: i32,
    /// The context it belongs to.
    pub context: Handle,
    /// Whether a synchronise polls.
    pub fast_sync: bool,
    /// Whether the first failure ends the stream.
    pub stop_on_failure: bool,
    /// Submitted and not executed.
    pub queue: VecDeque<Entry>,
    /// A thread executes the head.
    pub running: bool,
    /// Device time when the last executed task ends.
    pub ready: u64,
    /// Ends of executed tasks that the host has not seen end.
    pub ends: VecDeque<u64>,
    /// First failure that no synchronise has reported.
    pub fault: Option<Fault>,
    /// The capture that records this stream.
    pub capture: Option<Handle>,
    /// An update that collects tasks.
    pub update: Option<Update>,
}

/// A task-group update between begin and end.
pub struct Update {
    /// The group.
    pub group: Handle,
    /// Tasks so far.
    pub tasks: Vec<Task>,
}

/// An event.
#[derive(Default)]
pub struct Event {
    /// Flags of its creation.
    pub flags: u32,
    /// Destroyed: calls refuse it, and what was submitted before still finds it.
    pub gone: bool,
    /// It holds one of the device's events (from its first record on).
    pub allocated: bool,
    /// Records that calls have issued.
    pub issued: u64,
    /// Records issued when it was last reset by a call.
    pub reset_at: u64,
    /// Records executed.
    pub done: u64,
    /// Records executed when the device last reset it.
    pub cleared: u64,
    /// Device time of the last executed record.
    pub time: u64,
    /// Stream of the last issued record.
    pub stream: Handle,
    /// Capture, mark and what precedes the mark, if it was last recorded in a capture.
    pub captured: Option<(Handle, usize, HashMap<Handle, usize>)>,
}

/// A capture between begin and end.
pub struct Capture {
    /// The stream that began it.
    pub origin: Handle,
    /// Thread that began it.
    pub thread: u64,
    /// Mode.
    pub mode: i32,
    /// The illegal call, if it is invalidated.
    pub invalid: Option<String>,
    /// Tasks so far.
    pub nodes: Vec<Node>,
    /// For each captured stream, how many entries of each stream precede its next one.
    pub seen: HashMap<Handle, HashMap<Handle, usize>>,
    /// Marks handed out.
    pub marks: usize,
    /// Open task group: its stream and first node.
    pub group: Option<(Handle, usize)>,
    /// Finished groups.
    pub groups: HashMap<Handle, (usize, usize)>,
}

/// A task group of a finished graph.
pub struct Group {
    /// The graph.
    pub graph: Arc<Graph>,
    /// First node.
    pub start: usize,
    /// Nodes.
    pub len: usize,
}

/// Counters of a report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Kernels submitted by single calls.
    pub launches: u64,
    /// Copies and memsets submitted by single calls.
    pub copies: u64,
    /// Graphs submitted.
    pub replays: u64,
    /// Synchronises of streams, events, devices.
    pub syncs: u64,
    /// Task-group updates.
    pub updates: u64,
    /// Tasks executed, by single calls or in graphs.
    pub tasks: u64,
    /// Busy device time in nanoseconds, summed over streams.
    pub busy: u64,
}

/// Time of one task, for traces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Stream number, or -1 - thread number for host spans.
    pub lane: i64,
    /// Kernel or call.
    pub name: &'static str,
    /// Start in nanoseconds.
    pub start: u64,
    /// Duration in nanoseconds.
    pub ns: u64,
}

/// Faults that a test asks for.
#[derive(Default)]
pub struct Inject {
    /// Allocations until one fails.
    pub malloc: Option<u64>,
    /// Tasks until one fails.
    pub task: Option<u64>,
    /// Tasks of graphs until one fails.
    pub replay_task: Option<u64>,
}

/// Whether this is the call that shall fail.
pub fn due(counter: &mut Option<u64>) -> bool {
    let hit = *counter == Some(1);
    *counter = counter.filter(|_| !hit).map(|n| n.saturating_sub(1));
    hit
}

/// Everything.
pub struct World {
    /// `aclInit` was called; `aclFinalize` was not.
    pub ready: bool,
    /// `aclFinalize` was called.
    pub finalized: bool,
    /// The device does not answer.
    pub lost: bool,
    /// Number of devices.
    pub devices: i32,
    /// Uses of each device by `aclrtSetDevice`.
    pub open: HashMap<i32, u64>,
    /// Constants of the chip.
    pub device: DeviceProfile,
    /// Constants of the host.
    pub host: HostProfile,
    /// Whether tasks run, or only their costs are counted.
    pub execute: bool,
    /// Whether idle graphs hold no streams.
    pub software_queues: bool,
    /// Live contexts.
    pub contexts: HashMap<Handle, Context>,
    /// Live streams.
    pub streams: HashMap<Handle, Stream>,
    /// Live events.
    pub events: HashMap<Handle, Event>,
    /// Live events that hold one of the device's.
    pub events_held: usize,
    /// Captures between begin and end.
    pub captures: HashMap<Handle, Capture>,
    /// Finished graphs.
    pub graphs: HashMap<Handle, Arc<Graph>>,
    /// Task groups of finished graphs.
    pub groups: HashMap<Handle, Group>,
    /// Threads that wait for the device, and cannot submit anything.
    pub blocked: HashSet<u64>,
    /// For reports.
    pub counters: Counters,
    /// For traces, if asked for.
    pub trace: Option<Vec<Span>>,
    /// Faults to come.
    pub inject: Inject,
    next: Handle,
    next_id: i32,
}

impl World {
    fn new() -> Result<Self, Error> {
        Ok(Self {
            ready: false,
            finalized: false,
            lost: false,
            devices: 1,
            open: HashMap::new(),
            device: DeviceProfile::named("910B3")?,
            host: HostProfile::named("native")?,
            execute: true,
            software_queues: false,
            contexts: HashMap::new(),
            streams: HashMap::new(),
            events: HashMap::new(),
            events_held: 0,
            captures: HashMap::new(),
            graphs: HashMap::new(),
            groups: HashMap::new(),
            blocked: HashSet::new(),
            counters: Counters::default(),
            trace: None,
            inject: Inject::default(),
            next: 0x6a00_0000_0000,
            next_id: 0,
        })
    }

    /// A new handle. Handles are never used again, so a dead one is recognised.
    pub fn handle(&mut self) -> Handle {
        self.next += 16;
        self.next
    }

    /// A new stream of a context.
    pub fn add_stream(&mut self, context: Handle, fast_sync: bool) -> Handle {
        let handle = self.handle();
        self.next_id += 1;
        let stream = Stream {
            id: self.next_id,
            context,
            fast_sync,
            stop_on_failure: false,
            queue: VecDeque::new(),
            running: false,
            ready: 0,
            ends: VecDeque::new(),
            fault: None,
            capture: None,
            update: None,
        };
        self.streams.insert(handle, stream);
        handle
    }

    /// Streams that count against the device's limit.
    pub fn streams_held(&self) -> usize {
        let graphs = if self.software_queues { 0 } else { self.graphs.values().map(|g| g.streams).sum() };
        self.streams.len() + graphs
    }

    /// A live stream.
    pub fn stream(&mut self, handle: Handle) -> Result<&mut Stream, Error> {
        let dead = || refuse(INVALID_HANDLE, format!("EE1001: {handle:#x} is not a live stream"));
        self.streams.get_mut(&handle).map_or_else(dead, Ok)
    }

    /// A live event.
    pub fn event(&mut self, handle: Handle) -> Result<&mut Event, Error> {
        let dead = || refuse(INVALID_HANDLE, format!("EE1001: {handle:#x} is not a live event"));
        self.events.get_mut(&handle).filter(|e| !e.gone).map_or_else(dead, Ok)
    }

    /// Forgets destroyed events that no submitted work refers to.
    pub fn forget_events(&mut self) {
        let submitted = self.streams.values().flat_map(|s| &s.queue);
        let used: HashSet<Handle> = submitted.filter_map(|entry| entry.op.event()).collect();
        self.events.retain(|handle, event| !event.gone || used.contains(handle));
    }

    /// Adds a span to the trace, if one is being made.
    pub fn span(&mut self, lane: i64, name: &'static str, start: u64, ns: u64) {
        if let Some(trace) = &mut self.trace {
            trace.push(Span { lane, name, start, ns });
        }
    }
}

static WORLD: LazyLock<Result<Mutex<World>, Error>> = LazyLock::new(|| Ok(Mutex::new(World::new()?)));

/// Told whenever something changes that a thread may wait for.
pub static CHANGED: Condvar = Condvar::new();

/// The state, whatever it is in.
pub fn world() -> Result<MutexGuard<'static, World>, Error> {
    match &*WORLD {
        Ok(world) => Ok(world.lock().unwrap_or_else(PoisonError::into_inner)),
        Err(error) => Err(error.clone()),
    }
}

/// The state for a call that needs `aclInit` and a device that answers.
pub fn enter() -> Result<MutexGuard<'static, World>, Error> {
    let world = world()?;
    if !world.ready {
        return refuse(UNINITIALIZE, "EH0001: aclInit has not been called");
    }
    if world.lost {
        return refuse(LOST_HEARTBEAT, "EE9999: the device is lost; reset it (aclrtResetDeviceForce) and set it again");
    }
    Ok(world)
}

/// [`enter`] for a call that needs no more of the state.
pub fn ready() -> Result<(), Error> {
    enter().map(drop)
}

/// Whether `aclInit` has been called: for calls that release, which a lost device must not stop.
pub fn initialised() -> Result<(), Error> {
    if world()?.ready { Ok(()) } else { refuse(UNINITIALIZE, "EH0001: aclInit has not been called") }
}
