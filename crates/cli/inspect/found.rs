//! What is inspected: plans compiled from a text graph or a model, or those of a compiled model.

use crate::args::{GraphArgs, ModelArgs, StepArgs, TailArg};
use crate::graph_source::{Source, explained};
use crate::models;
use aio::backend::{Device, KernelChoice};
use aio::compiler::{Compilation, FusionReport, Options, compile};
use aio::engine::EngineOptions;
use aio::inspect::{StepSize, Subject};
use aio::ir::Graph;
use aio::model::Model;
use aio::plan::artefact::{self, Artefact, is_artefact};
use aio::plan::{Bucket, Ceilings, PlanFamily, StepOutput, Tail};
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Ask<'a> {
    /// The file; `None` for the model of the flags, or the default one.
    pub file: Option<&'a Path>,
    pub model: &'a ModelArgs,
    pub step: &'a StepArgs,
}

/// Plans, and what is known of them.
pub(crate) struct Found {
    /// The file's name, or the default model's.
    pub source: String,
    /// The model's file; `None` for a text graph.
    pub path: Option<PathBuf>,
    pub family: PlanFamily,
    /// The graph; `None` if only its plans are there.
    pub graph: Option<Graph>,
    /// Index of the plan that runs the step.
    pub plan: usize,
    pub step: StepSize,
    /// Rates of the device, if it knows them.
    pub ceilings: Option<Ceilings>,
    /// Milliseconds to compile each plan; empty if none was compiled here.
    pub compile_ms: Vec<f64>,
    /// The kernels of the plan's tasks on the device here, as far as it tells.
    kernels: Vec<Option<KernelChoice>>,
    /// Whether its instruction set was asked for.
    forced: bool,
    missed: Vec<String>,
    offsets: Vec<(String, u64)>,
}

/// What a file holds, by its first bytes.
enum Kind {
    Artefact,
    Model,
    Text,
}

fn kind(path: &Path) -> Result<Kind> {
    if path.is_dir() {
        return Ok(Kind::Model);
    }
    if is_artefact(path) {
        return Ok(Kind::Artefact);
    }
    // A pipe is a text: its bytes can be read only once.
    if !path.is_file() && path.exists() {
        return Ok(Kind::Text);
    }
    let mut magic = [0; 4];
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let whole = file.read_exact(&mut magic).is_ok();
    Ok(if whole && &magic == b"GGUF" { Kind::Model } else { Kind::Text })
}

impl Found {
    /// Opens what the arguments name.
    pub(crate) fn open(ask: Ask<'_>) -> Result<Found> {
        let path = ask.file.or(ask.model.model.as_deref());
        match path {
            None => Found::of_model(ask, &models::path(ask.model)?),
            Some(path) => match kind(path)? {
                Kind::Artefact => Found::of_artefact(ask, path),
                Kind::Model => Found::of_model(ask, path),
                Kind::Text => Found::of_text(ask, path),
            },
        }
    }

    /// For the analysis.
    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject { family: &self.family, plan: self.plan, step: self.step, missed: &self.missed, offsets: &self.offsets }
    }

    /// The kernels of the plan's tasks: `here`, or on another machine, where an instruction set that was not asked for is
    /// chosen when the plan is loaded.
    pub(crate) fn kernels(&self, here: bool) -> Vec<Option<KernelChoice>> {
        if here || self.forced {
            return self.kernels.clone();
        }
        let later = KernelChoice {
            name: "chosen at load".to_owned(),
            why:
                "times are predicted for another machine, whose widest instruction set is taken when the plan is loaded"
                    .to_owned(),
        };
        self.kernels.iter().map(|k| k.as_ref().map(|_| later.clone())).collect()
    }

    /// With the kernels that the device tells. It is closed then: a modelled chip cannot be opened beside one that computes.
    fn on(self, device: &dyn Device) -> Found {
        let subject = self.subject();
        let kernels = device.kernels(subject.family, subject.plan(), &subject.dims());
        Found { kernels, ..self }
    }

    /// Bytes of each plan in an artefact.
    pub(crate) fn plan_bytes(&self) -> Vec<u64> {
        let one = |i: usize| {
            let plans = vec![self.family.plans[i].clone()];
            artefact::encode(&PlanFamily { plans, ..self.family.clone() }).len() as u64
        };
        (0..self.family.plans.len()).map(one).collect()
    }

    fn of_artefact(ask: Ask<'_>, path: &Path) -> Result<Found> {
        if ask.model.template.is_some() {
            bail!("{} is already compiled; --template needs the original model file", path.display());
        }
        let named = || format!("cannot inspect {}", path.display());
        let family = Artefact::open(path).and_then(|a| a.family()).with_context(named)?;
        let step = step(ask);
        let plan = smallest(&family, ask, step, Tail::Argmax).with_context(|| {
            let plans: Vec<String> = family.plans.iter().map(|p| p.bucket.to_string()).collect();
            format!("{} has no plan for this step; it has {}", path.display(), plans.join(", "))
        })?;
        let (source, path) = (path.display().to_string(), Some(path.to_owned()));
        let (missed, offsets, compile_ms) = (Vec::new(), Vec::new(), Vec::new());
        // Other devices of the same sort load the plans, too.
        let sort = |target: &str| target.split('-').next().map(str::to_owned);
        let opened = models::model_device(ask.model).ok();
        let device = opened.filter(|device| sort(&device.target().name) == sort(&family.target));
        let (graph, ceilings, kernels, forced) = (None, None, Vec::new(), ask.model.isa.is_some());
        let found =
            Found { source, path, family, graph, plan, step, ceilings, compile_ms, kernels, forced, missed, offsets };
        Ok(match device {
            Some(device) => found.on(&*device),
            None => found,
        })
    }

    fn of_model(ask: Ask<'_>, path: &Path) -> Result<Found> {
        let model = models::open_path(path)?;
        let graph = models::graph(&model, ask.model)?;
        let device = models::model_device(ask.model)?;
        let options = EngineOptions { hidden: ask.step.tail == Some(TailArg::Hidden), ..EngineOptions::default() };
        let mut buckets = options.buckets(&*device);
        let wanted = bucket(ask, step(ask), Tail::Argmax);
        if !buckets.iter().any(|b| serves(b, &wanted)) {
            buckets.push(wanted);
        }
        let compiled = compiled(&graph, &device.target(), &buckets)?;
        let ceilings = Some(options.ceilings_of(&*device));
        let source = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let found = compiled.found(ask, source, Tail::Argmax, ceilings)?;
        let found = found.on(&*device);
        Ok(Found { offsets: offsets(&model), path: Some(path.to_owned()), graph: Some(graph), ..found })
    }

    fn of_text(ask: Ask<'_>, path: &Path) -> Result<Found> {
        let source = Source::of(&GraphArgs { file: Some(path.to_owned()), model: ask.model.clone() })?;
        let parsed = source.parse()?;
        let graph = source.verify(&parsed)?.graph().clone();
        let device = models::model_device(ask.model)?;
        let has_logits = graph.outputs.iter().any(|o| o.name == StepOutput::Logits.name());
        let tail = if has_logits { Tail::Argmax } else { Tail::Logits };
        let wanted = bucket(ask, step(ask), tail);
        let compiled = compiled(&graph, &device.target(), &[wanted])?;
        let ceilings = Some(EngineOptions::default().ceilings_of(&*device));
        let found = compiled.found(ask, source.name, tail, ceilings)?;
        Ok(Found { graph: Some(graph), ..found.on(&*device) })
    }
}

/// The step that the arguments describe.
fn step(ask: Ask<'_>) -> StepSize {
    let (seqs, context) = (ask.step.seqs, ask.step.context);
    match ask.step.drafts {
        Some(k) => {
            let rows = seqs.saturating_mul(k + 1);
            StepSize { rows, seqs, outs: rows, context }
        }
        None => {
            let rows = ask.step.rows.max(seqs);
            StepSize { rows, seqs, outs: ask.step.outs.unwrap_or(seqs).min(rows), context }
        }
    }
}

fn bucket(ask: Ask<'_>, step: StepSize, tail: Tail) -> Bucket {
    let tail = ask.step.tail.map_or(tail, |t| t.tail());
    let bucket = Bucket { seqs: step.seqs, ..Bucket::new(step.rows, step.outs, tail) };
    if ask.step.drafts.is_some() { bucket.verifying() } else { bucket }
}

/// Whether a plan for one bucket runs the steps of another.
fn serves(plan: &Bucket, step: &Bucket) -> bool {
    let size = step.rows <= plan.rows && step.seqs <= plan.seqs && step.outs <= plan.outs;
    size && plan.tail == step.tail && plan.verify == step.verify
}

/// The smallest plan that runs the step.
fn smallest(family: &PlanFamily, ask: Ask<'_>, step: StepSize, tail: Tail) -> Option<usize> {
    let wanted = bucket(ask, step, tail);
    let plans = family.plans.iter().map(|p| p.bucket).enumerate().filter(|(_, b)| serves(b, &wanted));
    plans.min_by_key(|(_, b)| (b.rows, b.outs)).map(|(i, _)| i)
}

/// A family, with the reports and times of its plans.
struct Compiled {
    family: PlanFamily,
    reports: Vec<FusionReport>,
    ms: Vec<f64>,
}

/// Compiles each bucket alone for its time, and all together for the family.
fn compiled(graph: &Graph, target: &aio::plan::Target, buckets: &[Bucket]) -> Result<Compiled> {
    let verified = aio::ir::verify(graph)?;
    let mut ms = Vec::new();
    for &bucket in buckets {
        let started = Instant::now();
        compile(verified, target, &Options { buckets: vec![bucket], fuse: true }).map_err(explained)?;
        ms.push(1e3 * started.elapsed().as_secs_f64());
    }
    let Compilation { family, reports } =
        compile(verified, target, &Options { buckets: buckets.to_vec(), fuse: true })?;
    Ok(Compiled { family, reports, ms })
}

impl Compiled {
    fn found(self, ask: Ask<'_>, source: String, tail: Tail, ceilings: Option<Ceilings>) -> Result<Found> {
        let Compiled { family, reports, ms } = self;
        let step = step(ask);
        let plan = smallest(&family, ask, step, tail).context("the step's own plan was compiled")?;
        let report = &reports[plan];
        let missed = report.missed.iter().chain(&report.alone).cloned().collect();
        let (compile_ms, offsets) = (ms, Vec::new());
        let (path, graph, kernels, forced) = (None, None, Vec::new(), ask.model.isa.is_some());
        Ok(Found { source, path, family, graph, plan, step, ceilings, compile_ms, kernels, forced, missed, offsets })
    }
}

fn offsets(model: &Model) -> Vec<(String, u64)> {
    model.gguf.tensors().iter().map(|t| (t.name.clone(), t.file_offset)).collect()
}
