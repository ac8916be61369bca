//! `aio bench`: the speed of a model's steps next to the machine's limits, measured in the same run; and how
//! speculation changes the speed of generation.

pub(crate) mod bar;
pub(crate) mod forms;
mod measure;
mod plans;
mod row;
mod samples;
mod spec;
pub(crate) mod stats;
mod trace;

use crate::args::{AscendArgs, BenchArgs, BenchCommand, DeviceArg, IsaArg, LoadArgs, ModelArgs};
use crate::outcome::Outcome;
use crate::{devices, escape, models, output};
use aio::engine::{EngineOptions, Sampling};
use aio::ir::sampling::SampleParams;
use anyhow::{Context, Result, bail};
use bar::bar;
use indicatif::ProgressBar;
use measure::{Bench, Kind, Test};
use row::Row;
use std::path::Path;
use std::sync::Arc;

pub(crate) fn main(mut args: BenchArgs) -> Result<Outcome> {
    match args.command.take() {
        Some(BenchCommand::Spec(spec)) => return spec::main(*spec),
        Some(BenchCommand::Trace(args)) => return trace::main(&args),
        Some(BenchCommand::Plans(args)) => return plans::main(&args),
        None => {}
    }
    let tests = tests(&args);
    if tests.is_empty() {
        bail!("nothing to measure: --prefill, --decode, --rows and --batch are all 0");
    }
    let models = if args.models.is_empty() { vec![crate::pull::default_model(false)?] } else { args.models.clone() };
    let isas: Vec<Option<IsaArg>> =
        if args.isa.is_empty() { vec![None] } else { args.isa.iter().copied().map(Some).collect() };
    let combinations = models.len() * args.threads.0.len() * isas.len();
    let bar = bar(combinations as u64 * u64::from(args.warmup + args.reps) * tests.len() as u64);
    let mut rows = Vec::new();
    for model in &models {
        for &threads in &args.threads.0 {
            for &isa in &isas {
                bar.set_message(escape::cell(&model.file_name().unwrap_or_default().to_string_lossy()));
                rows.extend(bench(model, threads, isa, &tests, &args, &bar)?);
            }
        }
    }
    bar.finish_and_clear();
    if let Some(form) = args.output_err {
        output::results_to_stderr(&forms::render(&rows, form, row::markdown));
    }
    output::print_now(&forms::render(&rows, args.output, row::markdown))?;
    Ok(Outcome::Fine)
}

/// All tests at all depths, in table order.
fn tests(args: &BenchArgs) -> Vec<Test> {
    let some = |list: &[u32]| list.iter().copied().filter(|&n| n > 0).collect::<Vec<_>>();
    let mut tests = Vec::new();
    for &depth in &args.depth.0 {
        let kinds = some(&args.prefill.0).into_iter().map(Kind::Prefill);
        let kinds = kinds.chain(some(&args.decode.0).into_iter().map(Kind::Decode));
        let kinds = kinds.chain(some(&args.rows.0).into_iter().map(Kind::Rows));
        let kinds = kinds.chain(some(&args.batch.0).into_iter().map(Kind::Batch));
        tests.extend(kinds.map(|kind| Test { kind, depth }));
    }
    tests
}

/// Rounds of [`measured_batches`], the first of which does not count.
const ROUNDS: u32 = 4;

/// Median seconds of decode steps on the CPU: of some sequences with equally many positions.
pub(crate) fn measured_batches(path: &Path, steps: &[(u32, u32)]) -> Result<Vec<f64>> {
    let tests: Vec<Test> = steps.iter().map(|&(batch, depth)| Test { kind: Kind::Batch(batch), depth }).collect();
    let context = tests.iter().map(|t| t.depth.saturating_add(t.kind.tokens())).max();
    let options = EngineOptions { context, sequences: measure::sequences(&tests), ..EngineOptions::default() };
    let model = ModelArgs {
        model: Some(path.to_owned()),
        threads: None,
        isa: None,
        device: DeviceArg::CPU,
        template: None,
        ascend: AscendArgs::default(),
    };
    let opened = devices::open(DeviceArg::CPU, (&model).into())?;
    let hardware = devices::measured(DeviceArg::CPU, &opened)?;
    let loaded = models::load_on(&model, &LoadArgs::default(), Arc::clone(&opened.device), &options)?;
    let bar = bar(u64::from(ROUNDS) * tests.len() as u64);
    let mut bench = Bench::new(loaded, (&opened, &**hardware), Sampling::greedy(), &tests)?;
    for round in 0..ROUNDS {
        bench.round(round > 0, &bar)?;
    }
    bar.finish_and_clear();
    Ok(bench.medians())
}

/// Runs all tests on one model, device and number of threads.
fn bench(
    path: &Path,
    threads: u32,
    isa: Option<IsaArg>,
    tests: &[Test],
    args: &BenchArgs,
    bar: &ProgressBar,
) -> Result<Vec<Row>> {
    let threads = (threads > 0).then_some(threads);
    let model = ModelArgs {
        model: Some(path.to_owned()),
        threads,
        isa,
        device: args.device,
        template: None,
        ascend: AscendArgs::default(),
    };
    let mut sampling = Sampling::greedy();
    let BenchArgs { temp: temperature, top_k, top_p, min_p, .. } = *args;
    sampling.params = SampleParams { temperature, top_k, top_p, min_p, ..SampleParams::GREEDY };
    sampling.check()?;
    let context = tests.iter().map(|t| u64::from(t.depth) + u64::from(t.kind.tokens())).max().unwrap_or(0);
    let context = u32::try_from(context).context("the longest test needs more than 2^32 positions")?;
    let options =
        EngineOptions { context: Some(context), sequences: measure::sequences(tests), ..EngineOptions::default() };
    let opened = devices::open(args.device, (&model).into())?;
    let hardware = devices::measured(args.device, &opened)?;
    let loaded = models::load_on(&model, &args.load, Arc::clone(&opened.device), &options)?;
    let mut bench = Bench::new(loaded, (&opened, &**hardware), sampling, tests)?;
    for round in 0..args.warmup + args.reps {
        bench.round(round >= args.warmup, bar)?;
    }
    bench.keep();
    Ok(bench.rows(path, args.reps))
}
