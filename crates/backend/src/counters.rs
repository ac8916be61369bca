//! Counters of a device's work, the same on every back end.

use std::ops::Sub;

/// Totals since the device was opened. The difference between two readings is a step's share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Plans submitted to the device, or tasks where each is submitted separately.
    pub submissions: u64,
    /// Kernel launches, however they were submitted.
    pub launches: u64,
    /// Number of times the host waited for the device.
    pub syncs: u64,
    /// Barriers between the device's threads inside a submission; 0 where hardware synchronises them.
    pub barriers: u64,
    /// Bytes read by tasks, according to the cost rules.
    pub bytes_read: u64,
    /// Bytes written by tasks, according to the cost rules.
    pub bytes_written: u64,
    /// Memory allocations during steps. Any value other than 0 indicates a bug.
    pub step_allocations: u64,
}

impl Sub for Counters {
    type Output = Counters;
    fn sub(self, before: Counters) -> Counters {
        Counters {
            submissions: self.submissions - before.submissions,
            launches: self.launches - before.launches,
            syncs: self.syncs - before.syncs,
            barriers: self.barriers - before.barriers,
            bytes_read: self.bytes_read - before.bytes_read,
            bytes_written: self.bytes_written - before.bytes_written,
            step_allocations: self.step_allocations - before.step_allocations,
        }
    }
}
