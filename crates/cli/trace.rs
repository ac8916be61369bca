//! `aio trace`: makes traces of requests.

use crate::args::{MixArg, TraceCommand, TraceMakeArgs};
use crate::outcome::Outcome;
use crate::{output, signals};
use aio::orchestrator::trace::{Mix, TraceOptions, make, print};
use anyhow::Result;

pub(crate) fn main(command: TraceCommand) -> Result<Outcome> {
    signals::end_at_once();
    let TraceCommand::Make(args) = command;
    output::print_now(&print(&make(&options(&args))))?;
    Ok(Outcome::Fine)
}

/// What the flags ask for.
pub(crate) fn options(args: &TraceMakeArgs) -> TraceOptions {
    let TraceMakeArgs { mix, context, requests, rate, seed } = *args;
    let mix = match mix {
        MixArg::Mixed => Mix::Mixed,
        MixArg::Code => Mix::Code,
        MixArg::Knowledge => Mix::Knowledge,
    };
    let rate = if rate == 0.0 { f64::INFINITY } else { rate };
    TraceOptions { mix, requests, context, rate, seed }
}
