//! Everything the simulated runtime knows: devices, contexts, streams, events, graphs.
//!
//! One lock guards it. Kernels run outside the lock, so that two threads can work on two streams.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ffi::c_void;
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;

use super::code::{CONTEXT_NULL, INVALID_DEVICEID, INVALID_HANDLE, LOST_HEARTBEAT, UNINITIALIZE, refuse};
use super::profile::{DeviceProfile, HostProfile};
use super::trace::Trace;
use crate::task::{Error, Fault, Handle, Task};

/// Streams of a device.
pub const MAX_STREAMS: usize = 1984;
/// Events of a device.
pub const MAX_EVENTS: usize = 65536;
/// Tasks that a stream's queue holds: 2048 slots, 35 reserved.
pub const QUEUE: usize = 2013;

/// A task in a queue or a graph, replaceable by a task update, with its fixed duration if it is a copy.
#[derive(Clone)]
pub struct Cell {
    /// The work.
    pub task: Arc<Mutex<Task>>,
    /// Duration in nanoseconds, where the cost rules do not apply.
    pub fixed: Option<u64>,
}

impl Cell {
    /// A cell whose duration follows from the task's cost.
    pub fn new(task: Task) -> Self {
        Self { task: Arc::new(Mutex::new(task)), fixed: None }
    }

    /// The task at this moment.
    pub fn get(&self) -> Task {
        self.task.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts another task in its place.
    pub fn set(&self, task: Task) {
        *self.task.lock().unwrap_or_else(PoisonError::into_inner) = task;
    }
}

/// A function of the host that a stream calls.
pub type HostFn = unsafe extern "C" fn(*mut c_void);

/// What a stream does next.
#[derive(Clone)]
pub enum Work {
    /// Run a kernel or a copy.
    Task(Cell),
    /// Set an event.
    Record(Handle),
    /// Wait for an event: until its `need`-th record, or until it is set.
    Wait(Handle, Option<u64>),
    /// Clear an event.
    Reset(Handle),
    /// Call the host.
    Call(HostFn, usize),
    /// Begin a replay of a graph.
    Replay(Handle),
    /// The replay of a graph has ended.
    ReplayEnd(Handle),
    /// Rewrite tasks of a graph.
    Update(Vec<(Cell, Task)>),
}

/// Work in a queue.
#[derive(Clone)]
pub struct Entry {
    /// What to do.
    pub work: Work,
    /// Host time at which it was submitted.
    pub at: u64,
    /// The graph it belongs to.
    pub graph: Option<Handle>,
}

/// A stream.
#[derive(Default)]
pub struct Stream {
    /// Number that `aclrtStreamGetId` tells.
    pub id: i32,
    /// Owner.
    pub context: Handle,
    /// The device.
    pub device: usize,
    /// Work that has not run.
    pub queue: VecDeque<Entry>,
    /// A thread runs its first task.
    pub busy: bool,
    /// Device time at which the last finished work ended.
    pub end: u64,
    /// End times of work that the host has not seen finished.
    pub ends: VecDeque<u64>,
    /// First failure since the last synchronise.
    pub fault: Option<Fault>,
    /// Drop what follows a failure.
    pub stop_on_failure: bool,
    /// The capture it takes part in.
    pub capture: Option<Handle>,
    /// The update in progress.
    pub update: Option<Update>,
    /// Streams of a graph's branches belong to no caller.
    pub hidden: bool,
    /// Its context's default stream.
    pub default: bool,
}

/// A task-group update in progress on a stream.
pub struct Update {
    /// The group.
    pub group: Handle,
    /// Tasks issued so far.
    pub tasks: Vec<Task>,
}

/// An event.
#[derive(Default)]
pub struct Event {
    /// Creation flags.
    pub flag: u32,
    /// Made by `aclrtCreateEventExWithFlag`: waiting for it before a record is no wait.
    pub ex: bool,
    /// Device whose event pool it uses since its first record.
    pub device: Option<usize>,
    /// Records issued.
    pub issued: u64,
    /// Records executed.
    pub done: u64,
    /// Records that a reset has cleared.
    pub cleared: u64,
    /// Device time of the last record.
    pub time: Option<u64>,
    /// Recorded in a capture: the capture, the lane, the lane's length after the record.
    pub captured: Option<(Handle, usize, usize)>,
}

/// A stream's part of a capture.
#[derive(Default)]
pub struct Lane {
    /// The captured stream.
    pub stream: Handle,
    /// What it does on replay.
    pub work: Vec<Work>,
    /// Length at which another lane waited for it.
    pub joined: usize,
    /// The open task group.
    pub group: Option<Vec<Cell>>,
    /// The stream that runs the lane on replay.
    pub runner: Handle,
}

/// State of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Records.
    Active,
    /// An illegal call was made.
    Invalidated,
    /// Ended: it can be replayed.
    Ready,
}

/// A captured graph, from the begin of its capture.
pub struct Graph {
    /// The device.
    pub device: usize,
    /// The owner.
    pub context: Handle,
    /// Mode of the capture.
    pub mode: i32,
    /// The capturing thread.
    pub thread: ThreadId,
    /// State.
    pub status: Status,
    /// The origin stream first.
    pub lanes: Vec<Lane>,
    /// Events recorded inside.
    pub events: BTreeSet<Handle>,
    /// Streams of the device that it holds.
    pub streams: usize,
    /// Replays that have not ended.
    pub running: usize,
    /// Device time at which the last replay ended.
    pub end: u64,
}

/// A task group of a graph.
pub struct Group {
    /// The graph.
    pub graph: Handle,
    /// Its tasks.
    pub cells: Vec<Cell>,
    /// An update is in progress.
    pub updating: bool,
}

/// A context.
pub struct Context {
    /// The device.
    pub device: usize,
    /// What a null stream means.
    pub default_stream: Handle,
    /// Made by `aclrtSetDevice`.
    pub primary: bool,
}

/// A device.
#[derive(Default)]
pub struct Device {
    /// Calls of `aclrtSetDevice` less resets.
    pub users: usize,
    /// The primary context, or 0.
    pub primary: Handle,
    /// Lost, until it is reset.
    pub lost: bool,
    /// Streams held by callers and graphs.
    pub streams: usize,
    /// Events in use.
    pub events: usize,
}

/// What the simulator counts since the last reset of the counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Operator calls, copies and memsets submitted one by one.
    pub launches: u64,
    /// Graph submissions.
    pub replays: u64,
    /// Synchronise calls.
    pub synchronises: u64,
    /// Tasks that ran on the device.
    pub tasks: u64,
    /// Bytes read by the cost rules.
    pub read: u64,
    /// Bytes written by the cost rules.
    pub written: u64,
    /// Device allocations.
    pub allocations: u64,
    /// Task-group updates.
    pub updates: u64,
    /// Updates that a replay in flight could have read (its end lay after the update's begin).
    pub overtaken: u64,
    /// Times the host waited for room in a queue.
    pub stalls: u64,
    /// Device time spent in tasks, in nanoseconds.
    pub busy_ns: u64,
}

/// Faults that a control call asks for.
#[derive(Default)]
pub struct Faults {
    /// Allocations until one fails.
    pub alloc: Option<u64>,
    /// Tasks until one fails.
    pub task: Option<u64>,
}

/// The simulator.
pub struct Sim {
    /// Between `aclInit` and `aclFinalize`.
    pub initialized: bool,
    /// The chip.
    pub chip: DeviceProfile,
    /// The host.
    pub host: HostProfile,
    /// Device memory in bytes; the chip's unless a control call sets it.
    pub capacity: usize,
    /// Graphs take streams only while they run.
    pub software_queues: bool,
    /// Devices.
    pub devices: Vec<Device>,
    /// Contexts.
    pub contexts: HashMap<Handle, Context>,
    /// Streams, in the order of creation.
    pub streams: BTreeMap<Handle, Stream>,
    /// Streams with work in the queue.
    pub pending: BTreeSet<Handle>,
    /// Events.
    pub events: HashMap<Handle, Event>,
    /// Graphs and captures.
    pub graphs: BTreeMap<Handle, Graph>,
    /// Task groups.
    pub groups: HashMap<Handle, Group>,
    /// Physical memory: bytes, device, whether it is mapped.
    pub physical: HashMap<Handle, (usize, usize, bool)>,
    /// Kernels and copies that run at this moment.
    pub running: usize,
    /// Counters.
    pub counters: Counters,
    /// Trace, while it is on.
    pub trace: Trace,
    /// Injected faults.
    pub faults: Faults,
    next: Handle,
    next_stream_id: i32,
}

impl Sim {
    fn new() -> Result<Self, Error> {
        let chip = DeviceProfile::named("910B3")?;
        Ok(Self {
            initialized: false,
            capacity: chip.hbm_bytes as usize,
            chip,
            host: HostProfile::named("native")?,
            software_queues: false,
            devices: vec![Device::default()],
            contexts: HashMap::new(),
            streams: BTreeMap::new(),
            pending: BTreeSet::new(),
            events: HashMap::new(),
            graphs: BTreeMap::new(),
            groups: HashMap::new(),
            physical: HashMap::new(),
            running: 0,
            counters: Counters::default(),
            trace: Trace::default(),
            faults: Faults::default(),
            next: 0x1000_0000,
            next_stream_id: 0,
        })
    }

    /// A handle that was never given out.
    pub fn handle(&mut self) -> Handle {
        self.next += 16;
        self.next
    }

    /// Adds a stream without counting it.
    pub fn add_stream(&mut self, context: Handle, device: usize) -> Handle {
        let handle = self.handle();
        let id = self.next_stream_id;
        self.next_stream_id += 1;
        self.streams.insert(handle, Stream { id, context, device, ..Stream::default() });
        handle
    }

    /// A device that exists.
    pub fn device(&mut self, id: i64) -> Result<(usize, &mut Device), Error> {
        if !self.initialized {
            return refuse(UNINITIALIZE, "EE1001: call aclInit first");
        }
        let count = self.devices.len();
        let index = usize::try_from(id).ok().filter(|&i| i < count);
        match index.and_then(|i| self.devices.get_mut(i).map(|d| (i, d))) {
            Some(found) => Ok(found),
            None => refuse(INVALID_DEVICEID, format!("EE1001: device {id} does not exist; there are {count}")),
        }
    }

    /// The context with that handle, its device alive.
    pub fn context(&self, handle: Handle) -> Result<&Context, Error> {
        let Some(context) = self.contexts.get(&handle) else {
            return refuse(CONTEXT_NULL, "EE1001: the thread has no context; call aclrtSetDevice or aclrtSetCurrentContext");
        };
        if self.devices[context.device].lost {
            return refuse(LOST_HEARTBEAT, format!("EE9999: device {} does not answer", context.device));
        }
        Ok(context)
    }

    /// The event with that handle.
    pub fn event(&mut self, handle: Handle) -> Result<&mut Event, Error> {
        let found = self.events.get_mut(&handle);
        found.map_or_else(|| refuse(INVALID_HANDLE, format!("EE1001: {handle:#x} is not a live event")), Ok)
    }

    /// The stream with that handle; the current context's default stream for null.
    pub fn stream(&mut self, handle: Handle, context: Handle) -> Result<Handle, Error> {
        let handle = if handle == 0 { self.context(context)?.default_stream } else { handle };
        match self.streams.get(&handle) {
            Some(stream) if !stream.hidden => {
                let owner = stream.context;
                self.context(owner).map(|_| handle)
            }
            _ => refuse(INVALID_HANDLE, format!("EE1001: {handle:#x} is not a live stream")),
        }
    }
}

struct Shared {
    sim: Mutex<Result<Sim, Error>>,
    changed: Condvar,
}

static SHARED: LazyLock<Shared> =
    LazyLock::new(|| Shared { sim: Mutex::new(Sim::new()), changed: Condvar::new() });

/// The locked state.
pub struct Locked(MutexGuard<'static, Result<Sim, Error>>);

/// Locks the state. Fails only if the built-in profiles are damaged.
pub fn lock() -> Result<Locked, Error> {
    let guard = SHARED.sim.lock().unwrap_or_else(PoisonError::into_inner);
    match &*guard {
        Ok(_) => Ok(Locked(guard)),
        Err(error) => Err(error.clone()),
    }
}

impl std::ops::Deref for Locked {
    type Target = Sim;
    fn deref(&self) -> &Sim {
        self.0.as_ref().expect("`lock` has checked it")
    }
}

impl std::ops::DerefMut for Locked {
    fn deref_mut(&mut self) -> &mut Sim {
        self.0.as_mut().expect("`lock` has checked it")
    }
}

impl Locked {
    /// Waits until another thread has changed something.
    pub fn wait(self) -> Self {
        Self(SHARED.changed.wait(self.0).unwrap_or_else(PoisonError::into_inner))
    }
}

/// Wakes the threads that wait for a change.
pub fn notify() {
    SHARED.changed.notify_all();
}
