//! `aio kernels`: lists, tests and times kernels, on every device, from the one list of conformance cases or from the tasks
//! of a model's plans.

mod compare;
mod list;
mod perf;
mod select;
mod support;
mod test;

use crate::args::KernelsCommand;
use crate::outcome::Outcome;
use crate::signals;
use anyhow::Result;

pub(crate) fn main(command: KernelsCommand) -> Result<Outcome> {
    // Nothing is written but stdout, so a signal may end it anywhere.
    signals::end_at_once();
    match command {
        KernelsCommand::List(args) => list::main(&args),
        KernelsCommand::Test(args) => test::main(&args),
        KernelsCommand::Perf(args) => perf::main(&args),
        KernelsCommand::Support(args) => support::main(&args),
        KernelsCommand::Compare(args) => compare::main(&args),
    }
}
