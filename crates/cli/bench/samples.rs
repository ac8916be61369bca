//! What a benchmark measures of one test.

use aio::engine::RowTally;

/// What was measured of one test.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples {
    /// Tokens a second, one a repetition.
    pub tok_s: Vec<f64>,
    /// Seconds, one a step.
    pub step_s: Vec<f64>,
    /// Seconds of reads of the whole buffer.
    pub read_s: Vec<f64>,
    /// Seconds of copies of half the buffer inside the device, where it has memory of its own.
    pub copy_s: Vec<f64>,
    /// Totals of all steps.
    pub submissions: u64,
    /// As above.
    pub syncs: u64,
    /// As above.
    pub barriers: u64,
    /// As above.
    pub allocations: u64,
    /// Sum over steps of the positions whose keys and values were read.
    pub positions: u64,
    /// Rows of the steps and of their buckets.
    pub rows: RowTally,
}
