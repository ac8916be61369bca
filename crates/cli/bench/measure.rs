//! Rounds of tests on one engine, interleaved with measurements of the machine's own limits.
//!
//! A machine's bandwidth drifts, so every test runs once in each round, and a read of the weights' size, which it is
//! compared with, follows each of its steps. What a step takes is timed step by step, which leaves those reads out.

use super::row::{Limits, Row};
use crate::models::Loaded;
use crate::{allocations, signals};
use aio::cpu::CpuDevice;
use aio::cpu::probe::{Probe, ReadBuffer};
use aio::engine::{ModelWork, Sampling, Sequence, Step, StepRow, StepWants};
use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use std::path::Path;
use std::time::Instant;

/// Steps of one repetition of a `rows` test.
const ROWS_STEPS: u32 = 32;
/// Buffers of reads are no larger than this.
const MAX_READ_BYTES: u64 = 2 << 30;
/// Buffers of reads are no smaller: smaller ones would be read from a cache that weights do not fit into either.
const MIN_READ_BYTES: u64 = 1 << 20;

/// What a test does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Processes a prompt of so many tokens.
    Prefill(u32),
    /// Generates so many tokens, one a step.
    Decode(u32),
    /// Runs steps of so many rows, each of which gets a token.
    Rows(u32),
}

impl Kind {
    /// Positions that it needs.
    pub(crate) fn tokens(self) -> u32 {
        match self {
            Kind::Prefill(n) | Kind::Decode(n) | Kind::Rows(n) => n,
        }
    }

    /// Its name in tables.
    pub(crate) fn name(self) -> String {
        match self {
            Kind::Prefill(n) => format!("pp{n}"),
            Kind::Decode(n) => format!("tg{n}"),
            Kind::Rows(n) => format!("rows{n}"),
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

/// What was measured of one test.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples {
    /// Tokens a second, one a repetition.
    pub tok_s: Vec<f64>,
    /// Seconds, one a step.
    pub step_s: Vec<f64>,
    /// Seconds of reads of the whole buffer.
    pub read_s: Vec<f64>,
    /// Totals of all steps.
    pub submissions: u64,
    /// As above.
    pub syncs: u64,
    /// As above.
    pub barriers: u64,
    /// As above.
    pub allocations: u64,
    /// Sum over steps of the positions whose keys and values were read.
    pub positions: u64,
}

/// Tests on one engine.
pub(crate) struct Bench {
    loaded: Loaded,
    probe: Probe,
    buffer: ReadBuffer,
    sampling: Sampling,
    tests: Vec<Test>,
    samples: Vec<Samples>,
    /// Sequences filled to a depth.
    bases: Vec<(u32, Sequence)>,
    int8_macs: Vec<f64>,
    f32_macs: Vec<f64>,
    state: u64,
}

impl Bench {
    /// Prepares the tests; nothing has run yet.
    pub(crate) fn new(loaded: Loaded, device: CpuDevice, sampling: Sampling, tests: &[Test]) -> Result<Bench> {
        let holds = |n: u32| !loaded.engine.plan_name(n, n, &sampling).is_empty();
        let too_many = |t: &&Test| matches!(t.kind, Kind::Rows(n) if !holds(n));
        if let Some(Test { kind: Kind::Rows(n), .. }) = tests.iter().find(too_many) {
            bail!("--rows {n}: no plan gives so many rows a token each; 17 is the most");
        }
        let probe = device.probe();
        let bytes = loaded.engine.work().weight_bytes.clamp(MIN_READ_BYTES, MAX_READ_BYTES);
        let buffer = probe.read_buffer(bytes as usize).context("no memory for the buffer of streaming reads")?;
        Ok(Bench {
            loaded,
            probe,
            buffer,
            sampling,
            tests: tests.to_vec(),
            samples: vec![Samples::default(); tests.len()],
            bases: Vec::new(),
            int8_macs: Vec::new(),
            f32_macs: Vec::new(),
            state: 1,
        })
    }

    /// Puts the model into the cache if it is not there.
    pub(crate) fn keep(&mut self) {
        self.loaded.keep();
    }

    /// Runs every test once; keeps what it measured if the round counts.
    pub(crate) fn round(&mut self, counts: bool, bar: &ProgressBar) -> Result<()> {
        for i in 0..self.tests.len() {
            let test = self.tests[i];
            let place = self.base(test.depth)?;
            let mut sequence = std::mem::take(&mut self.bases[place].1);
            let mut samples = std::mem::take(&mut self.samples[i]);
            let ran = self.run(test, &mut sequence, &mut samples);
            self.samples[i] = if counts { samples } else { Samples::default() };
            sequence.commit(test.depth as usize);
            self.bases[place].1 = sequence;
            ran?;
            bar.inc(1);
        }
        if counts {
            self.int8_macs.push(self.probe.int8_macs(self.probe.threads()));
            self.f32_macs.push(self.probe.f32_macs(self.probe.threads()));
        }
        Ok(())
    }

    /// The sequence that is filled to a depth, made when first asked for.
    fn base(&mut self, depth: u32) -> Result<usize> {
        if let Some(place) = self.bases.iter().position(|(d, _)| *d == depth) {
            return Ok(place);
        }
        let mut sequence = Sequence::new();
        self.loaded.engine.reserve(&mut sequence, depth as usize)?;
        self.prefill(&mut sequence, depth, &mut Samples::default())?;
        self.bases.push((depth, sequence));
        Ok(self.bases.len() - 1)
    }

    fn run(&mut self, test: Test, sequence: &mut Sequence, samples: &mut Samples) -> Result<()> {
        self.loaded.engine.reserve(sequence, (test.depth + test.kind.tokens()) as usize)?;
        let before = samples.step_s.len();
        match test.kind {
            Kind::Prefill(n) => {
                self.prefill(sequence, n, samples)?;
                for _ in 0..3 {
                    self.read(samples);
                }
            }
            Kind::Decode(n) => self.decode(sequence, n, samples)?,
            Kind::Rows(n) => self.rows_steps(sequence, n, samples)?,
        }
        let tokens = match test.kind {
            Kind::Prefill(n) | Kind::Decode(n) => n,
            Kind::Rows(n) => n * ROWS_STEPS,
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
            sequence.commit(sequence.len() + take);
        }
        Ok(())
    }

    fn decode(&mut self, sequence: &mut Sequence, tokens: u32, samples: &mut Samples) -> Result<()> {
        let mut token = self.token();
        for _ in 0..tokens {
            token = self.step(sequence, &[token], 1, samples)?.unwrap_or(0);
            sequence.commit(sequence.len() + 1);
            self.read(samples);
        }
        Ok(())
    }

    fn rows_steps(&mut self, sequence: &mut Sequence, rows: u32, samples: &mut Samples) -> Result<()> {
        for _ in 0..ROWS_STEPS {
            let ids: Vec<u32> = (0..rows).map(|_| self.token()).collect();
            self.step(sequence, &ids, rows as usize, samples)?;
            self.read(samples);
        }
        Ok(())
    }

    /// One step whose last `wanted` rows ask for a token; the last row's token.
    fn step(&mut self, sequence: &Sequence, ids: &[u32], wanted: usize, samples: &mut Samples) -> Result<Option<u32>> {
        if signals::interrupted() {
            bail!("interrupted");
        }
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
        let step = Step { sequences: &[sequence], rows: &rows };
        let (counters, allocations) = (self.loaded.engine.counters(), allocations::count());
        let start = Instant::now();
        let token = self.loaded.engine.step(&step)?.last().copied();
        samples.step_s.push(start.elapsed().as_secs_f64());
        samples.allocations += allocations::count() - allocations;
        let used = self.loaded.engine.counters() - counters;
        samples.submissions += used.submissions;
        samples.syncs += used.syncs;
        samples.barriers += used.barriers;
        samples.positions += (first + ids.len()) as u64;
        Ok(token)
    }

    fn read(&self, samples: &mut Samples) {
        samples.read_s.push(self.probe.read_seconds(&self.buffer, self.probe.threads(), 1));
    }

    /// A token by a fixed sequence of pseudo-random numbers (Knuth's MMIX generator).
    fn token(&mut self) -> u32 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) as u32 % self.loaded.engine.model().hyper.vocab_size
    }

    /// A row a test.
    pub(crate) fn rows(&self, path: &Path, reps: u32) -> Vec<Row> {
        let work: ModelWork = self.loaded.engine.work();
        let macs = |all: &[f64]| aio::orchestrator::Figure::of(all).map_or(0.0, |f| f.median);
        let limits = Limits {
            buffer_bytes: self.buffer.len() as u64,
            int8_macs: macs(&self.int8_macs),
            f32_macs: macs(&self.f32_macs),
        };
        let plan = |test: &Test| {
            let rows = match test.kind {
                Kind::Prefill(n) => n.min(self.loaded.engine.prefill_rows() as u32),
                Kind::Decode(_) => 1,
                Kind::Rows(n) => n,
            };
            let outs = if let Kind::Rows(n) = test.kind { n } else { 1 };
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
                    threads: self.probe.threads() as u32,
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
