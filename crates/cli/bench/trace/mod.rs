//! `aio bench trace`: runs a trace of requests for real, on several variants of a model, by several policies in turn.

mod prompts;
mod report;
mod serve;

use crate::args::{BenchTraceArgs, ShowForm};
use crate::fleet::{self, Plan};
use crate::outcome::Outcome;
use crate::route::samples;
use crate::{devices, input, output, signals};
use aio::engine::EngineOptions;
use aio::fleet::{Fleet, Probe};
use aio::orchestrator::routing::{DraftRule, Policy, ProbeKind, Quality, SpeculationRule, Treatment, VariantRule};
use aio::orchestrator::trace::{Mix, TraceOptions, TraceRequest, make, parse};
use anyhow::{Context, Result, bail};
use prompts::Prompts;
use report::Report;
use serve::{Run, Server};

/// Largest trace that is read, in bytes.
const MOST_TRACE: u64 = 1 << 28;

pub(super) fn main(args: &BenchTraceArgs) -> Result<Outcome> {
    let trace = trace(args)?;
    let samples = args.prompts.as_deref().map_or(Ok(Vec::new()), samples)?;
    let policy = |name: &String| fleet::policy(name, args.quality.as_deref());
    let policies: Vec<Policy> = args.policies.iter().map(policy).collect::<Result<_>>()?;
    let head = args.head.as_deref().map(fleet::head).transpose()?;
    let (fleet, chip) = variants(args, &trace, &policies)?;
    let names: Vec<String> = fleet.states().into_iter().map(|(name, _)| name).collect();
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    policies.iter().try_for_each(|policy| policy.check(&known))?;
    fleet::note_unknown(args.quality.as_deref(), &known, head.as_ref())?;
    let mut fleet = fleet.with_probe(head.map(|head| Box::new(head) as Box<dyn Probe>));
    let smallest = fleet.smallest().context("the smallest variant is not loaded")?;
    let prompts = Prompts::new(&smallest, &samples, &trace)?;
    let mut serve = |policy: &Policy, trace: &[TraceRequest]| {
        let run = Server::new(args, trace, &prompts, policy, &mut fleet).run()?;
        if signals::interrupted() {
            bail!("interrupted");
        }
        Ok(run)
    };
    // Every variant has run before anything is measured, and the head, if there is one, has asked its question.
    for name in &names {
        serve(&warm_up(name, args.head.is_some()), &trace[..1])?;
    }
    let mut runs: Vec<Vec<Run>> = policies.iter().map(|_| Vec::new()).collect();
    for round in 0..args.reps as usize {
        // No policy is always the first, nor always after the same one.
        let turn = |i: usize| if round % 2 == 0 { i } else { policies.len() - 1 - i };
        for at in (0..policies.len()).map(|i| (turn(i) + round / 2) % policies.len()) {
            runs[at].push(serve(&policies[at], &trace)?);
        }
    }
    let report = Report { args, chip, trace: &trace, names, policies: &policies, runs: &runs };
    output::print_now(&match args.output {
        ShowForm::Md => report.markdown(),
        ShowForm::Json => report.json(),
    })?;
    Ok(Outcome::Fine)
}

/// A policy that sends everything to one variant, after a probe.
fn warm_up(name: &str, head: bool) -> Policy {
    let variant = VariantRule::Named(name.to_owned());
    let default = Treatment { variant, speculation: SpeculationRule::default(), drafter: DraftRule::default() };
    Policy {
        name: "warm-up".to_owned(),
        summary: String::new(),
        probe: if head { ProbeKind::Head } else { ProbeKind::None },
        margin: 0.0,
        ambiguous: None,
        rules: Vec::new(),
        default,
        quality: Quality::default(),
        tolerance: 0.0,
    }
}

fn trace(args: &BenchTraceArgs) -> Result<Vec<TraceRequest>> {
    let mut trace = match &args.trace {
        Some(path) => parse(&input::text(path, MOST_TRACE)?).with_context(|| path.display().to_string())?,
        None => make(&TraceOptions { mix: Mix::Mixed, requests: 24, context: 512, rate: f64::INFINITY, seed: 1 }),
    };
    if let Some(category) = &args.only {
        trace.retain(|r| r.category == *category);
    }
    if trace.is_empty() {
        bail!("the trace has no requests{}", args.only.as_ref().map_or(String::new(), |c| format!(" of category {c}")));
    }
    trace.iter_mut().for_each(|r| r.arrival /= args.pace);
    Ok(trace)
}

fn variants(args: &BenchTraceArgs, trace: &[TraceRequest], policies: &[Policy]) -> Result<(Fleet, String)> {
    // The chat format of a prompt may add tokens.
    let context = trace.iter().map(|r| r.prompt.saturating_add(r.output).saturating_add(prompts::SLACK)).max();
    let options = EngineOptions { context, sequences: args.sequences, ..EngineOptions::default() };
    let head = args.head.is_some();
    let opened = devices::open(args.model.device, (&args.model).into())?;
    devices::measured(args.model.device, &opened)?;
    drop(opened);
    let plan = Plan { paths: &args.variants, model: &args.model, load: &args.load, options, head, memory: None };
    let (fleet, chip) = fleet::load(&plan, policies.first().context("there is no policy")?.clone())?;
    if let Some((name, state)) = fleet.states().into_iter().find(|(_, state)| state.is_missing()) {
        bail!("variant {name}: {state}");
    }
    Ok((fleet, chip))
}
