//! Room for captured graphs: each holds streams of the device, of which there are few.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// Streams of captured graphs at most. A device has 1984; the rest is for others (vllm-ascend leaves 248).
pub(crate) const MOST: usize = 1800;
/// Tasks of a stream; a graph of more takes further streams.
const TASKS: usize = 2013;

/// See the module docs.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    taken: AtomicUsize,
}

/// Streams of one graph, given back when dropped.
#[derive(Debug)]
pub(crate) struct Room {
    budget: Arc<Budget>,
    streams: usize,
}

impl Budget {
    /// The budget of this process: all devices take streams of the same NPUs.
    pub(crate) fn shared() -> Arc<Budget> {
        static SHARED: OnceLock<Arc<Budget>> = OnceLock::new();
        Arc::clone(SHARED.get_or_init(Arc::default))
    }

    /// Whether there is room for a graph of few tasks.
    pub(crate) fn has_room(&self) -> bool {
        self.taken.load(Ordering::Relaxed) < MOST
    }

    /// Room for a graph of `tasks` tasks, if there is any.
    pub(crate) fn take(self: &Arc<Self>, tasks: usize) -> Option<Room> {
        let streams = tasks.div_ceil(TASKS).max(1);
        let fits = |taken: usize| taken.checked_add(streams).filter(|n| *n <= MOST);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(Room { budget: Arc::clone(self), streams })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.budget.taken.fetch_sub(self.streams, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_comes_back() {
        let budget = Arc::new(Budget::default());
        let large = budget.take(TASKS * (MOST - 1)).unwrap();
        let one = budget.take(10).unwrap();
        assert!(budget.take(1).is_none());
        drop(one);
        assert!(budget.take(TASKS + 1).is_none());
        drop(large);
        assert!(budget.take(TASKS + 1).is_some());
    }
}
