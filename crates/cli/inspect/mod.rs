//! `aio graph inspect`: what each task of a plan reads, computes and should take.

mod csv;
mod found;
mod measure;
mod rated;
mod rates;
mod tables;

use crate::args::{DeviceArg, InspectArgs, InspectForm};
use crate::outcome::Outcome;
use crate::output::{json_line, print_now};
use crate::{input, output, signals};
use aio::backend::Timeline;
use aio::inspect::{Report, chrome, dot, html, inspect, onnx, run_of_trace, svg};
use aio::ir::verify;
use anyhow::{Result, anyhow, bail};
pub(crate) use found::Ask;
use found::Found;
use measure::measure;
use rated::{Rated, rated};

/// Tasks in tables for people.
const TOP: usize = 16;
/// Most bytes of a trace.
const LOG: u64 = 1 << 30;

pub(crate) fn main(args: &InspectArgs) -> Result<Outcome> {
    if !args.measure {
        signals::end_at_once();
    }
    check(args)?;
    let ask = Ask { file: args.file.as_deref(), model: &args.model, step: &args.step };
    let found = Found::open(ask)?;
    if args.output == InspectForm::Onnx {
        let Some(graph) = &found.graph else {
            bail!("{} has only plans; -o onnx needs the model it was compiled from", found.source)
        };
        output::print_bytes(&onnx(verify(graph)?))?;
        return Ok(Outcome::Fine);
    }
    let (mut report, timeline) = report(args, &found)?;
    let people = matches!(args.output, InspectForm::Table | InspectForm::Md);
    report.keep(args.filter.as_ref(), args.top.or(people.then_some(TOP)));
    print_now(&match args.output {
        InspectForm::Table => tables::text(&report, &args.by, output::columns()),
        InspectForm::Md => tables::markdown(&report, &args.by),
        InspectForm::Json => json_line(report.to_json()),
        InspectForm::Csv => csv::lines(&report.tasks),
        InspectForm::Dot => dot(&report, &found.subject()),
        InspectForm::Svg => svg(&report),
        InspectForm::Html => html(&report),
        InspectForm::Trace | InspectForm::Onnx => timeline.map_or_else(String::new, |t| chrome(&t, &found.family)),
    })?;
    Ok(Outcome::Fine)
}

/// Refuses what cannot be shown or measured, before anything is opened.
fn check(args: &InspectArgs) -> Result<()> {
    if args.output == InspectForm::Trace && !args.measure {
        bail!("-o trace shows measured steps; add --measure");
    }
    if args.measure && args.model.device != DeviceArg::CPU {
        bail!(
            "--measure takes the times of the CPU's threads; it does not run on --device {}",
            args.model.device.name()
        );
    }
    if args.output == InspectForm::Onnx && output::columns().is_some() {
        bail!("-o onnx is binary; send it to a file or a pipe");
    }
    Ok(())
}

/// The report on all tasks, and what was recorded if the step was measured.
fn report(args: &InspectArgs, found: &Found) -> Result<(Report, Option<Timeline>)> {
    let rated = rated(&args.model, args.step.profile.as_deref(), found)?;
    let mut machine = rated.machine.clone();
    let measured = if args.measure { Some(measure(args, found, machine.clone())?) } else { None };
    if let Some(measured) = &measured {
        machine = measured.machine.clone();
    }
    // What is measured ran here.
    let mut report = described(found, &Rated { machine: machine.clone(), here: rated.here || args.measure });
    if let Some(measured) = &measured {
        report.measure(&found.subject(), &measured.samples);
    }
    if let Some(path) = &args.log {
        let run = run_of_trace(&input::text(path, LOG)?).map_err(|e| anyhow!("{}: {e}", path.display()))?;
        report.add_run(&found.subject(), &machine, &run);
    }
    Ok((report, measured.map(|m| m.timeline)))
}

/// The report on what a file holds, as `aio graph inspect` would give it.
pub(crate) fn predicted(ask: Ask<'_>) -> Result<Report> {
    let found = Found::open(ask)?;
    Ok(described(&found, &rated(ask.model, ask.step.profile.as_deref(), &found)?))
}

fn described(found: &Found, rated: &Rated) -> Report {
    let mut report = inspect(&found.subject(), &found.source, &rated.machine);
    report.choose(found.kernels(rated.here));
    for (row, ms) in report.buckets.iter_mut().zip(&found.compile_ms) {
        row.compile_ms = Some(*ms);
    }
    for (row, bytes) in report.buckets.iter_mut().zip(found.plan_bytes()) {
        row.plan_bytes = Some(bytes);
    }
    report
}
