//! The golden rule: compares the default model with llama.cpp's tokens and logits (build b11434), on every prompt of
//! `tests/data/golden-smollm2.json`. That file's `margins` are llama.cpp's own top-2 margins. Below 0.35, llama.cpp's
//! other numeric forms of the same weights disagree among themselves, so a flip there is not an error.
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

use aio::backend::Device;
use aio::backend::ImageAccess;
use aio::cpu::{CpuDevice, CpuOptions, IsaLevel};
use aio::devices::{DeviceOptions, Registry, options};
use aio::engine::{
    Compiled, Engine, EngineOptions, Flow, OutputBuffer, Outputs, Request, Sampling, Sequence, Speculation, Step,
    StepRow, StepWants,
};
use aio::model::Model;
use aio::plan::artefact::{Artefact, Hash};
use aio_filetest::needs;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Top-2 margin at or above which the reference counts as certain.
const MARGIN: f64 = 0.35;

struct Golden {
    prompt: String,
    prompt_ids: Vec<u32>,
    greedy_ids: Vec<u32>,
    margins: Vec<f64>,
    stride: usize,
    first_logits: Vec<f64>,
}

fn golden() -> Vec<Golden> {
    let cases: serde_json::Value = serde_json::from_str(include_str!("data/golden-smollm2.json")).unwrap();
    let ids = |v: &serde_json::Value| v.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as u32).collect();
    let numbers = |v: &serde_json::Value| v.as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect();
    let case = |c: &serde_json::Value| Golden {
        prompt: c["prompt"].as_str().unwrap().to_owned(),
        prompt_ids: ids(&c["prompt_ids"]),
        greedy_ids: ids(&c["greedy_ids"]),
        margins: numbers(&c["margins"]),
        stride: c["logits_stride"].as_u64().unwrap() as usize,
        first_logits: numbers(&c["first_logits"]),
    };
    cases.as_array().unwrap().iter().map(case).collect()
}

fn load(path: &std::path::Path, device: Arc<dyn Device>) -> Engine {
    let options = EngineOptions { context: Some(512), ..EngineOptions::default() };
    aio::load(Model::open(path).unwrap(), device, &options).unwrap()
}

fn engine(path: &std::path::Path, isa: Option<IsaLevel>, threads: usize) -> Engine {
    load(path, Arc::new(CpuDevice::new(CpuOptions { threads, isa, pin: false }).unwrap()))
}

/// Logits of the rows `from..` of the tokens, computed in chunks of `chunk` rows.
fn logits(engine: &Engine, tokens: &[u32], from: usize, chunk: usize) -> Vec<Vec<f32>> {
    let mut sequence = Sequence::new();
    engine.reserve(&mut sequence, tokens.len()).unwrap();
    let width = engine.model().hyper.vocab_size as usize;
    let (mut all, mut out) = (Vec::new(), OutputBuffer::new());
    for start in (0..tokens.len()).step_by(chunk) {
        let end = (start + chunk).min(tokens.len());
        let wants = |p: usize| if p >= from { StepWants::Logits } else { StepWants::Nothing };
        let rows: Vec<_> =
            (start..end).map(|p| StepRow { token: tokens[p], sequence: 0, position: p, wants: wants(p) }).collect();
        let step = Step { sequences: &mut [&mut sequence], rows: &rows, drafts: &[] };
        if let Outputs::Logits(logits) = engine.step(step, &mut out).unwrap() {
            all.extend(logits.chunks(width).map(<[f32]>::to_vec));
        }
        sequence.commit(end).unwrap();
    }
    all
}

fn argmax(row: &[f32]) -> u32 {
    (0..row.len()).max_by(|&i, &j| row[i].total_cmp(&row[j]).then(j.cmp(&i))).unwrap() as u32
}

fn nmse(got: &[f32], want: &[f64]) -> f64 {
    let error: f64 = got.iter().zip(want).map(|(&g, &w)| (f64::from(g) - w).powi(2)).sum();
    error / want.iter().map(|w| w * w).sum::<f64>()
}

/// Checks an engine on some of the prompts; returns the first-position errors.
fn check(engine: &Engine, name: &str, cases: impl IntoIterator<Item = Golden>) -> Vec<f64> {
    let mut errors = Vec::new();
    for case in cases {
        let ids = engine.model().tokenizer.encode_prompt(&case.prompt, true).unwrap();
        assert_eq!(ids, case.prompt_ids, "{:?}", case.prompt);
        let forced: Vec<u32> = ids.iter().chain(&case.greedy_ids[..case.greedy_ids.len() - 1]).copied().collect();
        let rows = logits(engine, &forced, ids.len() - 1, 512);
        for (i, row) in rows.iter().enumerate().filter(|(i, _)| case.margins[*i] >= MARGIN) {
            assert_eq!(argmax(row), case.greedy_ids[i], "{:?}, forced position {i}", case.prompt);
        }
        let sparse: Vec<f32> = rows[0].iter().step_by(case.stride).copied().collect();
        let error = nmse(&sparse, &case.first_logits);
        println!("{name}: {:?}: first-logits NMSE {error:.2e}", case.prompt);
        errors.push(error);
        check_free_run(engine, &case);
    }
    errors
}

/// Checks the first-position errors of all prompts.
fn check_errors(mut errors: Vec<f64>, name: &str) {
    errors.sort_by(f64::total_cmp);
    let listed: Vec<_> = errors.iter().map(|e| format!("{e:.2e}")).collect();
    println!("{name}: first-logits NMSE {}", listed.join(" "));
    let median = (errors[(errors.len() - 1) / 2] + errors[errors.len() / 2]) / 2.0;
    assert!(median <= 1e-3, "{name}: median NMSE {median}");
    assert!(errors.iter().all(|&e| e <= 1e-2), "{name}: NMSE {}", listed.join(" "));
}

fn check_free_run(engine: &Engine, case: &Golden) {
    let mut request = Request::new(case.prompt_ids.clone(), Sampling::greedy());
    request.max_tokens = Some(case.greedy_ids.len());
    let done = engine.generate(&request, &mut |_| Flow::Continue).unwrap();
    let same = done.ids.iter().zip(&case.greedy_ids).take_while(|(a, b)| a == b).count();
    println!("{:?}: {same} of {} positions equal", case.prompt, case.greedy_ids.len());
    if same < case.greedy_ids.len() {
        assert!(case.margins[same] < MARGIN, "{:?} differs at {same}: {:?}", case.prompt, done.text);
    }
}

#[test]
fn tokens_and_logits_agree_with_llama_cpp_at_every_level() {
    let Some(path) = needs::default_model("golden") else { return };
    for isa in IsaLevel::ALL {
        if aio::cpu::isa::Isa::at(isa).is_none() {
            needs::skip(&format!("golden at {}", isa.name()), isa.name(), "this machine lacks the level");
            continue;
        }
        let engine = engine(&path, Some(isa), 2);
        check_errors(check(&engine, isa.name(), golden()), isa.name());
    }
}

/// The simulator is slow, so two prompts. The reference rounds activations to 8 bits, and halves do not, so the median of
/// the errors is the reference's own.
#[test]
fn tokens_and_logits_of_the_simulated_ascend_agree_with_llama_cpp() {
    let Some(path) = needs::default_model("golden on ascend") else { return };
    let open = |lengths: &str| {
        let options = DeviceOptions::new().with(options::LENGTHS, lengths);
        load(&path, Registry::with_defaults().open("ascend", &options).unwrap().device)
    };
    let engine = open("bucket");
    let errors = check(&engine, "ascend", golden().into_iter().take(2));
    assert!(errors.iter().all(|&e| e <= 1e-2), "{errors:?}");
    let run = |engine: &Engine, speculation| {
        let ids = golden().swap_remove(0).prompt_ids;
        let request = Request { max_tokens: Some(16), speculation, ..Request::new(ids, Sampling::greedy()) };
        engine.generate(&request, &mut |_| Flow::Continue).unwrap().ids
    };
    let tokens = run(&engine, Speculation::Off);
    assert_eq!(run(&engine, Speculation::Fixed(4)), tokens);
    // With buckets, a step is one submission and one synchronisation, also with drafts.
    let counters = engine.counters();
    assert_eq!(counters.submissions, counters.syncs);
    assert!(counters.modelled_ns > 0 && counters.captures > 0, "{counters:?}");
    let auto = open("auto");
    assert_eq!(run(&auto, Speculation::Fixed(4)), tokens);
    assert!(auto.forms().iter().map(|(_, steps)| steps).sum::<u64>() > 0, "every step has a form");
}

#[test]
fn threads_and_chunks_do_not_change_a_bit() {
    let Some(path) = needs::default_model("threads_and_chunks") else { return };
    let tokens: Vec<u32> = golden().into_iter().flat_map(|c| c.prompt_ids.into_iter().chain(c.greedy_ids)).collect();
    let from = tokens.len() - 3;
    let mut reference: Option<Vec<Vec<u32>>> = None;
    for (threads, chunk) in [(1, 512), (2, 512), (4, 512), (2, 1), (1, 7), (2, 64), (2, 100), (4, 17)] {
        let engine = engine(&path, None, threads);
        let rows = logits(&engine, &tokens, from, chunk);
        let bits: Vec<Vec<u32>> = rows.iter().map(|r| r.iter().map(|v| v.to_bits()).collect()).collect();
        let want = reference.get_or_insert_with(|| bits.clone());
        assert!(*want == bits, "{threads} threads, chunks of {chunk}: logits differ");
    }
}

#[test]
fn all_levels_give_the_same_bits() {
    let Some(path) = needs::default_model("levels") else { return };
    let mut first: Option<Vec<u32>> = None;
    for isa in IsaLevel::ALL {
        if aio::cpu::isa::Isa::at(isa).is_none() {
            needs::skip("levels", isa.name(), "this machine lacks the level");
            continue;
        }
        let engine = engine(&path, Some(isa), 2);
        let case = &golden()[1];
        let rows = logits(&engine, &case.prompt_ids, 0, 512);
        let bits: Vec<u32> = rows.into_iter().flatten().map(f32::to_bits).collect();
        let want = first.get_or_insert_with(|| bits.clone());
        assert!(*want == bits, "logits at {} differ from those of the first level", isa.name());
    }
}

#[test]
fn an_artefact_gives_the_tokens_of_its_model() {
    let Some(path) = needs::default_model("artefact") else { return };
    let device: Arc<dyn Device> = Arc::new(CpuDevice::new(CpuOptions { threads: 2, isa: None, pin: false }).unwrap());
    let options = EngineOptions { context: Some(512), ..EngineOptions::default() };
    let model = Model::open(&path).unwrap();
    let graph = aio::ir::text::parse(&model.graph_text(&aio::templates(), None).unwrap()).unwrap().graph;
    let compiled = Compiled::new(&model, &graph, &*device, &options, &[]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.aio");
    compiled.write(&file, Hash([0; 32]), None, &mut |_| ControlFlow::Continue(())).unwrap();
    let case = &golden()[1];
    let run = |engine: &Engine| {
        let mut request = Request::new(case.prompt_ids.clone(), Sampling::greedy());
        request.max_tokens = Some(case.greedy_ids.len());
        engine.generate(&request, &mut |_| Flow::Continue).unwrap().ids
    };
    let want = run(&load(&path, Arc::clone(&device)));
    for access in [ImageAccess::Read, ImageAccess::Map] {
        let artefact = Artefact::open(&file).unwrap();
        let engine = Engine::from_artefact(artefact, Arc::clone(&device), &options, access).unwrap();
        assert_eq!(engine.model().tokenizer.encode_prompt(&case.prompt, true).unwrap(), case.prompt_ids);
        assert_eq!(run(&engine), want, "{access:?}");
    }
}
