//! Bursts under emulation: many steps in one launch return the same tokens as plain steps, whatever the drafts, the
//! grid, the order of threads and the place where the output ends.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use aio_backend::DeviceError;
use aio_backend_cuda::EmulationOptions;
use aio_engine::{
    Batch, Completion, Engine, EngineError, EngineOptions, Flow, Request, Sampling, Sequence, Speculation, StopReason,
};
use aio_filetest::modelled::{Modelled, Seconds, twentieth};
use aio_filetest::{cuda, needs, tiny};
use aio_interp::InterpDevice;
use aio_ir::DType;
use aio_ir::sampling::SampleParams;
use aio_model::Model;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Blocks in a burst, for each order of threads.
const GRIDS: [u32; 3] = [1, 2, 3];
/// Tokens of an output; they cross the page border at position 64.
const TOKENS: usize = 33;

/// Seconds of a step, with a draft nearly as expensive as a token.
fn dear(rows: u32) -> f64 {
    1e-3 * (0.1 + 0.9 * f64::from(rows))
}

fn options() -> EngineOptions {
    EngineOptions { context: Some(192), prefill_rows: 40, sequences: 2, burst: 64, ..EngineOptions::default() }
}

/// An engine with bursts of up to 64 tokens; `None` after a SKIP.
fn engine(preset: &str, weights: DType, emulation: EmulationOptions) -> Option<Engine> {
    let device = cuda::device("cuda bursts", emulation)?;
    Some(tiny::engine(preset, weights, Arc::new(Modelled::new(device, twentieth)), &options()))
}

/// Two blocks, with threads in order.
fn two_blocks() -> EmulationOptions {
    EmulationOptions { multiprocessors: 2, ..EmulationOptions::default() }
}

/// A request with a repetitive prompt, so that there are drafts.
fn request(sampling: &Sampling, speculation: Speculation) -> Request {
    let prompt = (0..40).map(|i| (i % 7 * 31 + 3) as u32).collect();
    Request { max_tokens: Some(TOKENS), ignore_eog: true, speculation, ..Request::new(prompt, sampling.clone()) }
}

/// Greedy; sampled from two tokens, which repeats itself sometimes; sampled from many, with penalties.
fn samplings() -> [Sampling; 3] {
    let few = SampleParams { temperature: 0.8, top_k: 2, ..SampleParams::GREEDY };
    let many = SampleParams { top_k: 40, top_p: 0.95, repeat_penalty: 1.1, ..few };
    let sampled = |params| Sampling { params, seed: 11, ..Sampling::greedy() };
    [Sampling::greedy(), sampled(few), sampled(many)]
}

fn generate(engine: &Engine, request: &Request) -> Completion {
    engine.generate(request, &mut |_| Flow::Continue).unwrap()
}

/// The output of plain steps.
fn plain(engine: &mut Engine, request: &Request) -> Completion {
    engine.set_burst(0);
    let done = generate(engine, &Request { speculation: Speculation::Off, ..request.clone() });
    engine.set_burst(64);
    done
}

/// Asserts that the output equals that of plain steps and takes as few submissions as bursts of `burst` tokens allow.
/// With `auto`, the speculator may shorten bursts.
fn assert_same(engine: &mut Engine, burst: usize, request: &Request, want: &Completion, what: &str) -> Completion {
    engine.set_burst(burst);
    let (before, learned) = (engine.counters(), engine.speed().steps);
    let got = generate(engine, request);
    let spent = engine.counters() - before;
    assert_eq!(engine.burst_refusal(), None, "{what}");
    // The cost model learns from each step of a burst, as from those of prompts.
    assert_eq!(engine.speed().steps, learned + 1 + got.timing.decode_steps as u64, "{what}");
    assert_eq!(got.ids, want.ids, "{what}");
    assert_eq!((&got.text, got.stop_reason), (&want.text, want.stop_reason), "{what}");
    // One for the prompt, and one per burst.
    let whole = if request.speculation == Speculation::Auto { 1 } else { burst as u64 };
    let most = 1 + (got.ids.len() as u64 - 1).div_ceil(whole);
    assert!(spent.submissions <= most && spent.syncs <= most, "{what}: {} submissions", spent.submissions);
    println!("{what}: {} submissions, {:.2} tokens a step", spent.submissions, got.speculation.tokens_per_step());
    got
}

#[test]
fn bursts_give_the_tokens_of_steps() {
    let mut want: Vec<Completion> = Vec::new();
    for (i, order) in cuda::ORDERS.into_iter().enumerate() {
        let emulation = EmulationOptions { order, multiprocessors: GRIDS[i], ..EmulationOptions::default() };
        let Some(mut engine) = engine("llama-1b", DType::Q8_0, emulation) else { return };
        for (s, sampling) in samplings().iter().enumerate() {
            if i == 0 {
                want.push(plain(&mut engine, &request(sampling, Speculation::Off)));
                let what = format!("plain loop, sampling {s}");
                assert_same(&mut engine, 64, &request(sampling, Speculation::Off), &want[s], &what);
            }
            let (burst, speculation) =
                [(64, Speculation::Auto), (5, Speculation::Fixed(16)), (64, Speculation::Fixed(2))][i];
            let what = format!("{order:?}, {speculation:?}, bursts of {burst}, sampling {s}");
            let got = assert_same(&mut engine, burst, &request(sampling, speculation), &want[s], &what);
            assert!(s == 2 || got.speculation.accepted > 0, "{what}: {:?}", got.speculation);
        }
    }
}

#[test]
fn every_form_of_weights_can_run_in_bursts() {
    let models = [
        ("qwen2-0.5b", DType::Q4_1),
        ("qwen3-0.6b", DType::F32),
        ("pangu-1b", DType::F16),
        ("llama-1b", DType::Q6K),
        ("llama-1b", DType::Q4K),
        ("llama-1b", DType::BF16),
    ];
    for (i, (preset, weights)) in models.into_iter().enumerate() {
        let Some(mut engine) = engine(preset, weights, two_blocks()) else { return };
        let request = Request { max_tokens: Some(12), ..request(&samplings()[i % 2], Speculation::Fixed(6)) };
        let want = plain(&mut engine, &request);
        assert_same(&mut engine, 64, &request, &want, &format!("{preset}, {weights}"));
    }
}

/// Attention is split every 256 positions and blocks synchronise by its tickets; the output fills the context.
#[test]
fn bursts_cross_splits_and_fill_the_context() {
    let Some(device) = cuda::device("cuda bursts", EmulationOptions { multiprocessors: 3, ..two_blocks() }) else {
        return;
    };
    let options = EngineOptions { context: Some(266), prefill_rows: 256, burst: 64, ..EngineOptions::default() };
    let mut engine = tiny::engine("llama-1b", DType::Q8_0, Arc::new(device), &options);
    let prompt = (0..250).map(|i| (i % 11 * 23 + i % 3) as u32).collect();
    let request = Request { prompt, max_tokens: None, ..request(&Sampling::greedy(), Speculation::Auto) };
    let want = plain(&mut engine, &request);
    assert_eq!((want.ids.len(), want.stop_reason), (16, StopReason::ContextFull));
    assert_same(&mut engine, 64, &request, &want, "to the end of the context");
}

/// The speculator decides whether the device may draft: losses stay within the account's bound, and drafts are made
/// where they pay.
#[test]
fn bursts_draft_as_the_account_allows() {
    for (sampling, seconds, cost) in [(2, dear as Seconds, 0.9), (0, twentieth, 0.05), (0, dear, 0.9)] {
        let Some(device) = cuda::device("cuda bursts", two_blocks()) else { return };
        let device = Modelled::new(device, seconds);
        let mut engine = tiny::engine("llama-1b", DType::Q8_0, Arc::new(device), &options());
        let request = request(&samplings()[sampling], Speculation::Auto);
        let request = Request { max_tokens: Some(120), ..request };
        let want = plain(&mut engine, &request);
        let what = format!("sampling {sampling}, a draft costs {cost} steps");
        let stats = assert_same(&mut engine, 64, &request, &want, &what).speculation;
        let seconds: f64 = (0..).zip(&stats.by_length).map(|(k, &n)| n as f64 * (1.0 + cost * f64::from(k))).sum();
        assert!(seconds <= 1.01 * 119.0 + 8.0, "{what}: {seconds} plain steps for 119 tokens, {stats:?}");
        if cost < 0.1 {
            assert!(seconds < 0.9 * 119.0 && stats.accepted > 0, "{what}: {seconds}, {stats:?}");
        }
        let mut batch = Batch::new();
        batch.join(&engine, request, Sequence::new(), None).map_err(|(e, _)| e).unwrap();
        batch.step(&engine, &mut |_, _| Flow::Continue).unwrap();
        batch.step(&engine, &mut |_, _| Flow::Continue).unwrap();
        assert!(batch.choice().is_some(), "a burst's drafts are weighed");
    }
}

/// The output ends exactly where plain steps end it, even in the middle of accepted drafts.
#[test]
fn the_output_ends_where_plain_steps_end_it() {
    let Some(mut engine) = engine("llama-1b", DType::Q8_0, two_blocks()) else { return };
    let whole = request(&Sampling::greedy(), Speculation::Auto);
    let want = plain(&mut engine, &whole);
    for max_tokens in [2, 3, 8, 13, 20] {
        let request = Request { max_tokens: Some(max_tokens), ..whole.clone() };
        let want = plain(&mut engine, &request);
        assert_same(&mut engine, 64, &request, &want, &format!("{max_tokens} tokens"));
    }
    for place in [1, 9, 14, 21, 30] {
        let request = Request { stop_tokens: vec![want.ids[place]], ..whole.clone() };
        let want = plain(&mut engine, &request);
        assert_eq!(want.stop_reason, StopReason::EndOfGeneration);
        assert_same(&mut engine, 64, &request, &want, &format!("until token {}", want.ids.len()));
    }
}

#[test]
fn a_caller_can_end_a_burst_and_go_on_after_it() {
    let Some(mut engine) = engine("llama-1b", DType::Q8_0, two_blocks()) else { return };
    let first = request(&samplings()[1], Speculation::Auto);
    let want = plain(&mut engine, &first);
    let mut sequence = Sequence::new();
    let mut texts = 0;
    let mut sink = |_: &str| {
        texts += 1;
        if texts < 6 { Flow::Continue } else { Flow::Stop }
    };
    let cut = engine.generate_in(&mut sequence, &first, None, &mut sink).unwrap();
    assert_eq!((cut.stop_reason, &cut.ids[..]), (StopReason::Cancelled, &want.ids[..cut.ids.len()]));
    assert!(cut.ids.len() < TOKENS);
    // The sequence holds exactly the tokens shown, so it can be continued.
    let prompt: Vec<u32> = first.prompt.iter().chain(&cut.ids).copied().collect();
    assert_eq!(sequence.len(), prompt.len() - 1);
    let rest = Request { prompt, max_tokens: Some(TOKENS - cut.ids.len()), ..first };
    let done = engine.generate_in(&mut sequence, &rest, None, &mut |_| Flow::Continue).unwrap();
    assert_eq!(done.ids, want.ids[cut.ids.len()..]);
}

/// The burst of a receiver that panics is over before the panic goes on: its pages may then be another text's.
#[test]
fn a_receiver_that_panics_ends_its_burst() {
    let Some(mut engine) = engine("llama-1b", DType::Q8_0, two_blocks()) else { return };
    let request = request(&Sampling::greedy(), Speculation::Auto);
    let want = plain(&mut engine, &request);
    for place in [2, 5, 20] {
        let mut shown = 0;
        let mut sink = |_: &str| {
            shown += 1;
            assert!(shown < place, "as asked for");
            Flow::Continue
        };
        let generate = || engine.generate(&request, &mut sink).map(|done| done.ids);
        assert!(catch_unwind(AssertUnwindSafe(generate)).is_err(), "{place}");
        assert_same(&mut engine, 64, &request, &want, &format!("after a panic at text {place}"));
    }
}

/// Batches with several members, and biases from the host, use ordinary steps and return the same tokens.
#[test]
fn what_needs_the_host_takes_steps() {
    let Some(mut engine) = engine("llama-1b", DType::Q8_0, two_blocks()) else { return };
    let alone = Request { max_tokens: Some(6), ..request(&Sampling::greedy(), Speculation::Off) };
    let want = plain(&mut engine, &alone);
    let before = engine.counters();
    let biased = Request { logit_bias: Some(vec![0.0; 512]), ..alone.clone() };
    assert_eq!(generate(&engine, &biased).ids, want.ids);
    let mut batch = Batch::new();
    for _ in 0..2 {
        batch.join(&engine, alone.clone(), Sequence::new(), None).map_err(|(e, _)| e).unwrap();
    }
    while batch.running() > 0 {
        batch.step(&engine, &mut |_, _| Flow::Continue).unwrap();
    }
    while let Some(id) = batch.ended() {
        let (done, _) = batch.leave(&engine, id).unwrap();
        let done = done.unwrap();
        assert_eq!(done.ids, want.ids);
    }
    // Six steps with one member, one or two with prompts, and five or six with two members.
    let spent = engine.counters() - before;
    assert!((12..=14).contains(&spent.submissions), "{}", spent.submissions);
}

/// A burst whose kernel fails sends nothing more to the host; the step must still end with the device's error.
#[test]
fn a_burst_that_fails_is_an_error_and_no_endless_wait() {
    if cuda::on_gpu() {
        return needs::skip("cuda burst fault", "emulation", "a GPU that fails stays so");
    }
    let Some(mut engine) = engine("llama-1b", DType::Q8_0, EmulationOptions { burst_fault: true, ..two_blocks() })
    else {
        return;
    };
    let request = request(&Sampling::greedy(), Speculation::Off);
    let error = engine.generate(&request, &mut |_| Flow::Continue).unwrap_err();
    let device = match &error {
        EngineError::Device(e) => e,
        other => panic!("{other}"),
    };
    assert!(matches!(device, DeviceError::Failed(reason) if reason.contains("as asked for")), "{error}");
    // Later steps work.
    assert_eq!(plain(&mut engine, &request).ids.len(), TOKENS);
}

#[test]
fn a_device_without_bursts_says_so_and_goes_step_by_step() {
    let mut engine = tiny::engine("llama-1b", DType::Q8_0, Arc::new(InterpDevice::default()), &options());
    let request = Request { max_tokens: Some(3), ..request(&Sampling::greedy(), Speculation::Off) };
    let got = generate(&engine, &request);
    assert!(engine.burst_refusal().unwrap().contains("runs no bursts"), "{:?}", engine.burst_refusal());
    assert_eq!(got.ids, plain(&mut engine, &request).ids);
}

/// The default model's first tokens equal llama.cpp's (`tests/data/golden-smollm2.json`), all but the first from one
/// launch.
#[test]
fn a_burst_gives_the_default_models_golden_tokens() {
    let Some(path) = needs::default_model("cuda golden burst") else { return };
    let Some(device) = cuda::device("cuda golden burst", two_blocks()) else { return };
    let text = std::fs::read_to_string(aio_filetest::workspace("tests/data/golden-smollm2.json")).unwrap();
    let cases: serde_json::Value = serde_json::from_str(&text).unwrap();
    let ids = |v: &serde_json::Value| -> Vec<u32> {
        v.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as u32).collect()
    };
    let case = cases.as_array().unwrap().iter().min_by_key(|c| ids(&c["prompt_ids"]).len()).unwrap();
    let (prompt, want) = (ids(&case["prompt_ids"]), ids(&case["greedy_ids"]));
    let model = Model::open(&path).unwrap();
    let graph = tiny::graph(&model);
    let options = EngineOptions { context: Some(64), prefill_rows: 24, burst: 64, ..EngineOptions::default() };
    let engine = Engine::load(model, &graph, Arc::new(device), &options).unwrap();
    let request = Request {
        max_tokens: Some(5),
        ignore_eog: true,
        speculation: Speculation::Auto,
        ..Request::new(prompt, Sampling::greedy())
    };
    let before = engine.counters();
    assert_eq!(generate(&engine, &request).ids, want[..5]);
    assert_eq!((engine.counters() - before).submissions, 2);
    assert_eq!(engine.burst_refusal(), None);
}
