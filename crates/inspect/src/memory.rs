//! The arena over the tasks of a plan: which buffer is where and when, and how tightly they are packed.

use aio_plan::{Loc, Plan};
use serde::{Deserialize, Serialize};

/// The arena of a plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Bytes of the arena that the plan uses.
    pub arena_bytes: u64,
    /// Peak bytes of live buffers; no arena can be smaller.
    pub lower_bound: u64,
    /// The first task at which the most bytes are live.
    pub peak_task: Option<usize>,
    /// Share of the arena that is never live at once: 0 is a perfect packing.
    pub fragmentation: f64,
    /// Live bytes while each task runs.
    pub live: Vec<u64>,
    /// Buffers.
    pub intervals: Vec<Interval>,
}

/// A buffer's place and time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Index of the buffer.
    pub buffer: usize,
    /// Its type.
    #[serde(rename = "type")]
    pub ty: String,
    /// Byte offset in the arena.
    pub offset: u64,
    /// Size in bytes.
    pub bytes: u64,
    /// The task that writes it first.
    pub first: usize,
    /// The last task that uses it.
    pub last: usize,
}

/// The arena of a plan.
pub(crate) fn memory(plan: &Plan) -> Memory {
    let mut spans: Vec<Option<(usize, usize)>> = vec![None; plan.buffers.len()];
    for (i, task) in plan.tasks.iter().enumerate() {
        for loc in task.operands.iter().chain(&task.results) {
            if let Loc::Buffer(b) = *loc {
                let span = spans[b.index()].get_or_insert((i, i));
                span.1 = i;
            }
        }
    }
    let mut live = vec![0; plan.tasks.len()];
    let mut intervals = Vec::new();
    for (buffer, (place, span)) in plan.buffers.iter().zip(spans).enumerate() {
        let Some((first, last)) = span else { continue };
        live[first..=last].iter_mut().for_each(|bytes| *bytes += place.bytes);
        let ty = place.ty.to_string();
        intervals.push(Interval { buffer, ty, offset: place.offset, bytes: place.bytes, first, last });
    }
    let peak = live.iter().copied().max().unwrap_or(0);
    let (arena_bytes, lower_bound) = (plan.arena_bytes, plan.arena_lower_bound);
    Memory {
        arena_bytes,
        lower_bound,
        peak_task: live.iter().position(|&bytes| bytes == peak),
        fragmentation: if arena_bytes == 0 { 0.0 } else { 1.0 - lower_bound as f64 / arena_bytes as f64 },
        live,
        intervals,
    }
}
