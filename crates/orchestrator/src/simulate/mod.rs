//! Runs a trace of requests on a modelled device: one step at a time, continuous batching, several variants resident.
//!
//! Routing, drafting and acceptance are this crate's own, as in the engine; only step times come from a table
//! ([`StepTable`]) and only texts are drawn ([`TraceRequest::copy`]). Used by `aio simulate`.

mod costs;
mod options;
mod report;
mod server;
mod text;

pub use costs::{CapturedLengths, SequenceRows, StepTable, TimedStep, VariantCosts};
pub use options::{Busy, SimOptions, SimProbe, SimVariant, Verification};
pub use report::{Decision, SimReport, VariantReport, percentile};

use crate::trace::TraceRequest;
use server::Server;

/// Runs a trace, whose requests are ordered by arrival.
pub fn simulate(trace: &[TraceRequest], options: &SimOptions<'_>) -> SimReport {
    let mut server = Server::new(trace, options);
    while server.advance() {}
    server.report()
}
