//! The engine whose steps are timed: sequences at each context, and steps of any size that leave them as they are.

use crate::args::PlansArgs;
use crate::models::{self, Loaded};
use crate::{devices, profiles, signals};
use aio::devices::Meter;
use aio::engine::{DraftSpan, Engine, EngineOptions, OutputBuffer, Sampling, Sequence, Step, StepRow, StepWants};
use aio::ir::PAGE_POSITIONS;
use aio::orchestrator::{RecordHead, Speculator, StepRecord};
use anyhow::{Result, bail, ensure};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// Size of the buffer that is read between steps, at most and at least.
const READ_BYTES: (u64, u64) = (1 << 20, 2 << 30);

/// Pseudo-random numbers from a seed (Knuth's MMIX generator).
pub(super) struct Draws(u64);

impl Draws {
    pub(super) fn new(seed: u64) -> Draws {
        let mut draws = Draws(seed);
        draws.below(1);
        draws
    }

    /// A number below `n`.
    pub(super) fn below(&mut self, n: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32 % n.max(1)
    }
}

/// See the module docs.
pub(super) struct Bed {
    loaded: Loaded,
    meter: Box<dyn Meter>,
    /// What it is, for the report and a recording.
    pub head: RecordHead,
    /// Sequences by context. The first at each context share the pages of one prompt, and so on.
    sequences: BTreeMap<u32, Vec<Sequence>>,
    /// A speculator that has learned nothing.
    fresh: Speculator,
    tokens: Draws,
    out: OutputBuffer,
    sampling: Sampling,
}

impl Bed {
    /// Loads the model, runs `batch` prompts as long as the longest context, and forks each at each context. Contexts
    /// that leave no room for drafts are shortened.
    pub(super) fn open(args: &PlansArgs, contexts: &[u32], batch: u32) -> Result<Bed> {
        let path = models::path(&args.model)?;
        let model = crate::args::ModelArgs { model: Some(path.clone()), ..args.model.clone() };
        let opened = devices::open(model.device, (&model).into())?;
        let hardware = Arc::clone(devices::measured(model.device, &opened)?);
        let longest = contexts.iter().copied().max().unwrap_or(0).saturating_add(args.drafts + 1);
        let options = EngineOptions {
            context: Some(longest),
            sequences: room(batch, contexts.len() as u32, args.drafts + 1, longest),
            ..EngineOptions::default()
        };
        let ceilings = profiles::ceilings(model.device, &opened.device.target().name, model.threads.unwrap_or(0));
        let ceilings = ceilings.unwrap_or_else(|| options.ceilings_of(&*opened.device));
        let loaded = models::load_on(&model, &args.load, Arc::clone(&opened.device), &options)?;
        let engine = &loaded.engine;
        ensure!(!engine.is_recurrent(), "{}: steps of a model with recurrent state cannot be repeated", path.display());
        let work = engine.work();
        let head = RecordHead {
            model: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            chip: opened.chip.clone(),
            verify_rows: engine.verify_rows() as u32,
            work: work.on(ceilings),
        };
        let mut bed = Bed {
            meter: hardware.meter(work.weight_bytes.clamp(READ_BYTES.0, READ_BYTES.1))?,
            fresh: engine.speculator(),
            loaded,
            head,
            sequences: BTreeMap::new(),
            tokens: Draws::new(args.seed),
            out: OutputBuffer::new(),
            sampling: Sampling::greedy(),
        };
        bed.fill(contexts, batch, args.drafts)?;
        Ok(bed)
    }

    fn engine(&self) -> &Engine {
        &self.loaded.engine
    }

    /// Adds the model to the cache if it is missing.
    pub(super) fn keep(&mut self) {
        self.loaded.keep();
    }

    /// A speculator that has learned nothing.
    pub(super) fn speculator(&self) -> Speculator {
        self.fresh.clone()
    }

    /// Bytes of keys and values that a decode step of a batch reads.
    pub(super) fn kv_bytes(&self, context: u32, batch: u32) -> f64 {
        f64::from(batch) * f64::from(context + 1) * self.head.work.kv_bytes
    }

    /// Most drafts of each sequence of a batch.
    pub(super) fn most_drafts(&self, batch: u32, wanted: u32) -> Option<u32> {
        (self.head.verify_rows.max(1) / batch).checked_sub(1).map(|most| most.min(wanted))
    }

    fn fill(&mut self, contexts: &[u32], batch: u32, drafts: u32) -> Result<()> {
        let mut contexts = contexts.to_vec();
        contexts.sort_unstable();
        // Sequences of a step share no pages, as in a server: shared ones would be read from the cache.
        for _ in 0..batch {
            let mut prompt = Sequence::new();
            for &context in &contexts {
                self.prefill(&mut prompt, context as usize)?;
                let engine = &self.loaded.engine;
                let mut sequence = engine.fork(&prompt, context as usize)?;
                engine.reserve(&mut sequence, (context + drafts + 1) as usize)?;
                self.sequences.entry(context).or_default().push(sequence);
            }
        }
        Ok(())
    }

    /// Runs tokens until the sequence is `end` positions long.
    fn prefill(&mut self, sequence: &mut Sequence, end: usize) -> Result<()> {
        self.engine().reserve(sequence, end)?;
        while sequence.len() < end {
            let first = sequence.len();
            let last = end.min(first + self.engine().prefill_rows());
            let rows: Vec<_> = (first..last).map(|position| self.row(0, position, StepWants::Nothing)).collect();
            let mut out = std::mem::take(&mut self.out);
            self.engine().step(Step { sequences: &mut [sequence], rows: &rows, drafts: &[] }, &mut out)?;
            self.out = out;
            sequence.commit(last)?;
            check()?;
        }
        Ok(())
    }

    fn row<'a>(&mut self, sequence: usize, position: usize, wants: StepWants<'a>) -> StepRow<'a> {
        let token = self.tokens.below(self.engine().model().hyper.vocab_size);
        StepRow { token, sequence, position, wants }
    }

    /// Runs a step that verifies these drafts, by sequence, of sequences at `context`. Returns its size and time.
    pub(super) fn step(&mut self, context: u32, drafts: &[u32]) -> Result<StepRecord> {
        check()?;
        let sampling = std::mem::replace(&mut self.sampling, Sampling::greedy());
        let wants = StepWants::Token { sampling: &sampling, recent: &[], bias: None };
        let (mut rows, mut spans, len) = (Vec::new(), Vec::new(), context as usize);
        for (i, &drafts) in drafts.iter().enumerate() {
            spans.push(DraftSpan { first: rows.len(), drafts: drafts as usize, len: len + 1 });
            rows.extend((len..=len + drafts as usize).map(|position| self.row(i, position, wants)));
        }
        let verifies = drafts.iter().any(|&n| n > 0);
        let mut sequences: Vec<&mut Sequence> =
            self.sequences.get_mut(&context).into_iter().flatten().take(drafts.len()).collect();
        let step = Step { sequences: &mut sequences, rows: &rows, drafts: if verifies { &spans } else { &[] } };
        let start = Instant::now();
        self.loaded.engine.step(step, &mut self.out)?;
        let seconds = start.elapsed().as_secs_f64();
        let (sequences, rows) = (drafts.len() as u32, rows.len() as u32);
        Ok(StepRecord { reads: None, ..size(context, sequences, rows, seconds) })
    }

    /// Predicted seconds of a step.
    pub(super) fn predict(&self, step: &StepRecord) -> f64 {
        self.engine().predict(step.size()).0
    }

    /// Seconds of a read of the buffer.
    pub(super) fn read(&self) -> Result<f64> {
        Ok(self.meter.read_seconds()?)
    }
}

/// A step of sequences with equal contexts.
pub(super) fn size(context: u32, sequences: u32, rows: u32, seconds: f64) -> StepRecord {
    let positions = u64::from(sequences) * u64::from(context) + u64::from(rows);
    StepRecord { sequences, rows, positions, seconds, reads: None }
}

fn check() -> Result<()> {
    if signals::interrupted() {
        bail!("interrupted");
    }
    Ok(())
}

/// The number of sequences of `longest` positions that have as many pages as `prompts` and their forks at each context need:
/// each fork has a copy of the prompt's last page, and pages for its rows.
fn room(prompts: u32, contexts: u32, rows: u32, longest: u32) -> u32 {
    let page = PAGE_POSITIONS as u32;
    let own = prompts.saturating_mul(contexts).saturating_mul(1 + rows.div_ceil(page));
    prompts + own.div_ceil(longest.div_ceil(page).max(1))
}
