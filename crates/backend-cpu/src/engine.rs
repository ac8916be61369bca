//! Shared by all executables of a device: kernels, threads, counters.

use crate::kernels::Kernels;
use crate::pool::Pool;
use std::sync::atomic::AtomicU64;

/// Kernels of one instruction-set level, and the threads that run them.
#[derive(Debug)]
pub(crate) struct Engine {
    pub kernels: Kernels,
    pub pool: Pool,
    pub tally: Tally,
}

/// Counters, readable while a step runs.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub submissions: AtomicU64,
    pub launches: AtomicU64,
    pub barriers: AtomicU64,
    pub allocations: AtomicU64,
    pub bytes_read: AtomicU64,
    pub bytes_written: AtomicU64,
}
