//! Counters of a device's work, the same on every back end.

use crate::StepReport;
use aio_plan::StepTime;
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
    /// Bytes read, the sum of the steps' reports.
    pub bytes_read: u64,
    /// Bytes written, the sum of the steps' reports.
    pub bytes_written: u64,
    /// Nanoseconds of all steps by the device's model; 0 where steps are measured.
    pub modelled_ns: u64,
    /// Graphs captured because a step had a new shape.
    pub captures: u64,
    /// Nanoseconds of these captures, which are no part of the steps' times; modelled or measured as those are.
    pub capture_ns: u64,
    /// Memory allocations during steps. Any value other than 0 indicates a bug.
    pub step_allocations: u64,
}

impl Counters {
    /// Adds a step of `launches` launches.
    pub fn add(&mut self, report: &StepReport, launches: u64) {
        self.submissions += report.submissions;
        self.syncs += report.submissions;
        self.launches += launches;
        self.bytes_read += report.bytes_read;
        self.bytes_written += report.bytes_written;
        if let StepTime::Modelled(seconds) = report.time {
            self.modelled_ns += (seconds * 1e9) as u64;
        }
    }
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
            modelled_ns: self.modelled_ns - before.modelled_ns,
            captures: self.captures - before.captures,
            capture_ns: self.capture_ns - before.capture_ns,
            step_allocations: self.step_allocations - before.step_allocations,
        }
    }
}
