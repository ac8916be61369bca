//! Speculation never changes a text: the default model on all workloads, plain against drafted, for every drafter,
//! number of drafts, batch size and instruction-set level.
//!
//! The short form runs with every `cargo test`; `.ci/long` runs the long one, with more than 100,000 tokens: `cargo
//! test --release --test speculation -- --ignored --nocapture`. Plain texts are generated once, at the first level, so
//! levels are compared with each other too.
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

use aio::cpu::{CpuDevice, CpuOptions, IsaLevel};
use aio::engine::{
    Batch, Engine, EngineOptions, Flow, MemberId, ModelDrafter, Request, Sampling, Sequence, Speculation,
};
use aio::ir::sampling::SampleParams;
use aio::model::Model;
use aio::orchestrator::{DraftError, Drafter, DrafterKind, Match, PromptLookup, StepTime, SuffixDrafter};
use aio_filetest::needs;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

const WORKLOADS: [&str; 8] = ["copy", "grounded", "code", "lists", "chat", "chat-hot", "prose", "prose-hot"];
const LEVELS: [IsaLevel; 2] = [IsaLevel::Avx512Vnni, IsaLevel::Avx2];
/// Large enough for the longest prompt of the workloads and its text.
const CONTEXT: u32 = 1536;
/// Base of the noise seeds; a prompt's seed adds its index among the prompts.
const SEED: u64 = 1000;
/// An erring draft model is wrong on one token in `ERRS`.
const ERRS: usize = 7;

/// How much to compare.
struct Extent {
    /// Prompts from each workload.
    prompts: usize,
    /// Tokens per text.
    tokens: usize,
    /// Texts for each number of drafts and batch size.
    texts: usize,
    drafts: &'static [Speculation],
    sizes: &'static [usize],
    /// Temperatures; `None` means the workload's own.
    temperatures: &'static [Option<f32>],
    /// Maximum tokens of a prompt for a draft model, which takes as long to read it as the model does.
    longest_drafted: usize,
}

const SHORT: Extent = Extent {
    prompts: 1,
    tokens: 16,
    texts: 8,
    drafts: &[Speculation::Fixed(2), Speculation::Fixed(8), Speculation::Auto],
    sizes: &[1, 4],
    temperatures: &[None],
    longest_drafted: 200,
};

const LONG: Extent = Extent {
    prompts: 8,
    tokens: 64,
    texts: 16,
    drafts: &[
        Speculation::Fixed(1),
        Speculation::Fixed(2),
        Speculation::Fixed(4),
        Speculation::Fixed(8),
        Speculation::Fixed(16),
        Speculation::Fixed(40),
        Speculation::Auto,
    ],
    sizes: &[1, 2, 4, 8],
    temperatures: &[Some(0.0), Some(0.8)],
    longest_drafted: usize::MAX,
};

/// A prompt, its tokens, and a sequence that holds them.
struct Prompt {
    name: String,
    ids: Vec<u32>,
    temperature: f32,
    read: Sequence,
}

/// Plain texts by prompt and temperature (in hundredths).
type Texts = BTreeMap<(usize, u32), Vec<u32>>;

fn engine(path: &Path, isa: Option<IsaLevel>, sequences: u32) -> Engine {
    let device = CpuDevice::new(CpuOptions { threads: 2, isa, pin: false }).unwrap();
    let options = EngineOptions { context: Some(CONTEXT), sequences, ..EngineOptions::default() };
    aio::load(Model::open(path).unwrap(), Arc::new(device), &options).unwrap()
}

/// The first prompts of each workload, interleaved so that neighbours are of different kinds.
fn prompts(engine: &Engine, each: usize) -> Vec<Prompt> {
    let file = |name: &str| aio_filetest::workspace(&format!("benches/workloads/{name}.jsonl"));
    let lines = WORKLOADS.map(|name| std::fs::read_to_string(file(name)).unwrap());
    let nth = |n: usize| lines.iter().map(move |text| text.lines().nth(n).unwrap());
    (0..each).flat_map(nth).map(|line| prompt(engine, line)).collect()
}

fn prompt(engine: &Engine, line: &str) -> Prompt {
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    let text = |field: &str| line[field].as_str().unwrap().to_owned();
    let ids = engine.model().tokenizer.encode_prompt(&text("prompt"), true).unwrap();
    let mut read = Sequence::new();
    let request = Request { max_tokens: Some(1), ..Request::new(ids.clone(), Sampling::greedy()) };
    engine.generate_in(&mut read, &request, None, &mut |_| Flow::Continue).unwrap();
    let temperature = line["temperature"].as_f64().unwrap() as f32;
    Prompt { name: format!("{} {}", text("workload"), text("id")), ids, temperature, read }
}

fn sampling(temperature: f32, prompt: usize) -> Sampling {
    let params = SampleParams { temperature, top_k: 40, top_p: 0.95, min_p: 0.05, ..SampleParams::GREEDY };
    Sampling { params, seed: SEED + prompt as u64, ..Sampling::greedy() }
}

/// A draft model that is sometimes wrong, as smaller models are.
struct Erring {
    model: ModelDrafter,
    known: usize,
}

impl Drafter for Erring {
    fn name(&self) -> &'static str {
        "erring"
    }

    fn extend(&mut self, tokens: &[u32]) {
        self.known += tokens.len();
        self.model.extend(tokens);
    }

    fn draft(&mut self, max: usize, out: &mut Vec<u32>) -> Result<Match, DraftError> {
        let old = out.len();
        let matched = self.model.draft(max, out)?;
        for (i, token) in out[old..].iter_mut().enumerate() {
            *token ^= u32::from((self.known + i).wrapping_mul(2_654_435_761).is_multiple_of(ERRS));
        }
        Ok(matched)
    }

    fn clear(&mut self) {
        self.known = 0;
        self.model.clear();
    }

    fn kind(&self) -> DrafterKind {
        self.model.kind()
    }

    fn prepare(&mut self) -> Result<(), DraftError> {
        self.model.prepare()
    }

    fn most(&self) -> usize {
        self.model.most()
    }

    fn last_time(&self) -> Option<StepTime> {
        self.model.last_time()
    }

    fn time_per_token(&self) -> Option<StepTime> {
        self.model.time_per_token()
    }
}

/// The comparison at one instruction-set level.
struct Level<'a> {
    name: &'static str,
    extent: &'a Extent,
    engine: Engine,
    /// A second copy of the model, which drafts.
    twin: &'a Arc<Engine>,
    prompts: Vec<Prompt>,
    texts: &'a mut Texts,
    /// Number of texts started so far; selects prompts and drafters.
    begun: usize,
    compared: usize,
    drafted: u64,
    accepted: u64,
}

impl Level<'_> {
    fn temperature(&self, prompt: usize, asked: Option<f32>) -> f32 {
        asked.unwrap_or(self.prompts[prompt].temperature)
    }

    fn request(&self, prompt: usize, temperature: f32, speculation: Speculation) -> Request {
        let request = Request::new(self.prompts[prompt].ids.clone(), sampling(temperature, prompt));
        Request { max_tokens: Some(self.extent.tokens), ignore_eog: true, speculation, ..request }
    }

    /// Cycles through the drafters; every second draft model errs.
    fn drafter(&self, prompt: usize, sampling: &Sampling) -> Box<dyn Drafter> {
        let long = self.prompts[prompt].ids.len() > self.extent.longest_drafted;
        match (self.begun + self.begun / WORKLOADS.len()) % 4 {
            0 => Box::new(PromptLookup::default()),
            n @ (1 | 3) if !long => {
                let model = ModelDrafter::new(Arc::clone(self.twin), &self.engine, sampling.clone()).unwrap();
                if n == 1 { Box::new(model) } else { Box::new(Erring { model, known: 0 }) }
            }
            _ => Box::new(SuffixDrafter::default()),
        }
    }

    /// The plain text, generated if this is the first level.
    fn plain(&mut self, prompt: usize, temperature: f32) -> Vec<u32> {
        let key = (prompt, (temperature * 100.0) as u32);
        if !self.texts.contains_key(&key) {
            let request = self.request(prompt, temperature, Speculation::Off);
            let done = self.engine.generate(&request, &mut |_| Flow::Continue).unwrap();
            assert_eq!(done.ids.len(), self.extent.tokens);
            self.texts.insert(key, done.ids);
        }
        self.texts[&key].clone()
    }

    /// Runs one batch, filled with the next prompts, and compares the results with their plain texts.
    fn batch(&mut self, size: usize, drafts: Speculation, asked: Option<f32>) {
        let mut batch = Batch::new();
        let mut members: Vec<(MemberId, String, Vec<u32>)> = Vec::new();
        for _ in 0..size {
            let prompt = self.begun % self.prompts.len();
            let temperature = self.temperature(prompt, asked);
            let want = self.plain(prompt, temperature);
            let request = self.request(prompt, temperature, drafts);
            let drafter = self.drafter(prompt, &request.sampling);
            // Texts share a prompt that was already read, except one in eight, which reads its prompt next to the
            // others' drafts.
            let shared = if self.begun % 8 == 5 { 0 } else { self.prompts[prompt].ids.len() };
            let sequence = self.engine.fork(&self.prompts[prompt].read, shared).unwrap();
            let what = format!(
                "{}, T = {temperature}, seed {}, {size} together, {drafts:?}, {}, {}",
                self.prompts[prompt].name,
                request.sampling.seed,
                drafter.name(),
                self.name
            );
            let id = batch.join(&self.engine, request, sequence, Some(drafter)).map_err(|(e, _)| e).unwrap();
            members.push((id, what, want));
            self.begun += 1;
        }
        while batch.running() > 0 {
            batch.step(&self.engine, &mut |_, _| Flow::Continue).unwrap();
        }
        for (id, what, want) in members {
            let (done, _) = batch.leave(&self.engine, id).unwrap();
            let done = done.unwrap();
            let same = done.ids.iter().zip(&want).take_while(|(a, b)| a == b).count();
            assert!(done.ids == want, "{what}: token {same} is {:?} and not {:?}", done.ids.get(same), want.get(same));
            self.compared += done.ids.len();
            self.drafted += done.speculation.drafted;
            self.accepted += done.speculation.accepted;
        }
    }

    fn run(&mut self) {
        let began = Instant::now();
        for &asked in self.extent.temperatures {
            for &size in self.extent.sizes {
                for &drafts in self.extent.drafts {
                    (0..self.extent.texts / size).for_each(|_| self.batch(size, drafts, asked));
                }
                let temperature = asked.map_or_else(|| "as the workloads say".to_owned(), |t| t.to_string());
                println!(
                    "{}: T = {temperature}, up to {size} together: {} tokens, {} of {} drafts accepted, {:.0} s so far",
                    self.name,
                    self.compared,
                    self.accepted,
                    self.drafted,
                    began.elapsed().as_secs_f64()
                );
            }
        }
    }
}

/// Compares at every level of this machine; returns the number of tokens compared.
fn compare(path: &Path, extent: &Extent) -> usize {
    let twin = Arc::new(engine(path, None, 8));
    let (mut texts, mut compared) = (Texts::new(), 0);
    for isa in LEVELS {
        if aio::cpu::isa::Isa::at(isa).is_none() {
            needs::skip(&format!("speculation at {}", isa.name()), isa.name(), "this machine lacks the level");
            continue;
        }
        // Room for the prompts that are kept, and for the batch.
        let engine = engine(path, Some(isa), 8 + 2 * extent.prompts as u32);
        let prompts = prompts(&engine, extent.prompts);
        let (name, twin, texts) = (isa.name(), &twin, &mut texts);
        let mut level =
            Level { name, extent, engine, twin, prompts, texts, begun: 0, compared: 0, drafted: 0, accepted: 0 };
        level.run();
        assert!(level.accepted > 0 && level.accepted < level.drafted, "drafts were right and wrong");
        compared += level.compared;
    }
    let seeds = SEED..SEED + (WORKLOADS.len() * extent.prompts) as u64;
    println!("{compared} tokens compared, all equal; {} plain texts, seeds {seeds:?}", texts.len());
    compared
}

#[test]
fn drafts_change_nothing_of_the_text() {
    let Some(path) = needs::default_model("speculation") else { return };
    compare(&path, &SHORT);
}

#[test]
#[ignore = "takes a quarter of an hour; .ci/long runs it"]
fn drafts_change_nothing_of_100_000_tokens() {
    let Some(path) = needs::default_model("speculation, long") else { return };
    let compared = compare(&path, &LONG);
    let levels = LEVELS.into_iter().filter(|&l| aio::cpu::isa::Isa::at(l).is_some()).count();
    assert!(compared >= levels * 50_000, "{compared} tokens at {levels} levels");
}
