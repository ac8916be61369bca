//! What can go wrong in the compiler.

use aio_ir::VerifyErrors;
use aio_plan::PlanError;
use aio_plan::body::BodyError;

/// An error of the compiler.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CompileError {
    /// The graph has no output of the name that the tail needs.
    #[error("the graph has no output `{0}`")]
    NoOutput(&'static str),
    /// The graph has no input of the name that the verification of drafts needs.
    #[error("the graph has no input `{0}`")]
    NoInput(&'static str),
    /// A pass adds an output whose name the graph has given to a state or another output.
    #[error("the pass `{pass}` adds an output `{name}`, a name that the graph has already; rename it")]
    NameTaken {
        /// The pass.
        pass: &'static str,
        /// The name.
        name: String,
    },
    /// An output is not what the tail or the verification of drafts needs.
    #[error("output `{output}` does not fit the op that the plan adds to it: {source}")]
    OddOutput {
        /// The output.
        output: &'static str,
        /// What does not fit.
        source: aio_ir::graph::BuildError,
    },
    /// The target cannot run an op, fused or alone.
    #[error("{target} cannot run `{op}`: {reason}")]
    Unsupported {
        /// The target's name.
        target: String,
        /// The op.
        op: &'static str,
        /// What is missing.
        reason: String,
    },
    /// An output that no task writes, or a final that is no update of its state, has elements that cannot be copied.
    #[error("`{name}` needs a copy: {source}")]
    NoCopy {
        /// The output or state.
        name: String,
        /// What does not fit.
        source: BodyError,
    },
    /// A value is larger than a plan can hold at the bucket's bounds.
    #[error("bucket {bucket}: {what} is too large")]
    TooLarge {
        /// The bucket.
        bucket: String,
        /// The value.
        what: String,
    },
    /// A pass broke the graph: a fault of the compiler.
    #[error("after pass `{pass}`: {source}")]
    BrokenGraph {
        /// The pass.
        pass: &'static str,
        /// The rules that the graph breaks now.
        source: VerifyErrors,
    },
    /// The plan is wrong: a fault of the compiler.
    #[error("the plan breaks a rule: {0}")]
    BrokenPlan(PlanError),
}
