//! How subcommands end.

/// How a subcommand ended, short of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All is well.
    Fine,
    /// What was checked does not hold.
    CheckFailed,
}
