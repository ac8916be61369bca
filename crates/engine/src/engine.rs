//! A model on a device.

use crate::memory::MemoryNeed;
use crate::request::{Request, Sampling};
use crate::runner::{Runner, StepInputs};
use crate::source::ModelWeights;
use crate::{EngineError, ModelWork, PagePool, Sequence};
use aio_backend::{Counters, Device, LoadOptions, WeightImage, WeightSet};
use aio_compiler::{Compiled, Options, compile};
use aio_ir::{Dims, Graph, PAGE_POSITIONS};
use aio_model::Model;
use aio_model::hyper::HyperParams;
use aio_plan::{Bucket, PlanFamily, Tail};
use std::sync::Arc;

/// Rows up to which a step counts as small: one decode row or a verified run of drafts.
const SMALL_ROWS: u32 = 17;

/// How a model is loaded.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Positions of the context; `None` for the model's own.
    pub context: Option<u32>,
    /// Rows of a prefill step at most.
    pub prefill_rows: u32,
    /// Sequences that may run at once; the KV pool has room for each to fill its context.
    pub sequences: u32,
    /// How a step's work is cut up and submitted.
    pub dispatch: Dispatch,
}

impl Default for EngineOptions {
    fn default() -> EngineOptions {
        EngineOptions { context: None, prefill_rows: 512, sequences: 1, dispatch: Dispatch::Graph }
    }
}

/// How a step's work is cut up and submitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dispatch {
    /// The fused plan, in one submission.
    #[default]
    Graph,
    /// Each node of the graph is a task of its own, submitted and waited for alone: a baseline to measure against.
    Op,
}

impl Dispatch {
    /// What the device is told.
    pub(crate) fn load_options(self) -> LoadOptions {
        let dispatch = match self {
            Dispatch::Graph => aio_backend::Dispatch::Graph,
            Dispatch::Op => aio_backend::Dispatch::Task,
        };
        LoadOptions { dispatch }
    }
}

/// One token row of a step.
#[derive(Clone, Copy, Debug)]
pub struct StepRow<'a> {
    /// Its token.
    pub token: u32,
    /// Its sequence, by place in [`Step::sequences`].
    pub sequence: usize,
    /// Its position.
    pub position: usize,
    /// Whether it asks for an output, and how it is sampled.
    pub wants: StepWants<'a>,
}

/// What a row asks for.
#[derive(Clone, Copy, Debug)]
pub enum StepWants<'a> {
    /// Nothing: its keys and values are all that matters.
    Nothing,
    /// Its logits.
    Logits,
    /// The next token. `recent` are the tokens that penalties look back on, newest last.
    Token {
        /// How it is chosen.
        sampling: &'a Sampling,
        /// The row's own prefix, or its end.
        recent: &'a [u32],
    },
}

/// Rows of sequences that run together. Positions of the rows must have pages.
#[derive(Debug)]
pub struct Step<'a> {
    /// The sequences.
    pub sequences: &'a [&'a Sequence],
    /// The rows, those of a sequence in order of position.
    pub rows: &'a [StepRow<'a>],
    /// Added to the logits of each row that asks for a token, one number a token; rows that ask for logits get the
    /// model's own.
    pub logit_bias: Option<&'a [f32]>,
}

/// A model on a device. See the crate's front page.
pub struct Engine {
    model: Model,
    family: PlanFamily,
    runner: Runner,
    pool: PagePool,
    context: usize,
    prefill_rows: usize,
    inputs: StepInputs,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("model", &self.family.model).field("target", &self.family.target).finish()
    }
}

/// What an engine is put together from.
pub(crate) struct Parts {
    pub model: Model,
    pub family: PlanFamily,
    pub device: Arc<dyn Device>,
    pub weights: WeightSet,
    pub pool: PagePool,
    /// Positions of the context.
    pub context: u32,
    /// Rows of a prefill step at most.
    pub prefill_rows: u32,
}

/// Positions of the context that the options ask for.
pub(crate) fn context_of(hyper: &HyperParams, options: &EngineOptions) -> u32 {
    options.context.unwrap_or(hyper.context_length).max(1)
}

/// Pages of the KV pool.
pub(crate) fn pages_of(context: u32, options: &EngineOptions) -> u32 {
    context.div_ceil(PAGE_POSITIONS as u32).saturating_mul(options.sequences.max(1))
}

/// Sizes of steps that an engine has plans for: one row, a run of drafts, a prefill chunk.
pub(crate) fn bucket_rows(options: &EngineOptions, context: u32) -> Vec<u32> {
    let mut rows = vec![1, SMALL_ROWS, options.prefill_rows.clamp(1, context).max(SMALL_ROWS)];
    rows.dedup();
    rows
}

/// Plans for steps of these sizes, each with every tail.
pub(crate) fn compile_family(
    graph: &Graph,
    device: &dyn Device,
    rows: &[u32],
    dispatch: Dispatch,
) -> Result<PlanFamily, EngineError> {
    let verified = aio_ir::verify(graph)?;
    let options = Options { buckets: buckets(rows), fuse: dispatch == Dispatch::Graph };
    let Compiled { family, .. } = compile(verified, &device.target(), &options)?;
    Ok(family)
}

fn buckets(rows: &[u32]) -> Vec<Bucket> {
    let mut buckets = Vec::new();
    for &rows in rows {
        for tail in Tail::ALL {
            let outs = if tail == Tail::Logits { rows } else { rows.min(SMALL_ROWS) };
            buckets.push(Bucket { rows, seqs: rows, outs, tail });
        }
    }
    buckets
}

impl Engine {
    /// Compiles the model's step graph for the device and loads everything.
    ///
    /// # Errors
    /// [`EngineError::Memory`] before anything large is allocated; see [`EngineError`] for the rest.
    pub fn load(
        model: Model,
        graph: &Graph,
        device: Arc<dyn Device>,
        options: &EngineOptions,
    ) -> Result<Engine, EngineError> {
        let context = context_of(&model.hyper, options);
        let rows = bucket_rows(options, context);
        let family = compile_family(graph, &*device, &rows, options.dispatch)?;
        let pages = pages_of(context, options);
        MemoryNeed::of(&family, pages).check_with_scratch(|| device.scratch_bytes(&family, pages))?;
        let weights = device.upload(&family, &ModelWeights::checked(&model, &family)?, pages)?;
        model.gguf.check_unchanged().map_err(aio_model::ModelError::from)?;
        let (pool, prefill_rows) = (PagePool::new(pages), rows.into_iter().max().unwrap_or(1));
        Engine::assemble(Parts { model, family, device, weights, pool, context, prefill_rows }, options.dispatch)
    }

    /// Makes the plans executable.
    pub(crate) fn assemble(parts: Parts, dispatch: Dispatch) -> Result<Engine, EngineError> {
        let Parts { model, family, device, weights, pool, context, prefill_rows } = parts;
        let runner = Runner::new(device, &family, weights, dispatch)?;
        let (context, prefill_rows, inputs) = (context as usize, prefill_rows as usize, StepInputs::default());
        Ok(Engine { model, family, runner, pool, context, prefill_rows, inputs })
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

    /// Positions of the context.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Rows of a prefill step at most.
    pub fn prefill_rows(&self) -> usize {
        self.prefill_rows
    }

    /// The device's counters.
    pub fn counters(&self) -> Counters {
        self.runner.device().counters()
    }

    /// What steps read and compute.
    pub fn work(&self) -> ModelWork {
        ModelWork::of(&self.family)
    }

    /// Makes positions up to `end` of a sequence writable.
    ///
    /// # Errors
    /// [`EngineError::PoolFull`], and device errors of the copy of a shared page.
    pub fn reserve(&mut self, sequence: &mut Sequence, end: usize) -> Result<(), EngineError> {
        if let Some(copy) = sequence.reserve(&mut self.pool, end)? {
            self.runner.copy_pages(&[copy])?;
        }
        Ok(())
    }

    /// Gives a sequence's pages back.
    pub fn release(&mut self, sequence: &mut Sequence) {
        sequence.release(&mut self.pool);
    }

    /// A second sequence with the same first `len` positions.
    pub fn fork(&mut self, sequence: &Sequence, len: usize) -> Sequence {
        sequence.fork(&mut self.pool, len)
    }

    /// Name of the plan that a decode step of this request takes.
    pub fn decode_plan(&self, request: &Request) -> String {
        let tail = decode_tail(&request.sampling, request.logit_bias.is_some());
        self.bucket_name(1, 1, tail)
    }

    /// Name of the plan that a step of `rows` rows of one sequence takes, `outs` of which ask for a token; empty if
    /// none holds it.
    pub fn plan_name(&self, rows: u32, outs: u32, sampling: &Sampling) -> String {
        self.bucket_name(rows, outs, decode_tail(sampling, false))
    }

    fn bucket_name(&self, rows: u32, outs: u32, tail: Tail) -> String {
        let dims = Dims { rows, seqs: 1, pages: 0, outs, recent: 0 };
        self.runner.bucket(&dims, tail).map_or_else(String::new, |b| b.to_string())
    }

    /// Runs one step and returns the sampled tokens of the rows that asked, in order; or, if any row asked for
    /// logits, all asking rows' logits as f32 bits.
    ///
    /// # Errors
    /// [`EngineError::Token`], [`EngineError::NotReserved`], [`EngineError::StepSize`], and device errors, after which all sequences are as they were.
    pub fn step(&mut self, step: &Step<'_>) -> Result<&[u32], EngineError> {
        let vocabulary = self.model.hyper.vocab_size;
        if let Some(row) = step.rows.iter().find(|r| r.token >= vocabulary) {
            return Err(EngineError::Token { token: row.token, vocabulary });
        }
        for row in step.rows {
            let pages = step.sequences.get(row.sequence).map_or(0, |s| s.pages().len());
            let reserved = pages * PAGE_POSITIONS as usize;
            if row.position >= reserved {
                return Err(EngineError::NotReserved { position: row.position, reserved });
            }
        }
        let tail = self.fill(step);
        let width = if tail == Tail::Logits { vocabulary as usize } else { 1 };
        let words = self.inputs.dims.outs as usize * width;
        self.runner.run(&self.inputs, tail, words)?;
        Ok(&self.runner.output[..words])
    }

    /// Puts a step into the form that plans bind.
    fn fill(&mut self, step: &Step<'_>) -> Tail {
        let inputs = &mut self.inputs;
        let pages = self.pool.pages() as usize;
        inputs.tokens.clear();
        inputs.positions.clear();
        inputs.row_seq.clear();
        inputs.page_table.clear();
        for row in step.rows {
            inputs.tokens.push(row.token);
            inputs.positions.push(row.position as u32);
            inputs.row_seq.push(row.sequence as u32);
        }
        for (i, sequence) in step.sequences.iter().enumerate() {
            inputs.page_table.extend_from_slice(sequence.pages());
            inputs.page_table.resize((i + 1) * pages, 0);
        }
        let tail = fill_outputs(inputs, step.rows);
        inputs.logit_bias = step.logit_bias.filter(|_| tail == Tail::Sample).map(|bias| {
            let outs = inputs.out_rows.len();
            bias.iter().copied().cycle().take(bias.len() * outs).collect()
        });
        let tail = if step.logit_bias.is_some() && tail == Tail::Argmax { Tail::Sample } else { tail };
        inputs.dims.rows = step.rows.len() as u32;
        inputs.dims.seqs = step.sequences.len() as u32;
        inputs.dims.pages = pages as u32;
        inputs.dims.outs = inputs.out_rows.len() as u32;
        tail
    }
}

fn decode_tail(sampling: &Sampling, biased: bool) -> Tail {
    if sampling.params.is_plain_argmax() && !biased { Tail::Argmax } else { Tail::Sample }
}

/// Output rows with their sampling numbers, and the tail that serves them all.
fn fill_outputs(inputs: &mut StepInputs, rows: &[StepRow<'_>]) -> Tail {
    inputs.out_rows.clear();
    inputs.sampling.clear();
    inputs.noise.clear();
    inputs.recent.clear();
    let look_back = |row: &StepRow<'_>| match row.wants {
        StepWants::Token { sampling, recent } => recent.len().min(sampling.repeat_last_n),
        _ => 0,
    };
    let recent_len = rows.iter().map(look_back).max().unwrap_or(0);
    let mut tail = Tail::Argmax;
    for (i, row) in rows.iter().enumerate() {
        match row.wants {
            StepWants::Nothing => continue,
            StepWants::Logits => tail = Tail::Logits,
            StepWants::Token { sampling, recent } => {
                if !sampling.params.is_plain_argmax() && tail == Tail::Argmax {
                    tail = Tail::Sample;
                }
                inputs.sampling.extend(sampling.params.to_row());
                let (low, high) = (sampling.seed as u32, (sampling.seed >> 32) as u32);
                inputs.noise.extend([low, high, sampling.choice, row.position as u32]);
                let newest = &recent[recent.len() - look_back(row)..];
                inputs.recent.extend(newest.iter().map(|&t| t as i32));
                inputs.recent.extend(std::iter::repeat_n(-1, recent_len - newest.len()));
            }
        }
        inputs.out_rows.push(i as u32);
    }
    inputs.dims.recent = recent_len as u32;
    tail
}
