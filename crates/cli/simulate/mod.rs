//! `aio simulate`: runs traces of requests on modelled devices, with the routing and speculation that serve real ones.

mod print;
mod runs;
#[cfg(feature = "ascend")]
mod tables;

pub(crate) use runs::steps;

use crate::args::{SimulateArgs, SimulateTable};
use crate::fleet::policy;
use crate::outcome::Outcome;
use crate::{output, signals};
use anyhow::{Context, Result, bail};
use runs::{fleet, requests, run};
use std::path::{Path, PathBuf};

pub(crate) fn main(args: &SimulateArgs) -> Result<Outcome> {
    signals::end_at_once();
    if let Some(table) = args.table {
        print_table(table, args)?;
        return Ok(Outcome::Fine);
    }
    if let Some(to) = &args.decisions {
        let names = args.variants.iter().chain([&args.device, &args.policy]).map(Path::new);
        let files = args.trace.iter().chain(&args.quality).map(PathBuf::as_path);
        output::check_other(names.chain(files), to)?;
    }
    let requests = requests(args.trace.as_deref())?;
    let policy = policy(&args.policy, args.quality.as_deref())?;
    let fleet = fleet(args, args.dispatch)?;
    let names: Vec<&str> = fleet.iter().map(|v| v.name.as_str()).collect();
    policy.check(&names)?;
    let report = run(args, &requests, &fleet, &policy)?;
    if report.refused as usize == requests.len() {
        let why = "none of the requests has room: --memory allows too little for their keys and values";
        bail!("{why}; the first one has {} positions", requests[0].prompt.saturating_add(requests[0].output));
    }
    if let Some(path) = &args.decisions {
        let text = print::decisions(&report, &requests, &fleet);
        aio::mapped::write_whole(path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
    }
    output::print_now(&print::report(args, &report))?;
    Ok(Outcome::Fine)
}

#[cfg(feature = "ascend")]
fn print_table(table: SimulateTable, args: &SimulateArgs) -> Result<()> {
    tables::main(table, args)
}

#[cfg(not(feature = "ascend"))]
fn print_table(_: SimulateTable, _: &SimulateArgs) -> Result<()> {
    anyhow::bail!("this build has no simulated Ascend (feature `ascend`)")
}
