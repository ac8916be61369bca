//! `aio bench plans`: what chosen plans lose against the best ones, and how far predicted step times are off.
//!
//! Measured on a device, or replayed from recorded step times.

mod bed;
mod costs;
mod interval;
mod print;
mod regret;

use crate::args::{PlansArgs, PlansTable};
use crate::outcome::Outcome;
use crate::{input, output};
use aio::engine::WIDE_ROWS;
use aio::orchestrator::Recording;
use anyhow::{Context, Result, ensure};
use bed::Bed;
use print::Report;
use regret::Grid;

/// Largest recording that is read, in bytes.
const MOST_RECORDED: u64 = 1 << 28;

pub(super) fn main(args: &PlansArgs) -> Result<Outcome> {
    let report = if args.replay.is_some() { replay(args)? } else { measure(args)? };
    output::print_now(&print::report(&report))?;
    Ok(Outcome::Fine)
}

/// Whether a table is wanted.
fn wants(args: &PlansArgs, table: PlansTable) -> bool {
    args.only.is_none_or(|only| only == table)
}

fn measure(args: &PlansArgs) -> Result<Report<'_>> {
    let positive = |name: &str, list: &[u32]| {
        let mut list: Vec<u32> = list.iter().copied().filter(|n| *n > 0).collect();
        list.sort_unstable();
        list.dedup();
        ensure!(!list.is_empty(), "{name} needs a number above 0");
        Ok(list)
    };
    if let Some(to) = &args.record {
        output::check_other(args.model.model.as_deref(), to)?;
    }
    let trained = trained(args)?;
    let most = trained.saturating_sub(args.drafts + 1);
    ensure!(most > 0, "--drafts {}: the model has a context of {trained}", args.drafts);
    let mut contexts: Vec<u32> = positive("--context", &args.context.0)?.into_iter().map(|n| n.min(most)).collect();
    contexts.dedup();
    let batches = positive("--batch", &args.batch.0)?;
    let grid = Grid { contexts, batches, chances: args.acceptance.clone() };
    let largest = grid.batches.iter().copied().max().unwrap_or(1);
    ensure!(largest <= WIDE_ROWS, "--batch {largest}: no plan has that many output rows; the maximum is {WIDE_ROWS}");
    if args.context.0.iter().any(|&n| n > most) {
        note!("contexts above {most} are shortened to it, so that {} drafts have room", args.drafts);
    }
    let mut bed = Bed::open(args, &grid.contexts, largest)?;
    let (mut record, head) = (Vec::new(), bed.head.clone());
    let (regret, costs) = (wants(args, PlansTable::Regret), wants(args, PlansTable::Costs));
    let cells = if regret { grid.contexts.len() * grid.batches.len() * grid.chances.len() } else { 0 };
    let steps = if costs { 50 + u64::from(args.steps) } else { 0 };
    let bar = super::bar::bar(cells as u64 + steps);
    // First, while the engine's model has seen nothing but the prompt.
    let errors = costs.then(|| costs::measure(&mut bed, &grid, args, (&mut record, &bar))).transpose()?;
    let cells = regret.then(|| grid.measure(&mut bed, args, (&mut record, &bar))).transpose()?;
    bar.finish_and_clear();
    bed.keep();
    if let Some(path) = &args.record {
        let text = Recording { head: head.clone(), steps: record }.print();
        aio::mapped::write_whole(path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(Report { args, head, cells, errors })
}

/// The context of the model, from its file.
fn trained(args: &PlansArgs) -> Result<u32> {
    Ok(crate::models::open(&args.model)?.hyper.context_length)
}

fn replay(args: &PlansArgs) -> Result<Report<'_>> {
    let path = args.replay.as_deref().context("--replay needs a file")?;
    let text = input::text(path, MOST_RECORDED)?;
    let recording = Recording::parse(&text).with_context(|| path.display().to_string())?;
    let cells = wants(args, PlansTable::Regret).then(|| regret::replayed(&recording, args)).transpose()?;
    ensure!(
        cells.as_ref().is_none_or(|cells| !cells.is_empty()),
        "{}: there are no steps without reads",
        path.display()
    );
    let errors = wants(args, PlansTable::Costs).then(|| costs::replayed(&recording)).transpose()?;
    Ok(Report { args, head: recording.head, cells, errors })
}
