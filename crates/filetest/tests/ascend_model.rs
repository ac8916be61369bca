//! Whole models on the simulated Ascend: against the oracle, chunks, batches, drafts, dispatch, and both ways of lengths.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use aio_backend::Device;
use aio_backend_ascend::{AclLibrary, AscendDevice, AscendError, AscendOptions, Lengths};
use aio_conformance::nmse;
use aio_engine::OutputBuffer;
use aio_engine::{
    Dispatch, Engine, EngineOptions, Flow, Request, Sampling, Sequence, Speculation, Step, StepRow, StepWants,
};
use aio_filetest::logits::{assert_same_bits, bits_of, chunked, step, token};
use aio_filetest::tiny;
use aio_filetest::tiny::VOCABULARY;
use aio_interp::InterpDevice;
use aio_ir::DType;
use aio_ir::sampling::SampleParams;
use std::sync::Arc;

/// Tokens of the text whose rows are computed; they cross a border of pages of 128.
const TOKENS: usize = 140;
/// Halves of values and weights accumulate over two layers.
const BOUND: f64 = 1e-4;

fn ascend(lengths: Lengths, groups: bool) -> AscendDevice {
    let options = AscendOptions { lengths: Some(lengths), groups, ..AscendOptions::default() };
    AscendDevice::open(AclLibrary::simulated().unwrap(), options).unwrap()
}

fn options(dispatch: Dispatch) -> EngineOptions {
    EngineOptions { context: Some(256), prefill_rows: 40, sequences: 4, dispatch, ..EngineOptions::default() }
}

fn engine_on(device: impl Device + 'static, preset: &str, weights: DType, dispatch: Dispatch) -> Engine {
    tiny::engine(preset, weights, Arc::new(device), &options(dispatch))
}

fn engine(preset: &str, weights: DType) -> Engine {
    engine_on(ascend(Lengths::Bucket, false), preset, weights, Dispatch::Graph)
}

fn floats(bits: &[u32]) -> Vec<f32> {
    bits.iter().map(|&b| f32::from_bits(b)).collect()
}

fn assert_close(engine: &Engine, preset: &str, weights: DType, what: &str) {
    let oracle = engine_on(InterpDevice::default(), preset, weights, Dispatch::Graph);
    let error = nmse(&floats(&chunked(engine, 20, 7)), &floats(&chunked(&oracle, 20, 20)));
    println!("{what}: {error:e}");
    assert!(error <= BOUND, "{what}: {error:e}");
}

#[test]
fn every_weight_type_gives_the_oracles_logits() {
    for weights in [DType::F16, DType::BF16, DType::F32, DType::Q4_0, DType::Q8_0, DType::Q4_1, DType::Q6K] {
        assert_close(&engine("llama-1b", weights), "llama-1b", weights, weights.name());
    }
}

#[test]
fn every_architecture_gives_the_oracles_logits() {
    for (architecture, preset) in tiny::architectures() {
        assert_close(&engine(&preset, DType::F16), &preset, DType::F16, architecture.as_ref());
    }
}

/// An operator that CANN 8.1 lacks is composed of others; the name of what nothing replaces is told.
#[test]
fn an_older_library_rotates_with_other_operators() {
    let without = |name| AclLibrary::simulated_without(&[name]);
    // Pairs of neighbours, and of halves.
    for preset in ["llama-1b", "qwen3-8b"] {
        for lengths in [Lengths::Bucket, Lengths::Patch] {
            let options = AscendOptions { lengths: Some(lengths), ..AscendOptions::default() };
            let device = AscendDevice::open(without("aclnnApplyRotaryPosEmbV2").unwrap(), options).unwrap();
            let engine = engine_on(device, preset, DType::F16, Dispatch::Graph);
            assert_close(&engine, preset, DType::F16, preset);
        }
    }
    assert_eq!(without("aclnnSwiGlu").unwrap_err(), AscendError::Symbol { name: "aclnnSwiGlu" });
}

#[test]
fn integers_in_groups_give_the_oracles_logits() {
    for weights in [DType::Q8_0, DType::Q4_0] {
        let engine = engine_on(ascend(Lengths::Bucket, true), "llama-1b", weights, Dispatch::Graph);
        assert_close(&engine, "llama-1b", weights, weights.name());
    }
}

#[test]
fn every_chunking_gives_the_same_bits() {
    let engine = engine("llama-1b", DType::Q4_1);
    let want = chunked(&engine, TOKENS, 40);
    for chunk in [1, 3, 17] {
        assert_same_bits(&chunked(&engine, TOKENS, chunk), &want, &format!("chunks of {chunk}"));
    }
}

#[test]
fn patched_lengths_give_the_same_bits() {
    let want = chunked(&engine("llama-1b", DType::F16), TOKENS, 40);
    let patched = engine_on(ascend(Lengths::Patch, false), "llama-1b", DType::F16, Dispatch::Graph);
    for chunk in [1, 40] {
        assert_same_bits(&chunked(&patched, TOKENS, chunk), &want, &format!("patched, chunks of {chunk}"));
    }
    // Each step is a replay, and an update for each layer.
    let before = patched.counters();
    step(&patched, &mut Sequence::new(), 0, 1);
    let after = patched.counters() - before;
    assert_eq!((after.submissions, after.syncs), (1 + 2, 1));
}

/// Rows of three sequences in one step, as many and unequally many: each row's bits equal those of its sequence alone.
#[test]
fn other_sequences_in_the_step_change_nothing() {
    let engine = engine("qwen3-0.6b", DType::Q8_0);
    let want = chunked(&engine, TOKENS, 35);
    for extra in [0, 1, 9] {
        let mut sequences = [Sequence::new(), Sequence::new(), Sequence::new()];
        for (i, s) in sequences.iter_mut().enumerate() {
            step(&engine, s, 0, 20 * (i + 1));
            engine.reserve(s, TOKENS).unwrap();
        }
        let places =
            (0..3).flat_map(|s| (20 * (s + 1)..20 * (s + 1) + 1 + s * extra).map(move |position| (s, position)));
        let places: Vec<(usize, usize)> = places.collect();
        let row = |&(sequence, position): &(usize, usize)| StepRow {
            token: token(position),
            sequence,
            position,
            wants: StepWants::Logits,
        };
        let rows: Vec<_> = places.iter().map(row).collect();
        let mut borrowed: Vec<&mut Sequence> = sequences.iter_mut().collect();
        let mut out = OutputBuffer::new();
        let step = Step { sequences: &mut borrowed, rows: &rows, drafts: &[] };
        let logits = bits_of(engine.step(step, &mut out).unwrap());
        for (got, (_, position)) in logits.chunks(VOCABULARY).zip(&places) {
            let same = &want[position * VOCABULARY..][..VOCABULARY];
            assert_same_bits(got, same, &format!("position {position}, {extra} more rows each"));
        }
    }
}

fn generated(engine: &Engine, sampling: Sampling, speculation: Speculation) -> Vec<u32> {
    let prompt = (0..30).map(|i| token(i % 6)).collect();
    let request = Request { max_tokens: Some(24), ignore_eog: true, speculation, ..Request::new(prompt, sampling) };
    engine.generate(&request, &mut |_| Flow::Continue).unwrap().ids
}

#[test]
fn drafts_change_no_token() {
    let warm =
        Sampling { params: SampleParams { temperature: 0.8, ..SampleParams::GREEDY }, seed: 5, ..Sampling::greedy() };
    for lengths in [Lengths::Bucket, Lengths::Patch] {
        let engine = engine_on(ascend(lengths, false), "llama-1b", DType::F16, Dispatch::Graph);
        for sampling in [Sampling::greedy(), warm.clone()] {
            let plain = generated(&engine, sampling.clone(), Speculation::Off);
            for drafts in [3, 8] {
                assert_eq!(
                    generated(&engine, sampling.clone(), Speculation::Fixed(drafts)),
                    plain,
                    "{lengths:?}, {drafts} drafts"
                );
            }
        }
    }
}

/// A text of many lengths, with and without drafts, needs few graphs: rows and pages are rounded up.
#[test]
fn shapes_are_few() {
    let engine = engine("llama-1b", DType::F16);
    for (speculation, most) in [(Speculation::Off, 3), (Speculation::Fixed(4), 9)] {
        let before = engine.counters();
        let prompt = (0..30).map(|i| token(i % 6)).collect();
        let request = Request {
            max_tokens: Some(150),
            ignore_eog: true,
            speculation,
            ..Request::new(prompt, Sampling::greedy())
        };
        engine.generate(&request, &mut |_| Flow::Continue).unwrap();
        let spent = engine.counters() - before;
        assert!(spent.captures <= most && spent.submissions > 20, "{speculation:?}: {spent:?}");
    }
}

/// Each way to get lengths in, in each way to submit a step.
#[test]
fn lengths_and_dispatch_change_no_token() {
    let mut wants = Vec::new();
    for lengths in [Lengths::Bucket, Lengths::Patch] {
        for (dispatch, graphs) in [(Dispatch::Graph, true), (Dispatch::Graph, false), (Dispatch::Op, true)] {
            let options = AscendOptions { lengths: Some(lengths), graphs, ..AscendOptions::default() };
            let device = AscendDevice::open(AclLibrary::simulated().unwrap(), options).unwrap();
            let engine = engine_on(device, "llama-1b", DType::F16, dispatch);
            wants.push(generated(&engine, Sampling::greedy(), Speculation::Fixed(3)));
            let counters = engine.counters();
            assert!(counters.captures > 0 || !graphs || dispatch == Dispatch::Op, "{counters:?}");
        }
    }
    assert!(wants.iter().all(|ids| *ids == wants[0]), "{wants:?}");
}

/// Two models of one device, each on two threads at once.
#[test]
fn threads_take_turns() {
    let device = ascend(Lengths::Patch, false);
    let engines: Vec<Engine> = [DType::F16, DType::Q8_0]
        .into_iter()
        .map(|weights| engine_on(device.clone(), "llama-1b", weights, Dispatch::Graph))
        .collect();
    let alone: Vec<_> = engines.iter().map(|e| generated(e, Sampling::greedy(), Speculation::Off)).collect();
    std::thread::scope(|scope| {
        for (engine, want) in engines.iter().zip(&alone).chain(engines.iter().zip(&alone)) {
            scope.spawn(move || assert_eq!(generated(engine, Sampling::greedy(), Speculation::Off), *want));
        }
    });
}

#[test]
fn dispatch_changes_no_token_and_counts_are_as_they_are() {
    let run = |dispatch| {
        let engine = engine_on(ascend(Lengths::Bucket, false), "llama-1b", DType::F16, dispatch);
        let ids = generated(&engine, Sampling::greedy(), Speculation::Off);
        (ids, engine.counters())
    };
    let (graph, counters) = run(Dispatch::Graph);
    assert_eq!(counters.submissions, counters.syncs);
    assert!(counters.captures > 0 && counters.launches > 10 * counters.submissions, "{counters:?}");
    let (token, _) = run(Dispatch::Token);
    assert_eq!(token, graph);
    let (op, counters) = run(Dispatch::Op);
    assert_eq!(op, graph);
    assert!(counters.captures == 0 && counters.submissions > 24 * 10, "{counters:?}");
}

#[test]
fn pages_are_copied_when_a_shared_one_is_written() {
    let engine = engine("llama-1b", DType::F16);
    let want = chunked(&engine, 60, 40);
    let mut first = Sequence::new();
    step(&engine, &mut first, 0, 50);
    let mut fork = engine.fork(&first, 50).unwrap();
    let rows = step(&engine, &mut fork, 50, 60);
    let again = step(&engine, &mut first, 50, 60);
    let width = want.len() / 60;
    assert_same_bits(&rows, &want[50 * width..], "the fork");
    assert_same_bits(&again, &want[50 * width..], "the first");
}
