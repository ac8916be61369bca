//! How subcommands end.

/// How a subcommand ended, short of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Success.
    Fine,
    /// A check failed.
    CheckFailed,
}
