//! Sizes of steps that the engine compiles plans for.

/// Most drafts of a sequence in a step.
pub const MAX_DRAFTS: usize = 64;
/// Rows of a step that verifies a run of sixteen drafts.
pub(crate) const SMALL_ROWS: u32 = 17;
/// Rows of a step that verifies eight sequences with eight drafts each, or a long copy. No step has more output rows.
pub(crate) const WIDE_ROWS: u32 = 72;
