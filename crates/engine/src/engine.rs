//! The engine: a model on a device.

use crate::burst::Bursts;
use crate::dispatch::Dispatch;
use crate::limits::{MAX_DRAFTS, SMALL_ROWS, WIDE_ROWS};
use crate::need::MemoryNeed;
use crate::request::{Request, Sampling};
use crate::runner::{RowTally, Runner};
use crate::source::ModelWeights;
use crate::step::{DraftOutcome, DraftSpan, Step, StepInputs, token_tail};
use crate::{EngineError, ModelWork, PagePool, Sequence};
use aio_backend::{Counters, Device, WeightImage};
use aio_compiler::{Compilation, Options, compile};
use aio_ir::{DType, Dim, Dims, Graph, PAGE_POSITIONS, Sym};
use aio_model::Model;
use aio_model::hyper::HyperParams;
use aio_orchestrator::{Ceilings, SpeculationOptions, Speculator, StepCost, StepModel};
use aio_plan::{Bucket, PlanFamily, PoolSizes, StepOutput, Tail};
use std::sync::Arc;
use std::time::Instant;

/// Default ceilings, typical of a small desktop.
const CEILINGS: Ceilings = Ceilings { bandwidth: 20e9, peak: 150e9 };
/// Estimated overhead of a step besides its work.
const STEP_SECONDS: f64 = 50e-6;

/// Options for loading a model.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Context length in positions; `None` for the model's own.
    pub context: Option<u32>,
    /// Maximum rows of a prefill step.
    pub prefill_rows: u32,
    /// Maximum sequences that run at once. The KV pool has room for each to fill its context.
    pub sequences: u32,
    /// How a step's work is divided and submitted.
    pub dispatch: Dispatch,
    /// The device's peak rates, used to predict step times before any is measured. An estimate unless the caller knows
    /// better, for example from a device profile.
    pub ceilings: Ceilings,
    /// Maximum tokens the device generates without the host, if it can and only one sequence is running; 0 for single
    /// steps. The tokens are the same.
    pub burst: usize,
    /// Source of the step times that draft selection uses.
    pub clock: StepClock,
}

/// The source of step durations.
#[derive(Clone, Copy, Debug, Default)]
pub enum StepClock {
    /// Wall time.
    #[default]
    Measured,
    /// Seconds as a function of the step's rows and the KV bytes it reads. For simulations, and for tests whose choices
    /// must not depend on the machine.
    Modelled(fn(rows: usize, kv_bytes: f64) -> f64),
}

impl StepClock {
    /// Seconds of a step that started at `started` and has just ended.
    pub(crate) fn seconds(self, rows: usize, kv_bytes: f64, started: Instant) -> f64 {
        match self {
            StepClock::Measured => started.elapsed().as_secs_f64(),
            StepClock::Modelled(seconds) => seconds(rows, kv_bytes),
        }
    }
}

impl Default for EngineOptions {
    fn default() -> EngineOptions {
        EngineOptions {
            context: None,
            prefill_rows: 512,
            sequences: 1,
            dispatch: Dispatch::Graph,
            ceilings: CEILINGS,
            burst: 0,
            clock: StepClock::Measured,
        }
    }
}

impl EngineOptions {
    /// The buckets that a model is compiled for on a device.
    pub fn buckets(&self, device: &dyn Device) -> Vec<Bucket> {
        buckets(&bucket_rows(self, device))
    }
}

/// A model on a device. See the crate's front page.
pub struct Engine {
    model: Model,
    family: PlanFamily,
    runner: Runner,
    pool: PagePool,
    context: usize,
    prefill_rows: usize,
    dispatch: Dispatch,
    inputs: StepInputs,
    work: ModelWork,
    bursts: Bursts,
    /// Learned speculation state, shared by all batches.
    pub(crate) speculator: Speculator,
    clock: StepClock,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("model", &self.family.model).field("target", &self.family.target).finish()
    }
}

/// The parts of an engine.
pub(crate) struct Parts {
    pub model: Model,
    pub family: PlanFamily,
    /// The plans on the device.
    pub runner: Runner,
    pub pool: PagePool,
    /// Context length in positions.
    pub context: u32,
    /// Maximum rows of a prefill step.
    pub prefill_rows: u32,
    /// See [`EngineOptions::ceilings`].
    pub ceilings: Ceilings,
    /// See [`EngineOptions::burst`].
    pub burst: usize,
    /// See [`EngineOptions::clock`].
    pub clock: StepClock,
}

/// Checks the shape of the logits: rows are read with the vocabulary's size, whatever graph or plans say.
fn check_logits(parts: &Parts) -> Result<(), EngineError> {
    let vocabulary = parts.model.hyper.vocab_size;
    let wanted = [Dim::Sym(Sym::Outs), Dim::Const(vocabulary.into())];
    let logits = parts.family.plans.iter().flat_map(|p| &p.outputs).filter(|o| o.name == StepOutput::Logits.name());
    match logits.map(|o| &o.ty).find(|ty| ty.dtype != DType::F32 || ty.shape.dims() != wanted) {
        Some(ty) => Err(EngineError::Logits { got: ty.clone(), vocabulary }),
        None => Ok(()),
    }
}

/// Context length in positions for these options.
pub(crate) fn context_of(hyper: &HyperParams, options: &EngineOptions) -> u32 {
    options.context.unwrap_or(hyper.context_length).max(1)
}

/// Pages of the KV pool.
pub(crate) fn pages_of(context: u32, options: &EngineOptions) -> u32 {
    context.div_ceil(PAGE_POSITIONS as u32).saturating_mul(options.sequences.max(1))
}

/// Maximum rows of a prefill step.
pub(crate) fn prefill_rows(options: &EngineOptions) -> u32 {
    options.prefill_rows.max(1)
}

/// Step sizes that an engine has plans for. They do not depend on the context, so one artefact serves every context.
pub(crate) fn bucket_rows(options: &EngineOptions, device: &dyn Device) -> Vec<u32> {
    let mut rows = vec![1, SMALL_ROWS, WIDE_ROWS, prefill_rows(options)];
    rows.extend_from_slice(device.step_rows());
    rows.sort_unstable();
    rows.dedup();
    rows
}

/// Compiles plans for steps of these sizes, each with every tail.
pub(crate) fn compile_family(
    graph: &Graph,
    device: &dyn Device,
    rows: &[u32],
    dispatch: Dispatch,
) -> Result<PlanFamily, EngineError> {
    let verified = aio_ir::verify(graph)?;
    let options = Options { buckets: buckets(rows), fuse: dispatch != Dispatch::Op };
    let Compilation { family, .. } = compile(verified, &device.target(), &options)?;
    Ok(family)
}

fn buckets(rows: &[u32]) -> Vec<Bucket> {
    let mut buckets = Vec::new();
    for &rows in rows {
        for tail in Tail::ALL {
            let outs = if tail == Tail::Logits { rows } else { rows.min(WIDE_ROWS) };
            let bucket = Bucket::new(rows, outs, tail);
            buckets.push(bucket);
            if tail != Tail::Logits && rows > 1 {
                buckets.push(bucket.verifying());
            }
        }
    }
    buckets
}

fn verifying(family: &PlanFamily) -> impl Iterator<Item = &Bucket> {
    family.plans.iter().map(|p| &p.bucket).filter(|b| b.verify)
}

/// The speculator, which uses the roofline until step times are measured.
fn speculator(family: &PlanFamily, work: ModelWork, ceilings: Ceilings) -> Speculator {
    let cost = StepCost {
        bytes: work.weight_bytes as f64,
        bytes_per_row: work.kv_bytes_per_position as f64,
        macs_per_row: (work.int8_macs + work.f32_macs) as f64,
        seconds: STEP_SECONDS,
    };
    Speculator::new(SpeculationOptions {
        max_drafts: MAX_DRAFTS as u32,
        max_rows: verifying(family).map(|b| b.outs).max().unwrap_or(0),
        model: StepModel::Roofline(cost, ceilings),
    })
}

impl Engine {
    /// Compiles the model's step graph for the device and loads everything.
    ///
    /// # Errors
    /// [`EngineError::Memory`] before anything large is allocated, [`aio_model::ModelError::UnreadTensor`] for a tensor
    /// that the graph does not read; see [`EngineError`] for the rest.
    pub fn load(
        model: Model,
        graph: &Graph,
        device: Arc<dyn Device>,
        options: &EngineOptions,
    ) -> Result<Engine, EngineError> {
        let context = context_of(&model.hyper, options);
        let rows = bucket_rows(options, &*device);
        let family = compile_family(graph, &*device, &rows, options.dispatch)?;
        model.check_tensors(graph)?;
        let pages = pages_of(context, options);
        let need = MemoryNeed::of(&family, PoolSizes::pages(pages));
        need.check_on(device.available_bytes(), || device.scratch_bytes(&family, PoolSizes::pages(pages)))?;
        let weights = device.upload(&family, &ModelWeights::checked(&model, &family)?, PoolSizes::pages(pages))?;
        model.gguf.check_unchanged().map_err(aio_model::ModelError::from)?;
        let runner = Runner::new(device, &family, weights, options.dispatch)?;
        let (pool, prefill_rows) = (PagePool::new(pages), prefill_rows(options));
        let EngineOptions { ceilings, burst, clock, .. } = *options;
        let parts = Parts { model, family, runner, pool, context, prefill_rows, ceilings, burst, clock };
        Engine::assemble(parts, options.dispatch)
    }

    /// Assembles an engine in its initial state.
    ///
    /// # Errors
    /// [`EngineError::Logits`].
    pub(crate) fn assemble(parts: Parts, dispatch: Dispatch) -> Result<Engine, EngineError> {
        check_logits(&parts)?;
        let Parts { model, family, runner, pool, context, prefill_rows, ceilings, burst, clock } = parts;
        let (context, prefill_rows, inputs) = (context as usize, prefill_rows as usize, StepInputs::default());
        let work = ModelWork::of(&family);
        let (speculator, bursts) = (speculator(&family, work, ceilings), Bursts::new(burst));
        Ok(Engine {
            model,
            family,
            runner,
            pool,
            context,
            prefill_rows,
            dispatch,
            inputs,
            work,
            bursts,
            speculator,
            clock,
        })
    }

    /// The source of step times.
    pub(crate) fn clock(&self) -> StepClock {
        self.clock
    }

    /// The device.
    pub(crate) fn device(&self) -> &dyn Device {
        self.runner.device()
    }

    /// The packed weights.
    pub(crate) fn image(&self) -> Result<WeightImage, EngineError> {
        self.runner.image()
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The plans.
    pub fn family(&self) -> &PlanFamily {
        &self.family
    }

    /// Context length in positions.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Maximum rows of a prefill step.
    pub fn prefill_rows(&self) -> usize {
        self.prefill_rows
    }

    /// Maximum sequences in a step that chooses tokens.
    pub(crate) fn batch_rows(&self) -> usize {
        let plain = self.family.plans.iter().map(|p| &p.bucket).filter(|b| b.tail == Tail::Argmax && !b.verify);
        plain.map(|b| b.outs.min(b.seqs) as usize).max().unwrap_or(0)
    }

    /// Maximum rows of a step that verifies drafts; 0 if no plan does.
    pub fn verify_rows(&self) -> usize {
        verifying(&self.family).map(|b| b.outs as usize).max().unwrap_or(0)
    }

    /// How steps are submitted.
    pub fn dispatch(&self) -> Dispatch {
        self.dispatch
    }

    /// Switches between [`Dispatch::Graph`] and [`Dispatch::Token`], which run the same plans, so that one loaded model
    /// serves both.
    ///
    /// # Errors
    /// [`EngineError::Option`] if `dispatch` needs other plans; nothing has changed then.
    pub fn set_dispatch(&mut self, dispatch: Dispatch) -> Result<(), EngineError> {
        if (dispatch == Dispatch::Op) != (self.dispatch == Dispatch::Op) {
            let expected = "one that runs the plans which the engine was loaded with";
            return Err(EngineError::Option { name: "dispatch", value: format!("{dispatch:?}"), expected });
        }
        self.dispatch = dispatch;
        Ok(())
    }

    /// Maximum tokens of a burst; 0 if bursts are disabled.
    pub fn burst(&self) -> usize {
        self.bursts.limit
    }

    /// Sets the maximum tokens of a burst, between steps; see [`EngineOptions::burst`].
    pub fn set_burst(&mut self, tokens: usize) {
        self.bursts.limit = tokens;
    }

    /// Why the device runs no bursts; `None` if it does or has not been asked.
    pub fn burst_refusal(&self) -> Option<&str> {
        self.bursts.refusal()
    }

    /// Whether bursts with this tail can run.
    pub(crate) fn burst_ready(&mut self, tail: Tail) -> bool {
        self.bursts.ready(&self.runner, &self.family, tail)
    }

    /// The bursts, and the model they decode.
    pub(crate) fn bursts(&mut self) -> (&Model, &mut Bursts) {
        (&self.model, &mut self.bursts)
    }

    /// The learned speculation state. A copy taken before the first step is untrained.
    pub fn speculator(&self) -> &Speculator {
        &self.speculator
    }

    /// Swaps the learned speculation state with `other`. Call between steps. To compare methods of speculation on one
    /// engine, keep a speculator for each, so that none benefits from what another has learned.
    pub fn swap_speculator(&mut self, other: &mut Speculator) {
        std::mem::swap(&mut self.speculator, other);
    }

    /// The device's counters.
    pub fn counters(&self) -> Counters {
        self.runner.device().counters()
    }

    /// Row counts of all steps so far, and of their buckets.
    pub fn rows(&self) -> RowTally {
        self.runner.rows
    }

    /// What steps read and compute.
    pub fn work(&self) -> ModelWork {
        self.work
    }

    /// Makes positions up to `end` of a sequence writable.
    ///
    /// # Errors
    /// [`EngineError::PoolFull`], [`EngineError::ForeignSequence`], and device errors from copying a shared page. The
    /// sequence is unchanged then.
    pub fn reserve(&mut self, sequence: &mut Sequence, end: usize) -> Result<(), EngineError> {
        let runner = &self.runner;
        sequence.reserve(&mut self.pool, end, |from, to| runner.copy_pages(&[(from, to)]))
    }

    /// Releases the pages of a sequence that hold no position below `end`. Pages with committed positions stay, and so
    /// do another engine's.
    pub fn trim(&mut self, sequence: &mut Sequence, end: usize) {
        sequence.trim(&mut self.pool, end);
    }

    /// Releases a sequence's pages. Pages of another engine stay.
    pub fn release(&mut self, sequence: &mut Sequence) {
        sequence.release(&mut self.pool);
    }

    /// Makes a second sequence with the same first `len` positions, or with all committed ones if those are fewer.
    ///
    /// # Errors
    /// [`EngineError::ForeignSequence`].
    pub fn fork(&mut self, sequence: &Sequence, len: usize) -> Result<Sequence, EngineError> {
        sequence.fork(&mut self.pool, len)
    }

    /// Name of the plan that a decode step of this request uses.
    pub fn decode_plan(&self, request: &Request) -> String {
        self.bucket_name(1, 1, token_tail(&request.sampling, request.logit_bias.is_some() || request.mask.is_some()))
    }

    /// Name of the plan that a step of `rows` rows of one sequence uses, `outs` of which ask for a token; empty if none
    /// fits.
    pub fn plan_name(&self, rows: u32, outs: u32, sampling: &Sampling) -> String {
        self.bucket_name(rows, outs, token_tail(sampling, false))
    }

    fn bucket_name(&self, rows: u32, outs: u32, tail: Tail) -> String {
        let dims = Dims { rows, seqs: 1, outs, ..Dims::default() };
        self.runner.bucket(&dims, tail, false).map_or_else(String::new, |b| b.to_string())
    }

    /// Runs one step and returns the sampled tokens of the rows that asked for one, in order. If any row asked for
    /// logits, returns the logits of all rows with an output instead, as f32 bits.
    ///
    /// # Errors
    /// [`EngineError::Token`], [`EngineError::ForeignSequence`], [`EngineError::NotReserved`],
    /// [`EngineError::StepSize`], and device errors, after which all sequences are unchanged.
    pub fn step(&mut self, step: &Step<'_>) -> Result<&[u32], EngineError> {
        let vocabulary = self.model.hyper.vocab_size;
        step.check(vocabulary, &self.pool)?;
        let tail = self.inputs.fill(step, &[], self.pool.pages());
        let width = if tail == Tail::Logits { vocabulary as usize } else { 1 };
        let words = self.inputs.dims.outs as usize * width;
        self.runner.run(&self.inputs, tail, &[words])?;
        Ok(&self.runner.outputs[0][..words])
    }

    /// Runs one step that verifies drafts: one submission and one synchronisation, however many drafts there are. The
    /// caller commits the lengths of the sequences according to [`DraftOutcome::lens`].
    ///
    /// # Errors
    /// The errors of [`Engine::step`], and [`EngineError::Spans`].
    pub fn verify(&mut self, step: &Step<'_>, spans: &[DraftSpan]) -> Result<DraftOutcome<'_>, EngineError> {
        step.check(self.model.hyper.vocab_size, &self.pool)?;
        step.check_spans(spans)?;
        let tail = self.inputs.fill(step, spans, self.pool.pages());
        let words = spans.len();
        self.runner.run(&self.inputs, tail, &[words; 3])?;
        let [accepted, next, lens] = &self.runner.outputs;
        Ok(DraftOutcome { accepted: &accepted[..words], next: &next[..words], lens: &lens[..words] })
    }
}
