//! From a verified graph to a family of precompiled plans.
//!
//! [`compile`] takes the model's step graph (output `logits`), a [`Target`](aio_plan::Target) and the buckets wanted,
//! and gives one [`PlanFamily`](aio_plan::PlanFamily). Passes, each verified before the next:
//!
//! 1. `tail`: what becomes of the logits (arg-max, sample, logits).
//! 2. `batch_verify`, for buckets that verify drafts: samples are compared with drafts inside the plan.
//! 3. `simplify`: reshapes collapse, what no output needs is dropped.
//! 4. `fuse`: nodes are gathered into tasks that the target has kernels for.
//! 5. `schedule`: tasks in order; states are read before they are replaced.
//! 6. `memory`: buffers share one arena.
//!
//! **Invariant:** a target is data; no device is in sight. The same input gives the same plans, byte for byte.
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
pub use pipeline::{Compilation, Options, PassDump, compile, passes};
pub use report::FusionReport;

/// Hash of the sources of this crate that decide what lies in an artefact, hexadecimal.
pub const SOURCE_HASH: &str = env!("AIO_SOURCE_HASH");
