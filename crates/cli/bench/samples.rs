//! The measurements of one benchmark test.

use aio::engine::RowTally;

/// Measurements of one test.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples {
    /// Tokens per second, one value per repetition.
    pub tok_s: Vec<f64>,
    /// Seconds, one value per step.
    pub step_s: Vec<f64>,
    /// Seconds of reads of the whole buffer.
    pub read_s: Vec<f64>,
    /// Seconds of copies of half the buffer inside the device, if it has its own memory.
    pub copy_s: Vec<f64>,
    /// Submissions, summed over all steps.
    pub submissions: u64,
    /// Synchronisations, likewise.
    pub syncs: u64,
    /// Barriers, likewise.
    pub barriers: u64,
    /// Allocations, likewise.
    pub allocations: u64,
    /// Positions whose keys and values were read, summed over all steps.
    pub positions: u64,
    /// Rows of the steps and of their buckets.
    pub rows: RowTally,
}
