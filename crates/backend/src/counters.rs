//! What a device has done: the same counters on every back end.

use std::ops::Sub;

/// Totals since the device was opened. The difference of two readings is a step's share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Plans handed to the device; tasks, where each is submitted on its own.
    pub submissions: u64,
    /// Kernels started, however they were submitted.
    pub launches: u64,
    /// Times the host waited for the device.
    pub syncs: u64,
    /// Times that a device's threads met inside a submission; 0 where that happens in hardware.
    pub barriers: u64,
    /// Bytes that tasks read, by their cost rules.
    pub bytes_read: u64,
    /// Bytes that tasks wrote, by their cost rules.
    pub bytes_written: u64,
    /// Memory allocations inside steps; 0 unless something is broken.
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
