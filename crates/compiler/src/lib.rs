//! Compiles a verified graph to a family of plans.
//!
//! [`compile`] takes the model's step graph (output `logits`), a [`Target`](aio_plan::Target) and the buckets wanted,
//! and returns one [`PlanFamily`](aio_plan::PlanFamily). Each pass is verified before the next:
//!
//! 1. `tail`: what is computed from the logits (arg-max, sample, logits).
//! 2. `batch_verify`, for buckets that verify drafts: compares samples with drafts inside the plan.
//! 3. `simplify`: collapses reshapes, drops what no output needs.
//! 4. `fuse`: gathers nodes into tasks that the target has kernels for.
//! 5. `schedule`: orders tasks; states are read before they are replaced.
//! 6. `memory`: places buffers in one arena.
//!
//! **Invariant:** the compiler sees a target as data, never a device. The same input gives the same plans, byte for
//! byte.
#![forbid(unsafe_code)]

mod batch_verify;
mod copies;
mod emit;
mod emitter;
mod error;
mod fuse;
pub mod memory;
mod pipeline;
mod report;
mod schedule;
mod simplify;
mod tail;

pub use batch_verify::batch_verify;
pub use error::CompileError;
pub use pipeline::{Compilation, Options, PASSES, PassDump, compile, passes};
pub use report::FusionReport;

/// Hash, in hexadecimal, of the sources of this crate that affect the contents of an artefact.
pub const SOURCE_HASH: &str = env!("AIO_SOURCE_HASH");
