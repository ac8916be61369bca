//! `aio bench trace`: runs a trace of requests for real, on several variants of a model, by several policies in turn.

use super::spec::workloads;
use crate::args::{BenchTraceArgs, ShowForm};
use crate::outcome::Outcome;
use crate::section::cells;
use crate::table::Table;
use crate::{fleet, input, models, output, signals};
use aio::engine::{Batch, Engine, EngineOptions, Flow, MemberId, Request, Sampling, Sequence, Speculation};
use aio::orchestrator::routing::{Policy, Probed, RouteRequest, SpeculationRule, VariantNow};
use aio::orchestrator::simulate::percentile;
use aio::orchestrator::trace::{Mix, TraceOptions, TraceRequest, make, parse};
use aio::orchestrator::{Figure, Predicted, StepSize};
use anyhow::{Context, Result, bail};
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

/// Largest trace that is read, in bytes.
const MOST_TRACE: u64 = 1 << 28;
/// The built-in workload whose text prompts of a category are made of.
const TEXTS: [(&str, &str); 4] = [("code", "code"), ("math", "lists"), ("knowledge", "prose"), ("chat", "chat")];

/// A model that serves.
struct Variant {
    name: String,
    engine: Engine,
    weight_bytes: u64,
    /// Tokens of each category's text.
    texts: BTreeMap<&'static str, Vec<u32>>,
}

/// A request that runs.
struct Running {
    request: usize,
    id: MemberId,
    first: Option<f64>,
}

/// A variant in a run.
#[derive(Default)]
struct Lane {
    batch: Batch,
    running: Vec<Running>,
    /// Seconds of its steps.
    served: f64,
    requests: u32,
}

/// What a run took.
#[derive(Default)]
struct Run {
    seconds: f64,
    tokens: u64,
    latency: Vec<f64>,
    first: Vec<f64>,
    late: u32,
    /// Requests of each variant.
    requests: Vec<u32>,
}

pub(super) fn main(args: &BenchTraceArgs) -> Result<Outcome> {
    let trace = trace(args)?;
    let policies: Vec<Policy> = args.policies.iter().map(|name| fleet::policy(name)).collect::<Result<_>>()?;
    let variants = variants(args, &trace)?;
    let names: Vec<&str> = variants.iter().map(|v| v.name.as_str()).collect();
    policies.iter().try_for_each(|policy| policy.check(&names))?;
    let mut runs: Vec<Vec<Run>> = policies.iter().map(|_| Vec::new()).collect();
    for _ in 0..args.reps {
        for (policy, runs) in policies.iter().zip(&mut runs) {
            runs.push(serve(args, &trace, &variants, policy)?);
            if signals::interrupted() {
                bail!("interrupted");
            }
        }
    }
    let report = Report { args, names, policies: &policies, runs: &runs };
    output::print_now(&match args.output {
        ShowForm::Md => report.markdown(),
        ShowForm::Json => report.json(),
    })?;
    Ok(Outcome::Fine)
}

fn trace(args: &BenchTraceArgs) -> Result<Vec<TraceRequest>> {
    let mut trace = match &args.trace {
        Some(path) => parse(&input::text(path, MOST_TRACE)?).with_context(|| path.display().to_string())?,
        None => make(&TraceOptions { mix: Mix::Mixed, requests: 24, context: 512, rate: f64::INFINITY, seed: 1 }),
    };
    trace.iter_mut().for_each(|r| r.arrival /= args.pace);
    Ok(trace)
}

fn variants(args: &BenchTraceArgs, trace: &[TraceRequest]) -> Result<Vec<Variant>> {
    let context = trace.iter().map(|r| r.prompt.saturating_add(r.output)).max();
    let options = EngineOptions { context, sequences: args.sequences, ..EngineOptions::default() };
    let paths = if args.variants.is_empty() { vec![crate::pull::default_model(false)?] } else { args.variants.clone() };
    let mut variants = Vec::new();
    for path in paths {
        let name = path.file_stem().map_or(String::new(), |stem| stem.to_string_lossy().into_owned());
        let model = crate::args::ModelArgs { model: Some(path), ..args.model.clone() };
        let engine = models::load(&model, &args.load, &options)?.split().0;
        let texts = TEXTS.into_iter().map(|(category, workload)| Ok((category, tokens(&engine, workload)?)));
        let (texts, weight_bytes) = (texts.collect::<Result<_>>()?, engine.work().weight_bytes);
        variants.push(Variant { name, engine, weight_bytes, texts });
    }
    Ok(variants)
}

/// Tokens of a workload's prompts, one after the other.
fn tokens(engine: &Engine, workload: &str) -> Result<Vec<u32>> {
    let prompts = workloads::load(&[workload.into()], None)?;
    let text: String = prompts.iter().flat_map(|w| &w.prompts).map(|p| p.prompt.as_str()).collect();
    Ok(engine.model().tokenizer.encode(&text, false)?)
}

impl Variant {
    /// The prompt of a request: a piece of its category's text, so that requests differ.
    fn prompt(&self, at: usize, request: &TraceRequest) -> Vec<u32> {
        let text = self.texts.get(request.category.as_str()).or(self.texts.values().next());
        let text = text.map_or(&[][..], Vec::as_slice);
        let start = at.wrapping_mul(7919) % text.len().max(1);
        let piece = text.iter().cycle().skip(start).take(request.prompt as usize).copied();
        self.engine.model().tokenizer.framed(piece.collect())[..request.prompt as usize].to_vec()
    }
}

/// Runs the trace once.
fn serve(args: &BenchTraceArgs, trace: &[TraceRequest], variants: &[Variant], policy: &Policy) -> Result<Run> {
    let mut lanes: Vec<Lane> = variants.iter().map(|_| Lane::default()).collect();
    let mut waiting: VecDeque<usize> = (0..trace.len()).collect();
    let (mut run, started) = (Run::default(), Instant::now());
    let within = args.within.unwrap_or(f64::INFINITY);
    loop {
        let now = started.elapsed().as_secs_f64();
        while lanes.iter().map(|l| l.running.len()).sum::<usize>() < args.sequences as usize {
            let Some(&next) = waiting.front().filter(|&&next| trace[next].arrival <= now) else { break };
            waiting.pop_front();
            let left = within - (now - trace[next].arrival);
            start(next, &trace[next], variants, &mut lanes, (policy, left))?;
        }
        let busy = (0..lanes.len()).filter(|&v| !lanes[v].running.is_empty());
        let Some(v) = busy.min_by(|&a, &b| lanes[a].served.total_cmp(&lanes[b].served)) else {
            let Some(&next) = waiting.front() else { break };
            let wait = trace[next].arrival - now;
            std::thread::sleep(std::time::Duration::from_secs_f64(wait.clamp(0.0, 0.01)));
            continue;
        };
        step(&variants[v].engine, &mut lanes[v], trace, (started, within), &mut run)?;
        if signals::interrupted() {
            break;
        }
    }
    run.seconds = started.elapsed().as_secs_f64();
    run.requests = lanes.iter().map(|l| l.requests).collect();
    Ok(run)
}

/// Routes a request and makes it a member of its variant's batch.
fn start(
    at: usize,
    facts: &TraceRequest,
    variants: &[Variant],
    lanes: &mut [Lane],
    (policy, within): (&Policy, f64),
) -> Result<()> {
    let seconds: Vec<f64> = (0..variants.len()).map(|v| expected(variants, lanes, v, facts)).collect();
    let now = variants.iter().zip(&seconds).map(|(v, &seconds)| VariantNow {
        name: &v.name,
        weight_bytes: v.weight_bytes,
        seconds,
        fits: true,
    });
    // The trace's category stands for the probe's answer.
    let probed = Some(Probed { category: &facts.category, margin: 1.0 });
    let request = RouteRequest { probed, context: facts.prompt + facts.output, within };
    let route = policy.route(&request, &now.collect::<Vec<_>>()).context("there is no variant")?;
    let idle = lanes[route.variant].running.is_empty();
    let busy = lanes.iter().filter(|l| !l.running.is_empty()).map(|l| l.served);
    let least = busy.fold(f64::INFINITY, f64::min);
    let lane = &mut lanes[route.variant];
    if idle && least.is_finite() {
        lane.served = lane.served.max(least);
    }
    let variant = &variants[route.variant];
    let speculation = match route.speculation {
        SpeculationRule::Off => Speculation::Off,
        SpeculationRule::Auto => Speculation::Auto,
        SpeculationRule::Fixed(n) => Speculation::Fixed(n as usize),
    };
    let request = Request {
        max_tokens: Some(facts.output as usize),
        ignore_eog: true,
        speculation,
        ..Request::new(variant.prompt(at, facts), Sampling::greedy())
    };
    let joined = lane.batch.join(&variant.engine, request, Sequence::new(), None);
    let id = joined.map_err(|(error, _)| error)?;
    lane.running.push(Running { request: at, id, first: None });
    lane.requests += 1;
    Ok(())
}

/// Expected seconds of a request on a variant, if what runs now goes on. Busy variants share the machine equally.
fn expected(variants: &[Variant], lanes: &[Lane], v: usize, facts: &TraceRequest) -> f64 {
    let (engine, own) = (&variants[v].engine, lanes[v].running.len() as u32);
    let shares = 1 + lanes.iter().enumerate().filter(|(i, l)| *i != v && !l.running.is_empty()).count();
    let step = |sequences: u32, rows: u32, positions: u32| {
        let Predicted(seconds) = engine.predict(StepSize { sequences, rows, positions: positions.into() });
        seconds
    };
    let chunk = (engine.prefill_rows() as u32).min(facts.prompt).max(1);
    let prompt = f64::from(facts.prompt) / f64::from(chunk) * step(1, chunk, (facts.prompt / 2).max(chunk));
    let len = facts.prompt + facts.output / 2;
    let token = step(own + 1, own + 1, (own + 1) * len);
    shares as f64 * (prompt + f64::from(facts.output) * token)
}

/// Runs a step of a variant, and takes out what has ended.
fn step(
    engine: &Engine,
    lane: &mut Lane,
    trace: &[TraceRequest],
    (started, within): (Instant, f64),
    run: &mut Run,
) -> Result<()> {
    let began = Instant::now();
    lane.batch.step(engine, &mut |_, _| Flow::Continue)?;
    lane.served += began.elapsed().as_secs_f64();
    let now = started.elapsed().as_secs_f64();
    for running in lane.running.iter_mut().filter(|r| r.first.is_none()) {
        if lane.batch.generated(running.id).is_some_and(|ids| !ids.is_empty()) {
            running.first = Some(now);
        }
    }
    while let Some(id) = lane.batch.ended() {
        let (done, _) = lane.batch.leave(engine, id).context("the member has not left")?;
        let Some(at) = lane.running.iter().position(|r| r.id == id) else { continue };
        let Running { request, first, .. } = lane.running.swap_remove(at);
        let latency = now - trace[request].arrival;
        run.tokens += done?.ids.len() as u64;
        run.latency.push(latency);
        run.first.push(first.unwrap_or(now) - trace[request].arrival);
        run.late += u32::from(latency > within);
    }
    Ok(())
}

/// What is printed.
struct Report<'a> {
    args: &'a BenchTraceArgs,
    names: Vec<&'a str>,
    policies: &'a [Policy],
    runs: &'a [Vec<Run>],
}

impl Report<'_> {
    /// Throughput of a policy over that of the first one, round by round.
    fn ratio(&self, policy: usize) -> Option<Figure> {
        let rate = |run: &Run| run.tokens as f64 / run.seconds;
        let pairs = self.runs[policy].iter().zip(&self.runs[0]);
        Figure::of(&pairs.map(|(own, first)| rate(own) / rate(first)).collect::<Vec<_>>())
    }

    fn median(&self, policy: usize, of: impl Fn(&Run) -> f64) -> f64 {
        Figure::of(&self.runs[policy].iter().map(of).collect::<Vec<_>>()).map_or(0.0, |f| f.median)
    }

    fn markdown(&self) -> String {
        let row = |(i, policy): (usize, &Policy)| {
            let ratio =
                self.ratio(i).map_or("-".to_owned(), |f| format!("{:.2} ({:.2} - {:.2})", f.median, f.min, f.max));
            let last = self.runs[i].last();
            let requests: Vec<String> = last.map_or(Vec::new(), |run| {
                self.names.iter().zip(&run.requests).map(|(name, n)| format!("{name} {n}")).collect()
            });
            let mut row = cells![policy.name, format!("{:.1}", self.median(i, |r| r.tokens as f64 / r.seconds)), ratio];
            for share in [0.5, 0.95] {
                row.push(format!("{:.2}", self.median(i, |r| percentile(&r.latency, share))));
            }
            row.push(format!("{:.2}", self.median(i, |r| percentile(&r.first, 0.5))));
            row.push(if self.args.within.is_some() {
                format!("{:.0}", self.median(i, |r| f64::from(r.late)))
            } else {
                "-".to_owned()
            });
            row.push(requests.join(", "));
            row
        };
        let heads = vec![
            "policy",
            ">tok/s",
            ">over the first",
            ">request p50, s",
            ">p95",
            ">first token p50, s",
            ">late",
            "requests",
        ];
        let rows = self.policies.iter().enumerate().map(row).collect();
        let table = Table { title: "The trace, measured", heads, rows }.markdown();
        format!("{table}\nMedians of {} rounds, policies in turn; ratios with minimum and maximum.\n", self.args.reps)
    }

    fn json(&self) -> String {
        let run = |run: &Run| {
            json!({
                "seconds": run.seconds, "tokens": run.tokens, "tok_s": run.tokens as f64 / run.seconds, "late": run.late,
                "request_p50": percentile(&run.latency, 0.5), "request_p95": percentile(&run.latency, 0.95),
                "first_token_p50": percentile(&run.first, 0.5), "requests": run.requests,
            })
        };
        let policy = |(policy, runs): (&Policy, &Vec<Run>)| json!({"policy": policy.name, "runs": runs.iter().map(run).collect::<Vec<_>>()});
        output::json_line(json!({
            "kind": "measured",
            "variants": self.names,
            "policies": self.policies.iter().zip(self.runs).map(policy).collect::<Vec<_>>(),
        }))
    }
}
