//! Errors of the compiler.

use aio_ir::VerifyErrors;
use aio_plan::PlanError;
use aio_plan::body::BodyError;

/// An error of the compiler.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CompileError {
    /// The graph lacks the output that the tail needs.
    #[error("the graph has no output `{0}`")]
    NoOutput(&'static str),
    /// The logits are not the result of a product, so there is no hidden state that the head multiplies.
    #[error("the logits are no product of a hidden state, so there is none to return")]
    NoHidden,
    /// The graph lacks an input that verifying drafts needs.
    #[error("the graph has no input `{0}`")]
    NoInput(&'static str),
    /// A pass adds an input or output whose name the graph has already.
    #[error("the pass `{pass}` adds `{name}`, a name that the graph has already; rename it")]
    NameTaken {
        /// The pass.
        pass: &'static str,
        /// The name.
        name: String,
    },
    /// An output does not have the type that the tail or the verification of drafts needs.
    #[error("output `{output}` does not fit the op that the plan adds to it: {source}")]
    OddOutput {
        /// The output.
        output: &'static str,
        /// What does not fit.
        source: aio_ir::graph::BuildError,
    },
    /// The target cannot run an op, either fused or alone.
    #[error("{target} cannot run `{op}`: {reason}")]
    Unsupported {
        /// The target's name.
        target: String,
        /// The op.
        op: &'static str,
        /// What is missing.
        reason: String,
    },
    /// More plans than the target has room for.
    #[error("{plans} plans, {target} has room for {most}")]
    Plans {
        /// The target's name.
        target: String,
        /// The number of buckets.
        plans: usize,
        /// The maximum.
        most: u32,
    },
    /// An output that no task writes, or a final that does not update its state, cannot be copied.
    #[error("`{name}` needs a copy: {source}")]
    NoCopy {
        /// Name of the output or state.
        name: String,
        /// What does not fit.
        source: BodyError,
    },
    /// A value is larger than a plan allows at the bucket's bounds.
    #[error("bucket {bucket}: {what} is too large")]
    TooLarge {
        /// The bucket.
        bucket: String,
        /// The value.
        what: String,
    },
    /// A pass broke the graph: a compiler bug.
    #[error("after pass `{pass}`: {source}")]
    BrokenGraph {
        /// The pass.
        pass: &'static str,
        /// The broken rules.
        source: VerifyErrors,
    },
    /// The plan is invalid: a compiler bug.
    #[error("the plan breaks a rule: {0}")]
    BrokenPlan(PlanError),
}
