//! The engine: a model on a device.

use crate::dispatch::Dispatch;
use crate::forms::FormSteps;
use crate::limits::{MAX_DRAFTS, SMALL_ROWS, WIDE_ROWS};
use crate::lock::{Exclusive, lock};
use crate::need::MemoryNeed;
use crate::pools::{Capacity, PoolPlan, Pools};
use crate::request::{Request, Sampling};
use crate::runner::{RowTally, Runner, serves};
use crate::source::ModelWeights;
use crate::step::token_tail;
use crate::steps::Steps;
use crate::{EngineError, ModelWork};
use aio_backend::{Counters, Device, WeightImage, WeightSet};
use aio_compiler::{Compilation, Options, compile};
use aio_ir::{DType, Dim, Dims, Graph, Sym};
use aio_model::Model;
use aio_model::hyper::HyperParams;
use aio_orchestrator::{
    Ceilings, CostErrors, CostModel, Predicted, PresentSpeed, SpeculationOptions, Speculator, StepModel, StepSize,
    StepWork,
};
use aio_plan::{Bucket, PlanFamily, PoolSizes, StepOutput, Tail};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

/// Default ceilings, typical of a small desktop.
const CEILINGS: Ceilings = Ceilings { bandwidth: 20e9, peak: 150e9 };
/// Default snapshots of a sequence, and the most bytes of all.
const SNAPSHOTS: u32 = 2;
const SNAPSHOT_BYTES: u64 = 256 << 20;

/// Options for loading a model.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Context length in positions; `None` for the model's own.
    pub context: Option<u32>,
    /// Maximum rows of a prefill step.
    pub prefill_rows: u32,
    /// Maximum sequences that run at once. The KV pool has room for each to fill its context, and each has slots for
    /// recurrent state.
    pub sequences: u32,
    /// Snapshots of recurrent state that each sequence keeps, if the model has any: the newest multiples of 256 positions
    /// at which a step ended. The sequence can be cut there. Each takes the memory of a slot.
    pub snapshots: u32,
    /// Maximum bytes of all sequences' snapshots: if `snapshots` would take more, each sequence keeps fewer.
    pub snapshot_bytes: u64,
    /// How a step's work is divided and submitted.
    pub dispatch: Dispatch,
    /// The device's peak rates, used to predict step times before any is measured, for example from a device profile;
    /// `None` for what the device knows of itself, or else those of a small desktop.
    pub ceilings: Option<Ceilings>,
    /// Maximum tokens the device generates without the host, if it can and only one sequence is running; 0 for single
    /// steps. The tokens are the same.
    pub burst: usize,
    /// Whether rows may ask for their last hidden state ([`StepWants::Hidden`](crate::StepWants::Hidden)), which takes a plan
    /// for each step size. A compiled artefact has none.
    pub hidden: bool,
}

impl Default for EngineOptions {
    fn default() -> EngineOptions {
        EngineOptions {
            context: None,
            prefill_rows: 512,
            sequences: 1,
            snapshots: SNAPSHOTS,
            snapshot_bytes: SNAPSHOT_BYTES,
            dispatch: Dispatch::Graph,
            ceilings: None,
            burst: 0,
            hidden: false,
        }
    }
}

impl EngineOptions {
    /// Peak rates that are assumed of a device that does not know its own.
    pub const ASSUMED: Ceilings = CEILINGS;

    /// The peak rates that predictions begin with.
    pub fn ceilings_of(&self, device: &dyn Device) -> Ceilings {
        self.ceilings.or_else(|| device.ceilings()).unwrap_or(CEILINGS)
    }

    /// The buckets that a model is compiled for on a device.
    pub fn buckets(&self, device: &dyn Device) -> Vec<Bucket> {
        buckets(&bucket_rows(self, device), self.hidden)
    }
}

/// A model on a device. See the crate's front page.
///
/// Threads may share an engine ([`Arc`]). One step runs at a time, and other threads' steps wait for it; sequences can
/// be forked, reserved and dropped meanwhile.
pub struct Engine {
    pub(crate) model: Model,
    family: PlanFamily,
    device: Arc<dyn Device>,
    weights: WeightSet,
    pub(crate) pools: Arc<Pools>,
    context: usize,
    prefill_rows: usize,
    dispatch: Dispatch,
    work: ModelWork,
    /// Maximum tokens of a burst.
    burst: usize,
    /// Why the device runs no bursts.
    refusal: OnceLock<String>,
    /// Locked for the duration of a step or burst.
    pub(crate) steps: Exclusive<Steps>,
    /// Rows and forms of all steps so far.
    pub(crate) done: Mutex<(RowTally, FormSteps)>,
    /// Learned speculation state, shared by all batches. Locked only to ask and to tell.
    speculator: Mutex<Speculator>,
    /// Learned step times.
    pub(crate) costs: Mutex<CostModel>,
    /// Elements of a hidden state, if there are plans for it.
    pub(crate) hidden: Option<u32>,
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
    pub device: Arc<dyn Device>,
    pub weights: WeightSet,
    /// The plans on the device.
    pub runner: Runner,
    pub pools: Arc<Pools>,
    /// Context length in positions.
    pub context: u32,
    /// Maximum rows of a prefill step.
    pub prefill_rows: u32,
    /// See [`EngineOptions::ceilings`].
    pub ceilings: Ceilings,
    /// See [`EngineOptions::burst`].
    pub burst: usize,
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

/// What sizes the pools for these options.
pub(crate) fn capacity(context: u32, options: &EngineOptions) -> Capacity {
    let EngineOptions { snapshots, snapshot_bytes, .. } = *options;
    Capacity { context, sequences: options.sequences.max(1), snapshots, snapshot_bytes }
}

/// Maximum rows of a prefill step.
pub(crate) fn prefill_rows(options: &EngineOptions) -> u32 {
    options.prefill_rows.max(1)
}

/// Step sizes that an engine has plans for. They do not depend on the context, so one artefact serves every context.
pub(crate) fn bucket_rows(options: &EngineOptions, device: &dyn Device) -> Vec<u32> {
    let mut rows = vec![1, SMALL_ROWS, WIDE_ROWS, prefill_rows(options)];
    rows.extend_from_slice(device.target().step_rows);
    rows.sort_unstable();
    rows.dedup();
    rows
}

/// Compiles plans for these buckets.
pub(crate) fn compile_family(
    graph: &Graph,
    device: &dyn Device,
    buckets: Vec<Bucket>,
    dispatch: Dispatch,
) -> Result<PlanFamily, EngineError> {
    let verified = aio_ir::verify(graph)?;
    let options = Options { buckets, fuse: dispatch != Dispatch::Op };
    let Compilation { family, .. } = compile(verified, &device.target(), &options)?;
    Ok(family)
}

/// Buckets for steps of these sizes, each with every tail.
pub(crate) fn buckets(rows: &[u32], hidden: bool) -> Vec<Bucket> {
    let mut buckets = Vec::new();
    for &rows in rows {
        if hidden {
            buckets.push(Bucket::new(rows, rows.min(WIDE_ROWS), Tail::Hidden));
        }
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

/// Elements of a hidden state that plans return.
fn hidden_width(family: &PlanFamily) -> Option<u32> {
    let mut outputs = family.plans.iter().flat_map(|p| &p.outputs);
    let hidden = outputs.find(|o| o.name == StepOutput::Hidden.name())?;
    hidden.ty.shape.dims().last()?.known().and_then(|width| u32::try_from(width).ok())
}

/// The speculator, which uses the roofline until step times are measured.
fn speculator(family: &PlanFamily, work: StepWork) -> Speculator {
    Speculator::new(SpeculationOptions {
        max_drafts: MAX_DRAFTS as u32,
        max_rows: verifying(family).map(|b| b.outs).max().unwrap_or(0),
        model: StepModel::Roofline(work.cost, work.ceilings),
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
        let family = compile_family(graph, &*device, options.buckets(&*device), options.dispatch)?;
        model.check_tensors(graph)?;
        let pools = PoolPlan::new(&family, capacity(context, options))?;
        let sizes = pools.sizes;
        MemoryNeed::of(&family, sizes).check_on(&*device, || device.scratch_bytes(&family, sizes))?;
        let weights = device.upload(&family, &ModelWeights::checked(&model, &family)?, sizes)?;
        model.gguf.check_unchanged().map_err(aio_model::ModelError::from)?;
        let bandwidth = options.ceilings_of(&*device).bandwidth;
        let runner = Runner::new(Arc::clone(&device), &family, weights.clone(), options.dispatch, bandwidth)?;
        let (pools, prefill_rows) = (pools.make(), prefill_rows(options));
        let (ceilings, burst) = (options.ceilings_of(&*device), options.burst);
        let parts = Parts { model, family, device, weights, runner, pools, context, prefill_rows, ceilings, burst };
        Engine::assemble(parts, options.dispatch)
    }

    /// Assembles an engine in its initial state.
    ///
    /// # Errors
    /// [`EngineError::Logits`].
    pub(crate) fn assemble(parts: Parts, dispatch: Dispatch) -> Result<Engine, EngineError> {
        check_logits(&parts)?;
        let Parts { model, family, device, weights, runner, pools, context, prefill_rows, ceilings, burst } = parts;
        let work = ModelWork::of(&family);
        let step_work = work.on(ceilings);
        let hidden = hidden_width(&family);
        let speculator = Mutex::new(speculator(&family, step_work));
        Ok(Engine {
            model,
            family,
            device,
            weights,
            pools,
            context: context as usize,
            prefill_rows: prefill_rows as usize,
            dispatch,
            work,
            burst,
            refusal: OnceLock::new(),
            steps: Exclusive::new(Steps::new(runner)),
            done: Mutex::default(),
            speculator,
            costs: Mutex::new(CostModel::new(step_work)),
            hidden,
        })
    }

    /// The device.
    pub(crate) fn device(&self) -> &dyn Device {
        &*self.device
    }

    /// Weights and state on the device.
    pub(crate) fn weights(&self) -> &WeightSet {
        &self.weights
    }

    /// The packed weights.
    pub(crate) fn image(&self) -> Result<WeightImage, EngineError> {
        Ok(self.device.image(&self.weights)?)
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

    /// Positions that the KV pool holds for all sequences together; the context for each where a model has no pages.
    pub fn positions(&self) -> usize {
        let PoolSizes { pages, slots } = self.pools.sizes();
        match self.pools.page {
            Some(page) => pages as usize * page,
            None => self.context * slots as usize,
        }
    }

    /// Positions of a KV page; `None` if the model has no pages.
    pub fn page_positions(&self) -> Option<usize> {
        self.pools.page
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

    /// Elements of a hidden state; `None` if rows cannot ask for it ([`EngineOptions::hidden`]).
    pub fn hidden_width(&self) -> Option<u32> {
        self.hidden
    }

    /// Checks a request as [`Batch::join`](crate::Batch::join) does.
    ///
    /// # Errors
    /// [`EngineError::EmptyPrompt`], [`EngineError::ContextOverflow`], [`EngineError::Token`], [`EngineError::Option`].
    pub fn check(&self, request: &Request) -> Result<(), EngineError> {
        request.check(self.context, self.model.hyper.vocab_size)
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
        self.burst
    }

    /// Sets the maximum tokens of a burst; see [`EngineOptions::burst`].
    pub fn set_burst(&mut self, tokens: usize) {
        self.burst = tokens;
    }

    /// Why the device runs no bursts; `None` if it does or has not been asked.
    pub fn burst_refusal(&self) -> Option<&str> {
        self.refusal.get().map(String::as_str)
    }

    /// Maximum drafts of the steps of bursts with this tail; `None` if bursts cannot run. Loads them on the first call; a
    /// refusal is final.
    pub(crate) fn burst_drafts(&self, tail: Tail) -> Option<u32> {
        if self.burst == 0 || self.refusal.get().is_some() {
            return None;
        }
        if self.is_recurrent() {
            self.refusal.get_or_init(|| "no burst keeps recurrent state".to_owned());
            return None;
        }
        let Steps { bursts, runner, .. } = &mut *self.steps.lock().ok()?;
        bursts.load(runner, &self.family, tail).map_err(|reason| self.refusal.get_or_init(|| reason)).ok()
    }

    /// A copy of the learned speculation state. One taken before the first step is untrained.
    pub fn speculator(&self) -> Speculator {
        self.speculating().clone()
    }

    /// Swaps the learned speculation state with `other`. Call between steps. To compare methods of speculation on one
    /// engine, keep a speculator for each, so that none benefits from what another has learned.
    pub fn swap_speculator(&self, other: &mut Speculator) {
        std::mem::swap(&mut *self.speculating(), other);
    }

    /// The learned speculation state. Held only to ask or tell it something.
    pub(crate) fn speculating(&self) -> MutexGuard<'_, Speculator> {
        lock(&self.speculator)
    }

    /// The device's counters.
    pub fn counters(&self) -> Counters {
        self.device.counters()
    }

    /// Row counts of all steps so far, and of their buckets.
    pub fn rows(&self) -> RowTally {
        lock(&self.done).0
    }

    /// Numbers of steps by the name of their form, where the device has several.
    pub fn forms(&self) -> FormSteps {
        lock(&self.done).1.clone()
    }

    /// Predicted seconds of a step, at the device's present speed.
    pub fn predict(&self, step: StepSize) -> Predicted {
        lock(&self.costs).predict(step)
    }

    /// How fast the device is at present, also relative to [`EngineOptions::ceilings`].
    pub fn speed(&self) -> PresentSpeed {
        lock(&self.costs).speed()
    }

    /// Speed-up by drafts over recent steps, as a ratio; 1 before the first step. Bursts do not count.
    pub fn draft_gain(&self) -> f64 {
        self.speculating().gain()
    }

    /// How far the predictions of past steps were off; `None` before the first step.
    pub fn cost_errors(&self) -> Option<CostErrors> {
        lock(&self.costs).errors()
    }

    /// What steps read and compute.
    pub fn work(&self) -> ModelWork {
        self.work
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
        let buckets = self.family.plans.iter().map(|p| &p.bucket).filter(|b| serves(b, &dims, tail, false));
        buckets.min_by_key(|b| (b.rows, b.outs)).map_or_else(String::new, ToString::to_string)
    }
}
