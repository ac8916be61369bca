//! The unfused plan, in which each op is a separate task and submission, compared with the fused plan.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use aio_backend_cpu::{CpuDevice, CpuOptions};
use aio_conformance::nmse;
use aio_engine::{
    Dispatch, Engine, EngineOptions, Flow, OutputBuffer, Request, Sampling, Sequence, Step, StepRow, StepWants,
};
use aio_filetest::logits::bits_of;
use aio_filetest::tiny;
use aio_ir::DType;
use std::sync::Arc;

/// Tokens of the text; the last page border they cross is at 64.
const TOKENS: usize = 80;
/// Vocabulary size of a tiny model.
const VOCABULARY: usize = 512;

fn engine(preset: &str, weights: DType, dispatch: Dispatch) -> Engine {
    let device = CpuDevice::new(CpuOptions { threads: 2, isa: None, pin: false }).unwrap();
    let options = EngineOptions { context: Some(192), prefill_rows: 48, dispatch, ..EngineOptions::default() };
    tiny::engine(preset, weights, Arc::new(device), &options)
}

/// Logits of all tokens, computed in chunks of `chunk` rows.
fn logits(engine: &Engine, chunk: usize) -> Vec<u32> {
    let mut sequence = Sequence::new();
    engine.reserve(&mut sequence, TOKENS).unwrap();
    let mut bits = Vec::new();
    for from in (0..TOKENS).step_by(chunk) {
        let row = |position: usize| {
            let token = ((position * 37 + 11) % 251) as u32;
            StepRow { token, sequence: 0, position, wants: StepWants::Logits }
        };
        let rows: Vec<_> = (from..(from + chunk).min(TOKENS)).map(row).collect();
        let step = Step { sequences: &mut [&mut sequence], rows: &rows, drafts: &[] };
        bits.extend(bits_of(engine.step(step, &mut OutputBuffer::new()).unwrap()));
        sequence.commit((from + chunk).min(TOKENS)).unwrap();
    }
    bits
}

fn floats(bits: &[u32]) -> Vec<f32> {
    bits.iter().map(|&b| f32::from_bits(b)).collect()
}

#[test]
fn every_architecture_gives_the_fused_logits() {
    for (architecture, preset) in tiny::architectures() {
        for weights in [DType::Q4_0, DType::F16] {
            let fused = floats(&logits(&engine(&preset, weights, Dispatch::Graph), 17));
            let single = floats(&logits(&engine(&preset, weights, Dispatch::Op), 17));
            for (position, (a, b)) in single.chunks(VOCABULARY).zip(fused.chunks(VOCABULARY)).enumerate() {
                let error = nmse(a, b);
                assert!(error <= 1e-10, "{architecture} {weights}: {error:e} at position {position}");
            }
        }
    }
}

#[test]
fn rows_stay_independent_to_the_bit() {
    let engine = engine("qwen3-0.6b", DType::Q8_0, Dispatch::Op);
    let want = logits(&engine, 1);
    for chunk in 2..=17 {
        assert!(logits(&engine, chunk) == want, "chunks of {chunk}");
    }
}

/// The fused plan's greedy tokens, up to the first near tie of its logits.
#[test]
fn greedy_tokens_agree_and_each_task_is_a_submission() {
    let request =
        Request { max_tokens: Some(24), ignore_eog: true, ..Request::new(vec![3, 1, 4, 1, 5], Sampling::greedy()) };
    let mut ids = Vec::new();
    for dispatch in [Dispatch::Graph, Dispatch::Op] {
        let engine = engine("llama-1b", DType::Q8_0, dispatch);
        let before = engine.counters();
        let done = engine.generate(&request, &mut |_| Flow::Continue).unwrap();
        let spent = engine.counters() - before;
        let steps = 1 + done.timing.decode_steps as u64;
        let tasks = match dispatch {
            Dispatch::Graph | Dispatch::Token => 1,
            Dispatch::Op => engine.family().plans[0].tasks.len() as u64,
        };
        assert_eq!((spent.submissions, spent.syncs), (steps * tasks, steps * tasks), "{dispatch:?}");
        ids.push(done.ids);
    }
    let mut text = request.prompt.clone();
    for (a, b) in ids[0].iter().zip(&ids[1]) {
        if a != b {
            let margin = margin(&text);
            assert!(margin < 1e-3, "tokens {a} and {b} differ after {text:?}, margin {margin}");
            return;
        }
        text.push(*a);
    }
}

/// The lead of the best logit after a text over the second, relative to the root mean square of the logits.
fn margin(text: &[u32]) -> f64 {
    let engine = engine("llama-1b", DType::Q8_0, Dispatch::Graph);
    let mut sequence = Sequence::new();
    engine.reserve(&mut sequence, text.len()).unwrap();
    let row = |(position, &token): (usize, &u32)| {
        let wants = if position + 1 == text.len() { StepWants::Logits } else { StepWants::Nothing };
        StepRow { token, sequence: 0, position, wants }
    };
    let rows: Vec<_> = text.iter().enumerate().map(row).collect();
    let step = Step { sequences: &mut [&mut sequence], rows: &rows, drafts: &[] };
    let mut out = OutputBuffer::new();
    let mut values = engine.step(step, &mut out).unwrap().logits().unwrap().to_vec();
    values.sort_by(|a, b| b.total_cmp(a));
    let energy: f64 = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / values.len() as f64;
    f64::from(values[0] - values[1]) / energy.sqrt()
}
