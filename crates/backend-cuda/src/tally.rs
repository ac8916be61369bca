//! Counters of a device, updated by executables.

use std::sync::atomic::AtomicU64;

/// Totals of all steps.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub submissions: AtomicU64,
    pub launches: AtomicU64,
    pub syncs: AtomicU64,
    pub bytes_read: AtomicU64,
    pub bytes_written: AtomicU64,
}
