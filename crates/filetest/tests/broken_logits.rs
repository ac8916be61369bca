//! Models whose logits become NaN or infinite: the sequence ends with an error that names step and position, its pages
//! are freed, the others continue, and no trace stays in the pages.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use aio_backend::Device;
use aio_backend_ascend::{AclLibrary, AscendDevice, AscendOptions, Lengths};
use aio_backend_cpu::isa::IsaLevel;
use aio_backend_cpu::{CpuDevice, CpuOptions};
use aio_backend_cuda::EmulationOptions;
use aio_engine::{
    Batch, Dispatch, Engine, EngineError, EngineOptions, Flow, MemberId, Request, Sampling, Sequence, Speculation,
};
use aio_filetest::drafting::Knowing;
use aio_filetest::logits::{assert_same_bits, chunked, step, token};
use aio_filetest::tiny::{self, Damage, VOCABULARY};
use aio_filetest::{cuda, needs};
use aio_interp::InterpDevice;
use aio_ir::DType;
use aio_ir::sampling::SampleParams;
use aio_orchestrator::Drafter;
use std::sync::Arc;

/// Bytes in a row of the embedding: eight blocks with a scale and 32 numbers each.
const ROW: usize = 8 * 34;
const NAN: [u8; 2] = 0x7E00u16.to_le_bytes();
const INFINITY: [u8; 2] = 0x7C00u16.to_le_bytes();

/// The CPU at every level, the oracle, and the CUDA kernels under emulation.
fn devices() -> Vec<(String, Arc<dyn Device>)> {
    let mut all: Vec<(String, Arc<dyn Device>)> = vec![("oracle".to_owned(), Arc::new(InterpDevice::default()))];
    for level in IsaLevel::ALL {
        match CpuDevice::new(CpuOptions { threads: 2, isa: Some(level), pin: false }) {
            Ok(device) => all.push((level.to_string(), Arc::new(device))),
            Err(e) => needs::skip("broken logits", "isa", &format!("{level}: {e}")),
        }
    }
    all.extend(
        cuda::device("broken logits", EmulationOptions::default()).map(|d| ("cuda".to_owned(), Arc::new(d) as _)),
    );
    all
}

/// The same, and the simulated Ascend, where a broken row of a sequence also breaks the rows before it in its step.
fn devices_and_ascend() -> Vec<(String, Arc<dyn Device>)> {
    let mut all = devices();
    for lengths in [Lengths::Bucket, Lengths::Patch] {
        let options = AscendOptions { lengths: Some(lengths), ..AscendOptions::default() };
        let device = AscendDevice::open(AclLibrary::simulated().unwrap(), options).unwrap();
        all.push((format!("ascend, {lengths:?}"), Arc::new(device)));
    }
    all
}

fn options(sequences: u32) -> EngineOptions {
    EngineOptions { context: Some(128), prefill_rows: 48, sequences, ..EngineOptions::default() }
}

fn engine(device: &Arc<dyn Device>, damage: &[Damage<'_>], options: &EngineOptions) -> Engine {
    tiny::damaged(device.clone(), DType::Q8_0, damage, options)
}

fn hot() -> Sampling {
    let params = SampleParams { temperature: 0.8, top_k: 40, top_p: 0.95, repeat_penalty: 1.1, ..SampleParams::GREEDY };
    Sampling { params, seed: 3, ..Sampling::greedy() }
}

fn unfiltered() -> Sampling {
    Sampling { params: SampleParams { temperature: 0.8, ..SampleParams::GREEDY }, seed: 3, ..Sampling::greedy() }
}

/// All tokens are below 200, so higher ones appear in no prompt.
fn request(prompt: usize, tokens: usize, sampling: Sampling, speculation: Speculation) -> Request {
    let prompt = (0..prompt).map(|i| (i % 7 * 26 + prompt + 3) as u32 % 200).collect();
    Request { max_tokens: Some(tokens), ignore_eog: true, speculation, ..Request::new(prompt, sampling) }
}

/// The tokens generated before the error, with the error's step and position.
fn failure(engine: &Engine, request: &Request, drafter: Option<Box<dyn Drafter>>) -> (Vec<u32>, usize, usize) {
    let mut batch = Batch::new();
    let id = join(&mut batch, engine, request, drafter);
    while batch.running() > 0 {
        batch.step(engine, &mut |_, _| Flow::Continue).unwrap();
    }
    let tokens = batch.generated(id).unwrap().to_vec();
    let (ended, _) = batch.leave(engine, id).unwrap();
    match ended.unwrap_err() {
        EngineError::NoToken { step, position } => (tokens, step, position),
        other => panic!("{other}"),
    }
}

fn join(batch: &mut Batch, engine: &Engine, request: &Request, drafter: Option<Box<dyn Drafter>>) -> MemberId {
    batch.join(engine, request.clone(), Sequence::new(), drafter).map_err(|(e, _)| e).unwrap()
}

fn generate(engine: &Engine, request: &Request) -> Vec<u32> {
    engine.generate(request, &mut |_| Flow::Continue).unwrap().ids
}

/// The pool has exactly the pages that `sequences` sequences need.
fn assert_all_pages_free(engine: &Engine, sequences: usize) {
    let mut all: Vec<Sequence> = (0..sequences).map(|_| Sequence::new()).collect();
    for sequence in &mut all {
        engine.reserve(sequence, 128).unwrap();
    }
}

#[test]
fn a_model_without_finite_logits_gives_an_error_and_no_token() {
    let nan = f32::NAN.to_le_bytes();
    let damages: [Damage<'_>; 3] = [
        ("output_norm.weight", 0, &nan),
        // A row of the head: one logit is NaN, or infinite with either sign.
        ("output.weight", 300 * ROW, &NAN),
        ("output.weight", 511 * ROW + 34, &NAN),
    ];
    for (name, device) in devices_and_ascend() {
        for damage in damages {
            let engine = engine(&device, &[damage], &options(1));
            for sampling in [Sampling::greedy(), hot(), unfiltered()] {
                for (prompt, steps) in [(30, 1), (100, 3)] {
                    let request = request(prompt, 9, sampling.clone(), Speculation::Fixed(4));
                    let got = failure(&engine, &request, None);
                    assert_eq!(got, (Vec::new(), steps, prompt - 1), "{name}, {damage:?}");
                    let error = engine.generate(&request, &mut |_| Flow::Continue).unwrap_err();
                    assert!(matches!(error, EngineError::NoToken { .. }), "{name}, {damage:?}: {error}");
                    assert_all_pages_free(&engine, 1);
                }
            }
        }
    }
}

#[test]
fn an_infinite_weight_gives_an_error_and_no_token() {
    for (name, device) in devices_and_ascend() {
        // All rows of the head, so that some logits are positive infinity or NaN, whatever the signs.
        let damage: Vec<Damage<'_>> = (0..512).map(|row| ("output.weight", row * ROW, &INFINITY[..])).collect();
        let engine = engine(&device, &damage, &options(1));
        for sampling in [Sampling::greedy(), hot()] {
            let got = failure(&engine, &request(30, 9, sampling, Speculation::Off), None);
            assert_eq!(got, (Vec::new(), 1, 29), "{name}");
        }
    }
}

#[test]
fn tokens_before_the_first_broken_row_are_kept_with_drafts_and_without() {
    for (name, device) in devices() {
        for sampling in [Sampling::greedy(), hot()] {
            let plain = request(30, 12, sampling, Speculation::Off);
            let want = generate(&engine(&device, &[], &options(1)), &plain);
            let known = |i: usize| plain.prompt.contains(&want[i]) || want[..i].contains(&want[i]);
            let at = (3..12).find(|&i| !known(i)).unwrap();
            let damage: Damage<'_> = ("token_embd.weight", want[at] as usize * ROW, &NAN);
            for (dispatch, burst) in [(Dispatch::Graph, 0), (Dispatch::Token, 0), (Dispatch::Graph, 64)] {
                let engine = engine(&device, &[damage], &EngineOptions { dispatch, burst, ..options(1) });
                for speculation in [Speculation::Off, Speculation::Fixed(4), Speculation::Fixed(2), Speculation::Auto] {
                    let drafter: Box<dyn Drafter> = Box::new(Knowing::new(&plain.prompt, &want, 0));
                    // A drafter from the caller works only with single steps; in bursts the device drafts.
                    let drafted = speculation != Speculation::Off && burst == 0;
                    let request = Request { speculation, ..plain.clone() };
                    let (tokens, step, position) = failure(&engine, &request, drafted.then_some(drafter));
                    let what = format!("{name}, {dispatch:?}, {speculation:?}, bursts of {burst}");
                    assert_eq!(tokens, want[..=at], "{what}");
                    assert_eq!(position, plain.prompt.len() + at, "{what}");
                    let plain_step = at + 2;
                    let fewer = drafted && matches!(speculation, Speculation::Fixed(_));
                    assert!(if fewer { step < plain_step } else { step <= plain_step }, "{what}: {step}");
                    assert!(speculation != Speculation::Off || step == plain_step, "{what}: {step}");
                }
            }
        }
    }
}

#[test]
fn the_other_sequences_of_a_batch_go_on_and_pages_keep_nothing() {
    let damage: Damage<'_> = ("token_embd.weight", 250 * ROW, &NAN);
    for (name, device) in devices_and_ascend() {
        let shared = engine(&device, &[damage], &options(2));
        for speculation in [Speculation::Off, Speculation::Fixed(3)] {
            let good = request(20, 12, hot(), speculation);
            let mut bad = request(100, 12, Sampling::greedy(), speculation);
            bad.prompt[60] = 250;
            let want = generate(&engine(&device, &[damage], &options(1)), &good);
            let mut batch = Batch::new();
            let ids = [&bad, &good].map(|r| join(&mut batch, &shared, r, None));
            while batch.running() > 0 {
                batch.step(&shared, &mut |_, _| Flow::Continue).unwrap();
            }
            let [failed, done] = ids.map(|id| {
                let (ended, _) = batch.leave(&shared, id).unwrap();
                ended
            });
            assert!(matches!(failed, Err(EngineError::NoToken { position: 99, .. })), "{name}: {failed:?}");
            assert_eq!(done.unwrap().ids, want, "{name}");
            assert_all_pages_free(&shared, 2);
        }
        // The pool has two pages, which now contain NaNs wherever the next text has not written.
        let small = engine(&device, &[damage], &options(1));
        let next = request(20, 12, hot(), Speculation::Off);
        let want = generate(&small, &next);
        let mut bad = request(120, 2, Sampling::greedy(), Speculation::Off);
        bad.prompt.fill(250);
        failure(&small, &bad, None);
        assert_eq!(generate(&small, &next), want, "{name}");
    }
}

/// The copied page ends with rows that are NaN.
#[test]
fn a_fork_before_a_broken_row_goes_on() {
    assert_eq!(token(115), 250, "the broken row of the text");
    let damage: Damage<'_> = ("token_embd.weight", 250 * ROW, &NAN);
    for (name, device) in devices_and_ascend() {
        let engine = engine(&device, &[damage], &options(2));
        let want = chunked(&engine, 110, 40);
        let mut broken = Sequence::new();
        for (from, to) in [(0, 40), (40, 80), (80, 115), (115, 128)] {
            step(&engine, &mut broken, from, to);
        }
        let mut fork = engine.fork(&broken, 100).unwrap();
        let rows = step(&engine, &mut fork, 100, 110);
        assert_same_bits(&rows, &want[100 * VOCABULARY..], &name);
    }
}
