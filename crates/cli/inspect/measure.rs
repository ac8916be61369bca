//! Runs the inspected step and takes the time of each task, between reads of memory in the same run.

use super::found::Found;
use super::rates::rates;
use crate::args::{InspectArgs, LoadArgs, ModelArgs};
use crate::{devices, models, signals};
use aio::backend::timeline::StepRecord;
use aio::backend::{Timeline, Trace};
use aio::devices::{Macs, Meter};
use aio::engine::{DraftSpan, Engine, EngineOptions, OutputBuffer, Sampling, Sequence, Step, StepRow, StepWants};
use aio::inspect::{Machine, Samples, StepSize, idle};
use aio::ir::sampling::SampleParams;
use aio::plan::Tail;
use anyhow::{Context, Result, bail};
use std::sync::Arc;

/// Steps before those that count, from which the level of the machine is learned.
const WARM_UP: u32 = 16;
/// Measurements of the peaks, of which the best counts.
const MACS: u32 = 3;
/// Size of a read: as much as the weights, within these.
const READ_BYTES: (u64, u64) = (1 << 20, 1 << 30);

/// What a measurement gave.
pub(super) struct Measured {
    pub samples: Samples,
    /// The machine as it was in this run.
    pub machine: Machine,
    pub timeline: Timeline,
}

/// Measures the step on the device that the arguments name.
pub(super) fn measure(args: &InspectArgs, found: &Found, machine: Machine) -> Result<Measured> {
    let Some(path) = &found.path else { bail!("--measure needs a model: {} is a text graph", found.source) };
    let step = found.step;
    if !step.rows.is_multiple_of(step.seqs) {
        bail!(
            "--measure runs as many rows of each sequence: {} rows are not shared evenly by {}",
            step.rows,
            step.seqs
        );
    }
    let tail = found.family.plans[found.plan].bucket.tail;
    let opened = devices::open(args.model.device, (&args.model).into())?;
    let hardware = devices::measured(args.model.device, &opened)?;
    let each = step.rows / step.seqs;
    let context = Some(step.context.max(each) + 1);
    let hidden = tail == Tail::Hidden;
    let options = EngineOptions { context, sequences: step.seqs, hidden, ..EngineOptions::default() };
    let model = ModelArgs { model: Some(path.clone()), ..args.model.clone() };
    // Compiled models in the cache lack plans for hidden states.
    let load = LoadArgs { no_cache: hidden, ..LoadArgs::default() };
    let mut loaded = models::load_on(&model, &load, Arc::clone(&opened.device), &options)?;
    let bytes = loaded.engine.work().weight_bytes.clamp(READ_BYTES.0, READ_BYTES.1);
    let meter = hardware.meter(bytes)?;
    let drafts = args.step.drafts;
    let shape = Shape { tail, sampling: sampling(tail), step, drafts };
    let mut run = Run { engine: &loaded.engine, shape, out: OutputBuffer::new(), token: 1 };
    let mut sequences = run.fill(step.seqs, step.context.saturating_sub(each))?;
    let device = &*opened.device;
    let kernels = rates(found, device);
    device.trace()?;
    taken(device)?;
    for _ in 0..WARM_UP {
        run.step(&mut sequences)?;
        meter.read_seconds()?;
    }
    let before = taken(device)?;
    let mut reads = Vec::new();
    for _ in 0..args.reps {
        run.step(&mut sequences)?;
        reads.push(meter.read_seconds()?);
    }
    let timeline = taken(device)?;
    loaded.keep();
    let machine = present(Machine { kernels, ..machine }, &*meter, &reads, (&opened.chip, opened.threads))?;
    let machine = machine.learned(&found.subject(), &tasks(found, &before));
    let samples = samples(found, &timeline, machine.bandwidth)?;
    Ok(Measured { samples, machine, timeline })
}

/// How rows are sampled on a plan with this tail.
fn sampling(tail: Tail) -> Sampling {
    match tail {
        Tail::Sample => {
            let params = SampleParams { temperature: 0.8, top_k: 40, ..SampleParams::GREEDY };
            Sampling { params, ..Sampling::greedy() }
        }
        Tail::Argmax | Tail::Logits | Tail::Hidden => Sampling::greedy(),
    }
}

/// The device's timeline so far.
fn taken(device: &dyn aio::backend::Device) -> Result<Timeline> {
    match device.take_trace()? {
        Trace::Timeline(timeline) => Ok(timeline),
        Trace::Chrome(_) => bail!("--measure needs a device that records its threads; this one models its time"),
    }
}

/// The machine at the rates of this run.
fn present(machine: Machine, meter: &dyn Meter, reads: &[f64], (chip, threads): (&str, u32)) -> Result<Machine> {
    let (mut int8, mut plain) = (0.0f64, 0.0f64);
    for _ in 0..MACS {
        let macs: Macs = meter.macs()?;
        (int8, plain) = (int8.max(macs.int8), plain.max(macs.plain));
    }
    let mut sorted = reads.to_vec();
    sorted.sort_by(f64::total_cmp);
    let median = sorted.get(sorted.len() / 2).copied().context("a step was measured")?;
    let measured = machine.measured(meter.bytes() as f64 / median, int8, plain);
    Ok(Machine { name: chip.to_owned(), threads, ..measured })
}

/// The steps that ran on the inspected plan.
fn own<'t>(found: &Found, timeline: &'t Timeline) -> Vec<&'t StepRecord> {
    let plan = &found.family.plans[found.plan];
    let steps = timeline.steps.iter();
    steps.filter(|s| s.bucket == plan.bucket && s.tasks as usize == plan.tasks.len()).collect()
}

/// The seconds of each task in each of these steps.
fn tasks(found: &Found, timeline: &Timeline) -> Vec<Vec<f64>> {
    let mut times = vec![Vec::new(); found.family.plans[found.plan].tasks.len()];
    for step in own(found, timeline) {
        times.iter_mut().zip(step.task_seconds()).for_each(|(all, seconds)| all.push(seconds));
    }
    times
}

/// Times of the steps that ran on the inspected plan.
fn samples(found: &Found, timeline: &Timeline, read_bandwidth: f64) -> Result<Samples> {
    let steps = own(found, timeline);
    if steps.is_empty() {
        let other = timeline.steps.first().map_or("none".to_owned(), |s| s.bucket.to_string());
        bail!("the steps ran on the plan {other}, not on {}", found.family.plans[found.plan].bucket);
    }
    Ok(Samples {
        steps: steps.iter().map(|s| s.seconds()).collect(),
        tasks: tasks(found, timeline),
        read_bandwidth,
        idle: idle(timeline).into_iter().map(|(cause, seconds)| (cause.name().to_owned(), seconds)).collect(),
        threads: timeline.threads.clone(),
        median: median(steps),
    })
}

/// The step of median time.
fn median(mut steps: Vec<&StepRecord>) -> Option<StepRecord> {
    steps.sort_by(|a, b| a.seconds().total_cmp(&b.seconds()));
    steps.get(steps.len() / 2).map(|step| (*step).clone())
}

/// What a step has.
struct Shape {
    tail: Tail,
    sampling: Sampling,
    step: StepSize,
    /// Drafts of each sequence, if steps verify any.
    drafts: Option<u32>,
}

impl Shape {
    /// Output rows of a sequence, which are its last ones; the first sequences have those left over.
    fn outs_of(&self, sequence: usize) -> usize {
        let (outs, seqs) = (self.step.outs as usize, self.step.seqs as usize);
        outs / seqs + usize::from(sequence < outs % seqs)
    }

    /// What an output row asks for.
    fn wants(&self) -> StepWants<'_> {
        match self.tail {
            Tail::Argmax | Tail::Sample => StepWants::Token { sampling: &self.sampling, recent: &[], bias: None },
            Tail::Logits => StepWants::Logits,
            Tail::Hidden => StepWants::Hidden,
        }
    }

    /// The drafts of sequences of these lengths; none in a step that verifies none.
    fn spans(&self, lens: &[usize], each: usize) -> Vec<DraftSpan> {
        let Some(drafts) = self.drafts else { return Vec::new() };
        let span = |(i, len): (usize, &usize)| DraftSpan { first: i * each, drafts: drafts as usize, len: len + 1 };
        lens.iter().enumerate().map(span).collect()
    }
}

/// Steps on an engine.
struct Run<'e> {
    engine: &'e Engine,
    shape: Shape,
    out: OutputBuffer,
    token: u32,
}

impl Run<'_> {
    /// The next token of a fixed sequence.
    fn token(&mut self) -> u32 {
        self.token = self.token.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.token >> 8) % self.engine.model().hyper.vocab_size
    }

    /// Sequences of some positions each.
    fn fill(&mut self, count: u32, positions: u32) -> Result<Vec<Sequence>> {
        (0..count).map(|_| self.filled(positions as usize)).collect()
    }

    fn filled(&mut self, positions: usize) -> Result<Sequence> {
        let mut sequence = Sequence::new();
        self.engine.reserve(&mut sequence, positions + self.shape.step.rows as usize)?;
        while sequence.len() < positions {
            let first = sequence.len();
            let take = (positions - first).min(self.engine.prefill_rows());
            let rows: Vec<StepRow<'_>> = (0..take)
                .map(|i| StepRow { token: self.token(), sequence: 0, position: first + i, wants: StepWants::Nothing })
                .collect();
            self.engine.step(Step { sequences: &mut [&mut sequence], rows: &rows, drafts: &[] }, &mut self.out)?;
            sequence.commit(first + take)?;
        }
        Ok(sequence)
    }

    /// One step, which is then forgotten, so that all see as many positions.
    fn step(&mut self, sequences: &mut [Sequence]) -> Result<()> {
        if signals::interrupted() {
            bail!("interrupted");
        }
        let each = self.shape.step.rows as usize / sequences.len();
        let tokens: Vec<u32> = (0..self.shape.step.rows).map(|_| self.token()).collect();
        let lens: Vec<usize> = sequences.iter().map(Sequence::len).collect();
        let shape = &self.shape;
        let row = |(i, &token): (usize, &u32)| {
            let (sequence, offset) = (i / each, i % each);
            let wants = if offset >= each - shape.outs_of(sequence) { shape.wants() } else { StepWants::Nothing };
            StepRow { token, sequence, position: lens[sequence] + offset, wants }
        };
        let rows: Vec<StepRow<'_>> = tokens.iter().enumerate().map(row).collect();
        let drafts = shape.spans(&lens, each);
        let mut together: Vec<&mut Sequence> = sequences.iter_mut().collect();
        self.engine.step(Step { sequences: &mut together, rows: &rows, drafts: &drafts }, &mut self.out)?;
        Ok(())
    }
}
