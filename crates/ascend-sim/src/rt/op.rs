//! What a stream's queue holds, and a captured graph, which is a list of the same.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::task::{Handle, Task};

/// One entry of a queue or a graph.
#[derive(Clone)]
pub enum Op {
    /// A kernel, copy, memset or host function; `bus` is the bytes over the host bus, if it is a copy of that kind.
    Work {
        /// What runs.
        task: Task,
        /// Bytes between host and device.
        bus: Option<usize>,
    },
    /// Completes an event.
    Record {
        /// The event.
        event: Handle,
    },
    /// Waits until the event has been recorded `target` times.
    Wait {
        /// The event.
        event: Handle,
        /// Number of the record.
        target: u64,
    },
    /// Waits until the event has been recorded since its last reset: the form of external events in a graph.
    WaitSet {
        /// The event.
        event: Handle,
    },
    /// Takes back the records of an event.
    Reset {
        /// The event.
        event: Handle,
    },
    /// Notes the time of a branch of a graph.
    Mark {
        /// Number of the note in the graph.
        slot: usize,
    },
    /// Waits for the time that a `Mark` noted.
    Join {
        /// Number of the note in the graph.
        slot: usize,
    },
    /// Runs a graph.
    Replay(Replay),
    /// Replaces tasks of a graph.
    Update {
        /// The graph.
        graph: Arc<Graph>,
        /// First node to be replaced.
        at: usize,
        /// The new tasks.
        tasks: Vec<Task>,
    },
}

impl Op {
    /// The event that it records, waits for or resets.
    pub fn event(&self) -> Option<Handle> {
        match self {
            Self::Record { event } | Self::Wait { event, .. } | Self::WaitSet { event } | Self::Reset { event } => {
                Some(*event)
            }
            _ => None,
        }
    }

    /// Name for reports and messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Work { task, .. } => task.cost.name,
            Self::Record { .. } => "event record",
            Self::Wait { .. } | Self::WaitSet { .. } => "event wait",
            Self::Reset { .. } => "event reset",
            Self::Mark { .. } | Self::Join { .. } => "branch",
            Self::Replay(_) => "graph replay",
            Self::Update { .. } => "task update",
        }
    }
}

/// Progress of one replay.
#[derive(Clone)]
pub struct Replay {
    /// The graph.
    pub graph: Arc<Graph>,
    /// Next node.
    pub cursor: usize,
    /// Device time of each captured stream.
    pub lanes: HashMap<Handle, u64>,
    /// Times that marks have noted.
    pub marks: HashMap<usize, u64>,
}

/// An entry of a graph.
#[derive(Clone)]
pub struct Node {
    /// The captured stream.
    pub lane: Handle,
    /// What runs.
    pub op: Op,
}

/// A captured graph.
pub struct Graph {
    /// Its handle.
    pub handle: Handle,
    /// Streams that it keeps from the device's limit.
    pub streams: usize,
    nodes: Mutex<Vec<Node>>,
}

impl Graph {
    /// A graph of the captured nodes.
    pub fn new(handle: Handle, streams: usize, nodes: Vec<Node>) -> Self {
        Self { handle, streams, nodes: Mutex::new(nodes) }
    }

    /// The nodes; task updates replace them.
    pub fn nodes(&self) -> MutexGuard<'_, Vec<Node>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An entry of a stream's queue.
pub struct Entry {
    /// What runs.
    pub op: Op,
    /// Host time when it was submitted.
    pub submitted: u64,
}
