//! Runs the passes in order and verifies the result of each.

use crate::CompileError;
use crate::batch_verify::batch_verify;
use crate::emit::emit;
use crate::emitter::Shared;
use crate::fuse::{Cluster, Miss, fuse};
use crate::report::FusionReport;
use crate::schedule::schedule;
use crate::simplify::simplify;
use crate::tail::with_tail;
use aio_ir::{Def, Graph, Verified, verify};
use aio_plan::{Bucket, Plan, PlanError, PlanFamily, Target};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// Compiler options.
#[derive(Clone, Debug)]
pub struct Options {
    /// Buckets, one plan each.
    pub buckets: Vec<Bucket>,
    /// Whether to fuse; if not, each node is a task.
    pub fuse: bool,
}

/// A plan family with its fusion reports.
#[derive(Clone, Debug)]
pub struct Compilation {
    /// The plan family.
    pub family: PlanFamily,
    /// One report per plan, in the same order.
    pub reports: Vec<FusionReport>,
}

/// Compiles a step graph for a target.
///
/// # Errors
/// See [`CompileError`]. `BrokenGraph` and `BrokenPlan` are compiler bugs.
pub fn compile(graph: Verified<'_>, target: &Target, options: &Options) -> Result<Compilation, CompileError> {
    if let Some(most) = target.plans.filter(|&most| options.buckets.len() > most as usize) {
        return Err(CompileError::Plans { target: target.name.clone(), plans: options.buckets.len(), most });
    }
    let mut shared = Shared::default();
    let mut plans: Vec<Plan> = Vec::new();
    let mut reports = Vec::new();
    for &bucket in &options.buckets {
        let (simple, clusters, misses) = lower(graph.graph(), target, bucket, options.fuse)?;
        reports.push(FusionReport::new(&simple, &clusters, &misses));
        plans.push(emit(&simple, &clusters, bucket, target, &mut shared)?);
    }
    let (weights, states) = shared.finish();
    let family = PlanFamily {
        model: graph.graph().name.clone(),
        target: target.name.clone(),
        weights,
        states,
        arena_bytes: plans.iter().map(|p| p.arena_bytes).max().unwrap_or(0),
        alignment: target.alignment,
        plans,
    };
    match aio_plan::verify(&family) {
        Ok(()) => Ok(Compilation { family, reports }),
        Err(errors) => Err(broken(errors.into_iter().next().expect("an error was found"))),
    }
}

/// Converts a broken plan rule. Sizes come from the graph and the bucket; any other broken rule is a compiler bug.
fn broken(error: PlanError) -> CompileError {
    match error.code {
        "L017" | "L018" => CompileError::TooLarge { bucket: error.bucket, what: error.message },
        _ => CompileError::BrokenPlan(error),
    }
}

fn checked(pass: &'static str, graph: Graph) -> Result<Graph, CompileError> {
    match verify(&graph) {
        Ok(_) => Ok(graph),
        Err(source) => Err(CompileError::BrokenGraph { pass, source }),
    }
}

/// Rejects an input or output added by a pass whose name another declared value or output has. Names were unique before
/// the pass.
fn names_free(pass: &'static str, graph: Graph) -> Result<Graph, CompileError> {
    let values = || graph.values().map(|(_, v)| v);
    let declared = values().filter(|v| !matches!(v.def, Def::Node { .. })).map(|v| v.name.as_str());
    // Outputs share names with states only: both are results of a step.
    let states = values().filter(|v| v.def == Def::State).map(|v| v.name.as_str());
    let results = states.chain(graph.outputs.iter().map(|o| o.name.as_str()));
    match twice(declared).or_else(|| twice(results)) {
        Some(name) => {
            let name = name.to_owned();
            Err(CompileError::NameTaken { pass, name })
        }
        None => Ok(graph),
    }
}

/// A name that stands twice.
fn twice<'n>(mut names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let mut taken = HashSet::new();
    names.find(|name| !taken.insert(*name))
}

type Lowered = (Graph, Vec<Cluster>, Vec<Miss>);

fn lower(graph: &Graph, target: &Target, bucket: Bucket, on: bool) -> Result<Lowered, CompileError> {
    let mut stepped = checked("tail", names_free("tail", with_tail(graph, bucket.tail)?)?)?;
    if bucket.verify {
        stepped = checked("batch_verify", names_free("batch_verify", batch_verify(&stepped)?)?)?;
    }
    let simple = checked("simplify", simplify(&stepped))?;
    let (clusters, misses) = fuse(&simple, target, bucket, on)?;
    let clusters = schedule(&simple, clusters);
    Ok((simple, clusters, misses))
}

/// The passes in order, as [`passes`] names them.
pub const PASSES: [&str; 6] = ["input", "tail", "batch_verify", "simplify", "fuse", "plan"];

/// The result of a pass, for `aio graph passes`.
#[derive(Clone, Debug)]
pub struct PassDump {
    /// The pass.
    pub pass: &'static str,
    /// Number of nodes, or of tasks after fusion.
    pub count: usize,
    /// Time that the pass took, with the verification of its result.
    pub time: Duration,
    /// The graph or the tasks as text.
    pub text: String,
}

/// The result of each pass for one bucket, up to the pass `until` if there is one.
///
/// # Errors
/// The errors of [`compile`], of the passes that ran.
pub fn passes(
    graph: Verified<'_>,
    target: &Target,
    bucket: Bucket,
    until: Option<&str>,
) -> Result<Vec<PassDump>, CompileError> {
    let mut dumps = vec![dumped("input", Duration::ZERO, graph.graph())];
    let done = |dumps: &[PassDump]| until.is_some() && dumps.last().map(|d| d.pass) == until;
    if done(&dumps) {
        return Ok(dumps);
    }
    let (time, mut stepped) = timed(|| checked("tail", with_tail(graph.graph(), bucket.tail)?))?;
    dumps.push(dumped("tail", time, &stepped));
    if done(&dumps) {
        return Ok(dumps);
    }
    if bucket.verify {
        let (time, verifying) = timed(|| checked("batch_verify", batch_verify(&stepped)?))?;
        dumps.push(dumped("batch_verify", time, &verifying));
        stepped = verifying;
    }
    if done(&dumps) {
        return Ok(dumps);
    }
    let (time, simple) = timed(|| checked("simplify", simplify(&stepped)))?;
    dumps.push(dumped("simplify", time, &simple));
    if done(&dumps) {
        return Ok(dumps);
    }
    let (time, (clusters, misses)) = timed(|| fuse(&simple, target, bucket, true))?;
    let report = FusionReport::new(&simple, &clusters, &misses);
    dumps.push(PassDump { pass: "fuse", count: report.task_count(), time, text: report.to_string() });
    if done(&dumps) {
        return Ok(dumps);
    }
    // Scheduling, memory and the plan's own verification; the passes before them run again.
    let before: Duration = dumps.iter().map(|d| d.time).sum();
    let options = Options { buckets: vec![bucket], fuse: true };
    let (time, compiled) = timed(|| compile(graph, target, &options))?;
    let plan = &compiled.family.plans[0];
    let text = aio_plan::text::print(&compiled.family, plan);
    dumps.push(PassDump { pass: "plan", count: plan.tasks.len(), time: time.saturating_sub(before), text });
    Ok(dumps)
}

fn dumped(pass: &'static str, time: Duration, graph: &Graph) -> PassDump {
    PassDump { pass, count: graph.nodes().len(), time, text: aio_ir::text::print(graph) }
}

fn timed<T>(pass: impl FnOnce() -> Result<T, CompileError>) -> Result<(Duration, T), CompileError> {
    let started = Instant::now();
    let made = pass()?;
    Ok((started.elapsed(), made))
}
