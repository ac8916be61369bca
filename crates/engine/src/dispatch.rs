//! Dispatch: how steps are submitted.

use aio_backend::{LoadOptions, Submission};

/// How a step's work is divided and submitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dispatch {
    /// The fused plan, in one submission.
    #[default]
    Graph,
    /// The fused plan, but the host verifies each draft in a separate step: a baseline.
    Token,
    /// Each node of the graph is a separate task, submitted and waited for alone: a baseline.
    Op,
}

impl Dispatch {
    /// The load options for the device.
    pub(crate) fn load_options(self) -> LoadOptions {
        let submission = match self {
            Dispatch::Graph | Dispatch::Token => Submission::Graph,
            Dispatch::Op => Submission::Task,
        };
        LoadOptions { submission }
    }
}
