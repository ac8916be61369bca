//! Whole models on the CUDA back end under emulation: against the oracle, row independence, thread orders, drafts,
//! counters.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use aio_backend::Device;
use aio_backend_cuda::{EmulationOptions, ThreadOrder};
use aio_conformance::nmse;
use aio_engine::{
    Batch, Dispatch, Engine, EngineOptions, Flow, OutputBuffer, Request, Sampling, Sequence, Speculation, Step,
    StepRow, StepWants,
};
use aio_filetest::logits::{assert_same_bits, bits_of, chunked, step, token};
use aio_filetest::tiny::VOCABULARY;
use aio_filetest::{cuda, tiny};
use aio_interp::InterpDevice;
use aio_ir::DType;
use aio_ir::sampling::SampleParams;
use std::sync::Arc;

/// Tokens of the text whose rows are computed; they cross a page border.
const TOKENS: usize = 70;
/// Weight types with dedicated kernels, and one without.
const TYPES: [DType; 8] =
    [DType::BF16, DType::F16, DType::Q8_0, DType::Q4_0, DType::Q4_1, DType::Q4K, DType::Q6K, DType::F32];

fn options(dispatch: Dispatch) -> EngineOptions {
    EngineOptions { context: Some(128), prefill_rows: 40, sequences: 4, dispatch, ..EngineOptions::default() }
}

fn engine_on(device: impl Device + 'static, preset: &str, weights: DType, dispatch: Dispatch) -> Engine {
    tiny::engine(preset, weights, Arc::new(device), &options(dispatch))
}

/// An engine under emulation, or `None` after a SKIP.
fn engine(preset: &str, weights: DType, emulation: EmulationOptions) -> Option<Engine> {
    let device = cuda::device("cuda models", emulation)?;
    Some(engine_on(device, preset, weights, Dispatch::Graph))
}

fn ascending() -> EmulationOptions {
    EmulationOptions::default()
}

fn floats(bits: &[u32]) -> Vec<f32> {
    bits.iter().map(|&b| f32::from_bits(b)).collect()
}

/// Error bound. Rounding activations to 8 bits accumulates over two layers; plain weights use 16 bits of them.
fn bound(weights: DType) -> f64 {
    if weights.is_quantized() { 3e-3 } else { 1e-6 }
}

#[test]
fn every_weight_type_gives_the_oracles_logits() {
    for weights in TYPES {
        let Some(engine) = engine("llama-1b", weights, ascending()) else { return };
        let oracle = engine_on(InterpDevice::default(), "llama-1b", weights, Dispatch::Graph);
        let (got, want) = (floats(&chunked(&engine, 24, 17)), floats(&chunked(&oracle, 24, 24)));
        let error = nmse(&got, &want);
        println!("{weights}: {error:e}");
        assert!(error <= bound(weights), "{weights}: {error:e}");
    }
}

#[test]
fn every_architecture_gives_the_oracles_logits() {
    for (architecture, preset) in tiny::architectures() {
        let Some(engine) = engine(&preset, DType::Q8_0, ascending()) else { return };
        let oracle = engine_on(InterpDevice::default(), &preset, DType::Q8_0, Dispatch::Graph);
        let error = nmse(&floats(&chunked(&engine, 20, 5)), &floats(&chunked(&oracle, 20, 20)));
        println!("{architecture}: {error:e}");
        assert!(error <= bound(DType::Q8_0), "{architecture}: {error:e}");
    }
}

#[test]
fn every_chunking_gives_the_same_bits() {
    for weights in [DType::Q4_1, DType::F16, DType::Q6K] {
        let Some(engine) = engine("llama-1b", weights, ascending()) else { return };
        let want = chunked(&engine, TOKENS, TOKENS);
        let chunks: &[usize] = if weights == DType::Q4_1 { &[1, 2, 3, 4, 5, 8, 16, 17, 25] } else { &[1, 3, 17] };
        for &chunk in chunks {
            assert_same_bits(&chunked(&engine, TOKENS, chunk), &want, &format!("{weights}, chunks of {chunk}"));
        }
    }
}

#[test]
fn neither_the_order_of_threads_nor_the_grid_matters() {
    for weights in TYPES {
        let mut want: Option<Vec<u32>> = None;
        for (i, order) in cuda::ORDERS.into_iter().enumerate() {
            let emulation = EmulationOptions {
                order,
                multiprocessors: [4, 1, 7][i],
                host_threads: 1 + i as u32 % 2,
                ..ascending()
            };
            let Some(engine) = engine("llama-1b", weights, emulation) else { return };
            let mut got = chunked(&engine, 20, 17);
            got.extend(chunked(&engine, 3, 1));
            assert_same_bits(&got, want.get_or_insert_with(|| got.clone()), &format!("{weights}, {order:?}"));
        }
    }
}

/// Rows of three sequences in one step: each row's bits equal those of its sequence alone.
#[test]
fn other_sequences_in_the_step_change_nothing() {
    let Some(engine) = engine("qwen3-0.6b", DType::Q8_0, ascending()) else { return };
    let want = chunked(&engine, TOKENS, 35);
    let mut sequences = [Sequence::new(), Sequence::new(), Sequence::new()];
    for (i, s) in sequences.iter_mut().enumerate() {
        step(&engine, s, 0, 20 * (i + 1));
        engine.reserve(s, 70).unwrap();
    }
    let places = (0..3).flat_map(|s| (20 * (s + 1)..20 * (s + 1) + 4 + s).map(move |position| (s, position)));
    let row = |(sequence, position)| StepRow { token: token(position), sequence, position, wants: StepWants::Logits };
    let rows: Vec<_> = places.map(row).collect();
    let mut borrowed: Vec<&mut Sequence> = sequences.iter_mut().collect();
    let mut out = OutputBuffer::new();
    let step = Step { sequences: &mut borrowed, rows: &rows, drafts: &[] };
    let got = bits_of(engine.step(step, &mut out).unwrap());
    for (row, bits) in rows.iter().zip(got.chunks(VOCABULARY)) {
        let alone = &want[row.position * VOCABULARY..][..VOCABULARY];
        assert_same_bits(bits, alone, &format!("sequence {} position {}", row.sequence, row.position));
    }
}

fn request(index: u64, sampling: &Sampling, speculation: Speculation) -> Request {
    let prompt = (0..30 + 5 * index).map(|i| ((i % 7 * 31 + index * 17 + 3) % 256) as u32).collect();
    Request { max_tokens: Some(20), ignore_eog: true, speculation, ..Request::new(prompt, sampling.clone()) }
}

/// Greedy and sampled, with penalties.
fn samplings() -> [Sampling; 2] {
    let params = SampleParams { temperature: 0.8, top_k: 40, top_p: 0.95, repeat_penalty: 1.1, ..SampleParams::GREEDY };
    [Sampling::greedy(), Sampling { params, seed: 11, ..Sampling::greedy() }]
}

#[test]
fn drafts_change_no_text_alone_or_in_a_batch() {
    let Some(engine) = engine("llama-1b", DType::Q8_0, ascending()) else { return };
    for sampling in samplings() {
        let plain = |index| {
            let request = request(index, &sampling, Speculation::Off);
            engine.generate(&request, &mut |_| Flow::Continue).unwrap().ids
        };
        let want = [plain(0), plain(1), plain(2)];
        for drafts in [1, 4, 16] {
            let request = request(0, &sampling, Speculation::Fixed(drafts));
            let got = engine.generate(&request, &mut |_| Flow::Continue).unwrap();
            assert_eq!(got.ids, want[0], "{drafts} drafts");
        }
        let mut batch = Batch::new();
        let mut join = |index| {
            let request = request(index, &sampling, Speculation::Fixed(4));
            batch.join(&engine, request, Sequence::new(), None).map_err(|(e, _)| e).unwrap()
        };
        let members = [join(0), join(1), join(2)];
        while batch.running() > 0 {
            batch.step(&engine, &mut |_, _| Flow::Continue).unwrap();
        }
        for (member, want) in members.into_iter().zip(&want) {
            let (done, _) = batch.leave(&engine, member).unwrap();
            let done = done.unwrap();
            assert_eq!(done.ids, *want);
        }
    }
}

/// The CPU draws the same noise, so its texts agree up to a near tie.
#[test]
fn sampled_tokens_are_those_of_the_oracle() {
    let Some(engine) = engine("llama-1b", DType::F32, ascending()) else { return };
    let oracle = engine_on(InterpDevice::default(), "llama-1b", DType::F32, Dispatch::Graph);
    for sampling in samplings() {
        let request = Request { max_tokens: Some(6), ..request(0, &sampling, Speculation::Off) };
        let ids = |engine: &Engine| engine.generate(&request, &mut |_| Flow::Continue).unwrap().ids;
        assert_eq!(ids(&engine), ids(&oracle));
    }
}

#[test]
fn a_step_is_one_submission_and_one_wait() {
    let Some(engine) = engine("llama-1b", DType::Q4_0, ascending()) else { return };
    let before = engine.counters();
    let done = engine.generate(&request(0, &Sampling::greedy(), Speculation::Off), &mut |_| Flow::Continue).unwrap();
    let spent = engine.counters() - before;
    let steps = 1 + done.timing.decode_steps as u64;
    assert_eq!((spent.submissions, spent.syncs, spent.step_allocations), (steps, steps, 0));
    // Two layers of five launches, the rotation table, the selection of rows, embedding and head; no more per step.
    assert!(spent.launches / steps <= 20, "{} launches a step", spent.launches / steps);
}

/// Steps of up to four rows normalise inside their products; larger steps use separate launches.
#[test]
fn steps_of_few_rows_have_a_plan_of_their_own() {
    let Some(engine) = engine("llama-1b", DType::Q8_0, ascending()) else { return };
    let mut launches = |rows: usize| {
        let before = engine.counters();
        chunked(&engine, 2 * rows, rows);
        let spent = engine.counters() - before;
        spent.launches / spent.submissions
    };
    let few = [1, 2, 4].map(&mut launches);
    assert_eq!(few, [few[0]; 3]);
    assert!(launches(5) > few[0]);
}

/// The unfused plan submits each node separately. Its logits equal the fused ones up to rounding.
#[test]
fn tasks_can_be_dispatched_one_by_one() {
    let Some(device) = cuda::device("cuda models", ascending()) else { return };
    let single = engine_on(device.clone(), "qwen2-0.5b", DType::Q8_0, Dispatch::Op);
    let fused = engine_on(device, "qwen2-0.5b", DType::Q8_0, Dispatch::Graph);
    let before = single.counters();
    let got = chunked(&single, 20, 20);
    let spent = single.counters() - before;
    assert_eq!(spent.submissions, spent.syncs);
    assert!(spent.submissions > 20, "{}", spent.submissions);
    let error = nmse(&floats(&got), &floats(&chunked(&fused, 20, 20)));
    assert!(error <= 1e-8, "{error:e}");
    assert_same_bits(&chunked(&single, 20, 3), &got, "chunks of 3, node by node");
}

/// `--dispatch graph`, `token` and `op` with drafts: the same text up to rounding, at very different costs.
#[test]
fn every_way_to_dispatch_counts_what_it_does() {
    let Some(device) = cuda::device("cuda models", ascending()) else { return };
    let request = Request { max_tokens: Some(8), ..request(0, &Sampling::greedy(), Speculation::Fixed(4)) };
    let mut texts = Vec::new();
    for dispatch in [Dispatch::Graph, Dispatch::Token, Dispatch::Op] {
        let engine = engine_on(device.clone(), "llama-1b", DType::BF16, dispatch);
        let before = engine.counters();
        let done = engine.generate(&request, &mut |_| Flow::Continue).unwrap();
        let spent = engine.counters() - before;
        let tokens = done.ids.len() as u64;
        let each = |n: u64| n as f64 / tokens as f64;
        println!(
            "{dispatch:?}: {} steps for {tokens} tokens; {:.1} submissions, {:.1} launches, {:.1} syncs a token",
            1 + done.timing.decode_steps,
            each(spent.submissions),
            each(spent.launches),
            each(spent.syncs)
        );
        assert_eq!(spent.submissions, spent.syncs);
        let steps = 1 + done.timing.decode_steps as u64;
        match dispatch {
            Dispatch::Graph => assert_eq!(spent.submissions, steps),
            // Each draft in a separate step.
            Dispatch::Token => assert!(spent.submissions >= steps + done.speculation.drafted / 2, "{spent:?}"),
            Dispatch::Op => assert!(spent.submissions > 20 * steps, "{spent:?}"),
        }
        texts.push(done.ids);
    }
    assert_eq!(texts[0], texts[1]);
    // Rounding differs node by node. That no token flips is luck, and verified only for the emulation's arithmetic.
    assert!(cuda::on_gpu() || texts[0] == texts[2], "{texts:?}");
}

/// Tries a few seeds of the random order.
#[test]
fn random_orders_agree() {
    let mut want: Option<Vec<u32>> = None;
    for seed in 1..=3 {
        let emulation = EmulationOptions { order: ThreadOrder::Random { seed }, ..ascending() };
        let Some(engine) = engine("llama-1b", DType::Q4K, emulation) else { return };
        let got = chunked(&engine, 5, 5);
        assert_same_bits(&got, want.get_or_insert_with(|| got.clone()), &format!("seed {seed}"));
    }
}

/// Top-2 margin below which llama.cpp's own numeric forms disagree (`tests/golden.rs`).
const MARGIN: f64 = 0.35;

/// The default model's tokens equal llama.cpp's (`tests/data/golden-smollm2.json`, made with build b11434). Under
/// emulation, where each row is a pass over the whole model on the host, only the first tokens of the shortest prompt;
/// on a GPU, all.
#[test]
fn the_default_model_gives_its_golden_tokens() {
    let Some(path) = aio_filetest::needs::default_model("cuda golden") else { return };
    let Some(device) = cuda::device("cuda golden", ascending()) else { return };
    let text = std::fs::read_to_string(aio_filetest::workspace("tests/data/golden-smollm2.json")).unwrap();
    let cases: serde_json::Value = serde_json::from_str(&text).unwrap();
    let ids = |v: &serde_json::Value| -> Vec<u32> {
        v.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as u32).collect()
    };
    let mut cases: Vec<_> = cases.as_array().unwrap().iter().collect();
    cases.sort_by_key(|c| ids(&c["prompt_ids"]).len());
    let (cases, tokens) = if cuda::on_gpu() { (&cases[..], usize::MAX) } else { (&cases[..1], 4) };
    let model = aio_model::Model::open(&path).unwrap();
    let graph = tiny::graph(&model);
    let (context, prefill_rows) = if cuda::on_gpu() { (512, 512) } else { (64, 24) };
    let options = EngineOptions { context: Some(context), prefill_rows, ..EngineOptions::default() };
    let engine = Engine::load(model, &graph, Arc::new(device), &options).unwrap();
    for case in cases {
        let (prompt, want) = (ids(&case["prompt_ids"]), ids(&case["greedy_ids"]));
        let want = &want[..want.len().min(tokens)];
        let request = Request {
            max_tokens: Some(want.len()),
            ignore_eog: true,
            speculation: Speculation::Off,
            ..Request::new(prompt, Sampling::greedy())
        };
        let got = engine.generate(&request, &mut |_| Flow::Continue).unwrap().ids;
        let same = got.iter().zip(want).take_while(|(g, w)| g == w).count();
        println!("{}: {same} of {} tokens", case["prompt"], want.len());
        assert!(same == want.len() || case["margins"][same].as_f64().unwrap() < MARGIN, "{got:?}, not {want:?}");
    }
}
