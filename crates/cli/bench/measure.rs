//! Rounds of tests on one engine, interleaved with measurements of the machine's own limits.
//!
//! A machine's bandwidth drifts. So every test runs once per round, and after each of its steps comes a read as large
//! as the weights, for comparison. Steps are timed one by one, which excludes those reads.

use super::row::{Limits, Row};
use super::samples::Samples;
use crate::models::Loaded;
use crate::{allocations, signals};
use aio::devices::{Hardware, Macs, Meter, Opened};
use aio::engine::{Engine, ModelWork, OutputBuffer, Sampling, Sequence, Step, StepRow, StepWants};
use aio::ir::sampling::NO_TOKEN;
use anyhow::{Result, bail};
use indicatif::ProgressBar;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

/// Steps of one repetition of a `rows` or `batch` test.
const STEPS: u32 = 32;
/// Maximum size of a read buffer.
const MAX_READ_BYTES: u64 = 2 << 30;
/// Minimum size of a read buffer. A smaller one would be read from a cache that the weights do not fit in either.
const MIN_READ_BYTES: u64 = 1 << 20;

/// What a test does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Processes a prompt of this many tokens.
    Prefill(u32),
    /// Generates this many tokens, one per step.
    Decode(u32),
    /// Runs steps of this many rows of one sequence; each row returns a token.
    Rows(u32),
    /// Decodes this many sequences together, one token each per step.
    Batch(u32),
}

impl Kind {
    /// Positions that it needs in each sequence.
    pub(crate) fn tokens(self) -> u32 {
        match self {
            Kind::Prefill(n) | Kind::Decode(n) | Kind::Rows(n) => n,
            Kind::Batch(_) => STEPS,
        }
    }

    /// Sequences that it needs.
    fn sequences(self) -> u32 {
        if let Kind::Batch(n) = self { n } else { 1 }
    }

    /// Its name in tables.
    pub(crate) fn name(self) -> String {
        match self {
            Kind::Prefill(n) => format!("pp{n}"),
            Kind::Decode(n) => format!("tg{n}"),
            Kind::Rows(n) => format!("rows{n}"),
            Kind::Batch(n) => format!("batch{n}"),
        }
    }
}

/// A test at a depth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Test {
    /// What it does.
    pub kind: Kind,
    /// Tokens in the context before it.
    pub depth: u32,
}

/// Number of sequences that the tests need in memory: for each depth, the size of its largest batch.
pub(crate) fn sequences(tests: &[Test]) -> u32 {
    let mut most: BTreeMap<u32, u32> = BTreeMap::new();
    for test in tests {
        let most = most.entry(test.depth).or_default();
        *most = test.kind.sequences().max(*most);
    }
    most.values().sum()
}

/// Tests on one engine.
pub(crate) struct Bench {
    loaded: Loaded,
    /// The chip's name.
    chip: String,
    /// Threads of a CPU, multiprocessors of a GPU.
    threads: u32,
    meter: Box<dyn Meter>,
    sampling: Sampling,
    tests: Vec<Test>,
    samples: Vec<Samples>,
    /// Sequences filled to a depth. Each has its own pages, so no member of a batch finds another's pages in a cache.
    bases: BTreeMap<u32, Vec<Sequence>>,
    int8_macs: Vec<f64>,
    f32_macs: Vec<f64>,
    out: OutputBuffer,
    state: u64,
}

impl Bench {
    /// Prepares the tests without running anything.
    pub(crate) fn new(
        loaded: Loaded,
        on: (&Opened, &dyn Hardware),
        sampling: Sampling,
        tests: &[Test],
    ) -> Result<Bench> {
        for test in tests {
            check(test.kind, &loaded.engine, &sampling)?;
        }
        let bytes = loaded.engine.work().weight_bytes.clamp(MIN_READ_BYTES, MAX_READ_BYTES);
        let (opened, hardware) = on;
        Ok(Bench {
            loaded,
            chip: opened.chip.clone(),
            threads: opened.threads,
            meter: hardware.meter(bytes)?,
            sampling,
            tests: tests.to_vec(),
            samples: vec![Samples::default(); tests.len()],
            bases: BTreeMap::new(),
            int8_macs: Vec::new(),
            f32_macs: Vec::new(),
            out: OutputBuffer::new(),
            state: 1,
        })
    }

    /// Adds the model to the cache if it is missing.
    pub(crate) fn keep(&mut self) {
        self.loaded.keep();
    }

    /// Runs every test once and keeps the measurements if the round counts.
    pub(crate) fn round(&mut self, counts: bool, bar: &ProgressBar) -> Result<()> {
        for i in 0..self.tests.len() {
            let test = self.tests[i];
            self.fill(test)?;
            // Taken out, so that steps may borrow the rest.
            let mut sequences = self.bases.remove(&test.depth).unwrap_or_default();
            let mut samples = std::mem::take(&mut self.samples[i]);
            let ran = self.run(test, &mut sequences, &mut samples);
            self.samples[i] = if counts { samples } else { Samples::default() };
            let rolled_back = sequences.iter_mut().try_for_each(|s| s.commit(s.len().min(test.depth as usize)));
            self.bases.insert(test.depth, sequences);
            ran?;
            rolled_back?;
            bar.inc(1);
        }
        if counts {
            let Macs { int8, plain } = self.meter.macs()?;
            self.int8_macs.push(int8);
            self.f32_macs.push(plain);
        }
        Ok(())
    }

    /// Adds sequences filled to the test's depth until there are enough.
    fn fill(&mut self, test: Test) -> Result<()> {
        while self.bases.get(&test.depth).map_or(0, Vec::len) < test.kind.sequences() as usize {
            let mut sequence = Sequence::new();
            self.loaded.engine.reserve(&mut sequence, test.depth as usize)?;
            self.prefill(&mut sequence, test.depth, &mut Samples::default())?;
            self.bases.entry(test.depth).or_default().push(sequence);
        }
        Ok(())
    }

    fn run(&mut self, test: Test, sequences: &mut [Sequence], samples: &mut Samples) -> Result<()> {
        let sequences = &mut sequences[..test.kind.sequences() as usize];
        for sequence in sequences.iter_mut() {
            self.loaded.engine.reserve(sequence, (test.depth + test.kind.tokens()) as usize)?;
        }
        let before = samples.step_s.len();
        match test.kind {
            Kind::Prefill(n) => {
                self.prefill(&mut sequences[0], n, samples)?;
                for _ in 0..3 {
                    self.read(samples)?;
                }
            }
            Kind::Decode(n) => self.decode(&mut sequences[0], n, samples)?,
            Kind::Rows(n) => self.rows_steps(&mut sequences[0], n, samples)?,
            Kind::Batch(_) => self.batch_steps(sequences, samples)?,
        }
        let tokens = match test.kind {
            Kind::Prefill(n) | Kind::Decode(n) => n,
            Kind::Rows(n) | Kind::Batch(n) => n * STEPS,
        };
        let seconds: f64 = samples.step_s[before..].iter().sum();
        samples.tok_s.push(f64::from(tokens) / seconds);
        Ok(())
    }

    fn prefill(&mut self, sequence: &mut Sequence, tokens: u32, samples: &mut Samples) -> Result<()> {
        let end = sequence.len() + tokens as usize;
        while sequence.len() < end {
            let take = (end - sequence.len()).min(self.loaded.engine.prefill_rows());
            let ids: Vec<u32> = (0..take).map(|_| self.token()).collect();
            let last = sequence.len() + take == end;
            self.step(sequence, &ids, if last { 1 } else { 0 }, samples)?;
            sequence.commit(sequence.len() + take)?;
        }
        Ok(())
    }

    fn decode(&mut self, sequence: &mut Sequence, tokens: u32, samples: &mut Samples) -> Result<()> {
        let mut token = self.token();
        for _ in 0..tokens {
            token = self.step(sequence, &[token], 1, samples)?.unwrap_or(0);
            sequence.commit(sequence.len() + 1)?;
            self.read(samples)?;
        }
        Ok(())
    }

    fn rows_steps(&mut self, sequence: &mut Sequence, rows: u32, samples: &mut Samples) -> Result<()> {
        for _ in 0..STEPS {
            let ids: Vec<u32> = (0..rows).map(|_| self.token()).collect();
            self.step(sequence, &ids, rows as usize, samples)?;
            self.read(samples)?;
        }
        Ok(())
    }

    fn batch_steps(&mut self, sequences: &mut [Sequence], samples: &mut Samples) -> Result<()> {
        let mut tokens: Vec<u32> = sequences.iter().map(|_| self.token()).collect();
        for _ in 0..STEPS {
            let wants = StepWants::Token { sampling: &self.sampling, recent: &[], bias: None };
            let row = |(sequence, (s, &token)): (usize, (&Sequence, &u32))| {
                let position = s.len();
                StepRow { token, sequence, position, wants }
            };
            let rows: Vec<_> = sequences.iter().zip(&tokens).enumerate().map(row).collect();
            let mut together: Vec<&mut Sequence> = sequences.iter_mut().collect();
            let step = Step { sequences: &mut together, rows: &rows, drafts: &[] };
            tokens = timed(&self.loaded.engine, step, &mut self.out, samples)?.to_vec();
            sequences.iter_mut().try_for_each(|s| s.commit(s.len() + 1))?;
            self.read(samples)?;
        }
        Ok(())
    }

    /// Runs one step whose last `wanted` rows ask for a token and returns the last row's token.
    fn step(
        &mut self,
        sequence: &mut Sequence,
        ids: &[u32],
        wanted: usize,
        samples: &mut Samples,
    ) -> Result<Option<u32>> {
        let first = sequence.len();
        let asks = |i: usize| {
            if i + wanted >= ids.len() {
                StepWants::Token { sampling: &self.sampling, recent: &[], bias: None }
            } else {
                StepWants::Nothing
            }
        };
        let row = |(i, &token): (usize, &u32)| StepRow { token, sequence: 0, position: first + i, wants: asks(i) };
        let rows: Vec<StepRow<'_>> = ids.iter().enumerate().map(row).collect();
        let step = Step { sequences: &mut [sequence], rows: &rows, drafts: &[] };
        Ok(timed(&self.loaded.engine, step, &mut self.out, samples)?.last().copied())
    }

    fn read(&self, samples: &mut Samples) -> Result<()> {
        samples.read_s.push(self.meter.read_seconds()?);
        samples.copy_s.extend(self.meter.copy_seconds()?);
        Ok(())
    }

    /// The next token of a fixed pseudo-random sequence (Knuth's MMIX generator).
    fn token(&mut self) -> u32 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) as u32 % self.loaded.engine.model().hyper.vocab_size
    }

    /// Median seconds of a step of each test.
    pub(crate) fn medians(&self) -> Vec<f64> {
        let median = |s: &Samples| aio::orchestrator::Figure::of(&s.step_s).map_or(f64::NAN, |f| f.median);
        self.samples.iter().map(median).collect()
    }

    /// One row per test.
    pub(crate) fn rows(&self, path: &Path, reps: u32) -> Vec<Row> {
        let work: ModelWork = self.loaded.engine.work();
        let macs = |all: &[f64]| aio::orchestrator::Figure::of(all).map_or(0.0, |f| f.median);
        let limits = Limits {
            buffer_bytes: self.meter.bytes(),
            int8_macs: macs(&self.int8_macs),
            f32_macs: macs(&self.f32_macs),
        };
        let plan = |test: &Test| {
            let rows = match test.kind {
                Kind::Prefill(n) => n.min(self.loaded.engine.prefill_rows() as u32),
                Kind::Decode(_) => 1,
                Kind::Rows(n) | Kind::Batch(n) => n,
            };
            let outs = if let Kind::Rows(n) | Kind::Batch(n) = test.kind { n } else { 1 };
            (rows, self.loaded.engine.plan_name(rows, outs, &self.sampling))
        };
        let tests = self.tests.iter().zip(&self.samples);
        tests
            .map(|(test, samples)| {
                let (rows, plan) = plan(test);
                let setup = super::row::Setup {
                    test: test.kind.name(),
                    model: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                    model_bytes: std::fs::metadata(path).map_or(0, |m| m.len()),
                    device: self.loaded.engine.family().target.clone(),
                    chip: self.chip.clone(),
                    threads: self.threads,
                    rows,
                    depth: test.depth,
                    reps,
                    plan,
                };
                Row::new(setup, samples, &work, &limits)
            })
            .collect()
    }
}

/// Rejects steps that no plan can hold.
fn check(kind: Kind, engine: &Engine, sampling: &Sampling) -> Result<()> {
    let (flag, n) = match kind {
        Kind::Prefill(_) | Kind::Decode(_) => return Ok(()),
        Kind::Rows(n) => ("--rows", n),
        Kind::Batch(n) => ("--batch", n),
    };
    if engine.plan_name(n, n, sampling).is_empty() {
        bail!("{flag} {n}: no plan has that many output rows; the maximum is {}", engine.verify_rows());
    }
    Ok(())
}

/// Runs one step, with its time and counters; returns the tokens of the rows that asked for one.
fn timed<'o>(
    engine: &Engine,
    step: Step<'_, '_>,
    out: &'o mut OutputBuffer,
    samples: &mut Samples,
) -> Result<&'o [u32]> {
    if signals::interrupted() {
        bail!("interrupted");
    }
    // Rows of a sequence come in order, so its last one reads the most.
    let is_last = |i: usize| step.rows.get(i + 1).is_none_or(|next| next.sequence != step.rows[i].sequence);
    let last = step.rows.iter().enumerate().filter(|(i, _)| is_last(*i));
    samples.positions += last.map(|(_, row)| row.position as u64 + 1).sum::<u64>();
    let (counters, rows, allocations) = (engine.counters(), engine.rows(), allocations::count());
    let start = Instant::now();
    let outputs = engine.step(step, out)?;
    let seconds = start.elapsed().as_secs_f64();
    samples.allocations += allocations::count() - allocations;
    samples.step_s.push(seconds);
    let tokens = outputs.tokens().unwrap_or_default();
    if tokens.contains(&NO_TOKEN) {
        bail!("a step gave no token: a logit is NaN or infinite");
    }
    let used = engine.counters() - counters;
    samples.rows += engine.rows() - rows;
    samples.submissions += used.submissions;
    samples.syncs += used.syncs;
    samples.barriers += used.barriers;
    Ok(tokens)
}
