//! Upper bounds of a step, and the scratch memory a task needs for it.

/// Upper bounds that size the scratch memory.
pub(crate) struct Bounds {
    pub rows: usize,
    pub outs: usize,
    pub threads: usize,
    pub pages: usize,
}

/// Scratch memory of a task, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scratch {
    /// For each thread.
    pub private: usize,
    /// Shared by all threads.
    pub shared: usize,
    /// For values that never leave the task.
    pub held: usize,
}

impl Scratch {
    /// The larger of each.
    pub(crate) fn max(self, other: Scratch) -> Scratch {
        Scratch {
            private: self.private.max(other.private),
            shared: self.shared.max(other.shared),
            held: self.held.max(other.held),
        }
    }
}
