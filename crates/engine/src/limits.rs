//! Step sizes that the engine compiles plans for.

/// Maximum drafts of a sequence per step.
pub const MAX_DRAFTS: usize = 64;
/// Rows of a step that verifies a run of sixteen drafts.
pub(crate) const SMALL_ROWS: u32 = 17;
/// Rows of a step that verifies eight drafts for each of eight sequences, or a long copy. No step has more output rows.
pub const WIDE_ROWS: u32 = 72;
/// Positions between the snapshots of recurrent state.
pub(crate) const SNAPSHOT_POSITIONS: usize = 256;
