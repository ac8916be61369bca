//! How steps are submitted.

use aio_backend::{LoadOptions, Submission};

/// How a step's work is cut up and submitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dispatch {
    /// The fused plan, in one submission.
    #[default]
    Graph,
    /// The fused plan; but each draft is verified in a step of its own and compared by the host: a baseline.
    Token,
    /// Each node of the graph is a task of its own, submitted and waited for alone: a baseline.
    Op,
}

impl Dispatch {
    /// What the device is told.
    pub(crate) fn load_options(self) -> LoadOptions {
        let submission = match self {
            Dispatch::Graph | Dispatch::Token => Submission::Graph,
            Dispatch::Op => Submission::Task,
        };
        LoadOptions { submission }
    }
}
