//! Shared by all executables of a device: kernels, threads, counters.

use crate::kernels::Kernels;
use crate::pool::Pool;
use crate::record::Record;
use aio_backend::Tally;

/// Kernels of one instruction-set level, and the threads that run them.
#[derive(Debug)]
pub(crate) struct Engine {
    pub kernels: Kernels,
    pub pool: Pool,
    pub tally: Tally,
    pub record: Record,
}
