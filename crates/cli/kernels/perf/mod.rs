//! `aio kernels perf`: the time of kernels with cold and warm caches, beside the machine's limits in the same run.

mod measure;
pub(super) mod row;

use super::select::{Selected, distinct, open, row_counts, selected};
use crate::args::KernelsPerfArgs;
use crate::bench::{bar, forms};
use crate::outcome::Outcome;
use crate::{machine, output};
use aio::backend::DeviceError;
use aio::conformance::{CaseStep, Purpose, case_family, positions_per_sequence};
use aio::devices::Opened;
use anyhow::{Result, ensure};
use measure::{Bench, Measured};
use row::{Host, Row};
use std::collections::BTreeMap;

pub(super) fn main(args: &KernelsPerfArgs) -> Result<Outcome> {
    let mut rows = Vec::new();
    let mut lacking = BTreeMap::new();
    for opened in open(&args.device)? {
        measure(args, &opened, &mut rows, &mut lacking)?;
    }
    for (reason, count) in &lacking {
        note!("not timed: {count} cases, {reason}");
    }
    output::print_now(&forms::render(&rows, args.output, row::markdown))?;
    Ok(Outcome::Fine)
}

/// Measures all cases on a device. Counts those that it does not run by the reason.
fn measure(
    args: &KernelsPerfArgs,
    opened: &Opened,
    rows: &mut Vec<Row>,
    lacking: &mut BTreeMap<String, usize>,
) -> Result<()> {
    let target = opened.device.target();
    let cases = steps(args, selected(&args.cases, &args.device, &target, Purpose::Time { depth: args.depth })?)?;
    let host = Host {
        device: target.name,
        chip: opened.chip.clone(),
        threads: opened.threads,
        host: machine::host(),
        date: machine::today(),
        depth: args.depth,
        passes: args.passes,
        model: model(args),
    };
    let bench = Bench::new(opened, args.reps, args.warmup)?;
    let caches = distinct(&args.cache);
    let mut kernels = Vec::new();
    for mut selected in cases {
        let alone = selected.alone.take();
        match alone.map_or_else(|| case_family(&selected.case, &*opened.device), Ok) {
            Ok(family) => kernels.push((Measured::new(&selected.case, &family), family, selected)),
            Err(outcome) => *lacking.entry(outcome.to_string()).or_default() += 1,
        }
    }
    let bar = bar::bar(u64::from(args.passes) * kernels.len() as u64);
    for _ in 0..args.passes {
        let mut refused = Vec::new();
        for (i, (measured, family, selected)) in kernels.iter_mut().enumerate() {
            bar.inc(1);
            match bench.pass(&selected.case, family, &caches, measured) {
                Ok(()) => {}
                Err(e @ DeviceError::Unsupported { .. }) => {
                    *lacking.entry(e.to_string()).or_default() += 1;
                    refused.push(i);
                }
                Err(e) => return Err(anyhow::Error::from(e).context(selected.case.full())),
            }
        }
        refused.into_iter().rev().for_each(|i| drop(kernels.remove(i)));
    }
    bar.finish_and_clear();
    for (measured, _, selected) in &kernels {
        rows.extend(measured.timed.iter().map(|timed| Row::new(selected, &host, timed, measured)));
    }
    Ok(())
}

/// The cases with one step each: those of a model have it; those of the list get one for each number of rows.
fn steps(args: &KernelsPerfArgs, cases: Vec<Selected>) -> Result<Vec<Selected>> {
    let room = positions_per_sequence();
    let row_counts = row_counts(&args.cases);
    for &rows in &row_counts {
        ensure!(
            rows > 0 && args.depth + rows <= room,
            "--rows {rows}: with the depth it must be 1 to {room} positions"
        );
    }
    let mut all = Vec::new();
    for selected in cases {
        if selected.alone.is_some() {
            all.push(selected);
            continue;
        }
        for &rows in &row_counts {
            let mut case = selected.case.clone();
            case.steps = vec![CaseStep::at(rows, args.depth)];
            all.push(Selected { case, count: None, rows: Some(rows), alone: None });
        }
    }
    Ok(all)
}

/// The model's name in rows.
fn model(args: &KernelsPerfArgs) -> Option<String> {
    let path = args.cases.from.as_ref()?;
    let name = path.as_ref().and_then(|p| p.file_name()).map(|n| n.to_string_lossy().into_owned());
    Some(name.unwrap_or_else(|| "default".to_owned()))
}
