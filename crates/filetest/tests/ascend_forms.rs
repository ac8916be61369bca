//! The engine chooses between buckets of lengths and patched lengths by what steps take. One test, since the constants of the
//! simulated Ascend are the process's.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use aio_backend_ascend::{AclLibrary, AscendDevice, AscendOptions, Lengths};
use aio_engine::{Engine, EngineOptions, OutputBuffer, Sampling, Sequence, Step, StepRow, StepWants};
use aio_filetest::logits::{step, token};
use aio_filetest::tiny;
use aio_ir::DType;
use aio_orchestrator::Ceilings;
use std::sync::Arc;

/// Positions of the sequences before their steps: one call of attention reads them all as the longest.
const LENGTHS: [usize; 4] = [200, 5, 7, 9];
const STEPS: usize = 40;

/// A memory so slow that reading is all that counts. Buckets of 256 positions for all read four times what is there.
const SLOW: f64 = 1e9;

fn engine(lengths: Option<Lengths>) -> (AscendDevice, Engine) {
    let options = AscendOptions { lengths, ..AscendOptions::default() };
    let device = AscendDevice::open(AclLibrary::simulated().unwrap(), options).unwrap();
    // What a profile of such a device would say.
    let ceilings = Some(Ceilings { bandwidth: SLOW, peak: 1e12 });
    let small = EngineOptions { context: Some(256), prefill_rows: 40, sequences: 4, ..EngineOptions::default() };
    let options = EngineOptions { ceilings, ..small };
    (device.clone(), tiny::engine("llama-1b", DType::F16, Arc::new(device), &options))
}

/// Tokens of all sequences together, step by step.
fn generated(engine: &Engine) -> Vec<Vec<u32>> {
    let mut sequences: [Sequence; 4] = std::array::from_fn(|_| Sequence::new());
    for (sequence, len) in sequences.iter_mut().zip(LENGTHS) {
        let mut from = 0;
        while from < len {
            let to = (from + 40).min(len);
            step(engine, sequence, from, to);
            from = to;
        }
        engine.reserve(sequence, len + STEPS).unwrap();
    }
    let (mut last, sampling, mut out) = ([token(1); 4], Sampling::greedy(), OutputBuffer::new());
    let mut all = Vec::new();
    for at in 0..STEPS {
        let wants = StepWants::Token { sampling: &sampling, recent: &[], bias: None };
        let row = |i: usize| StepRow { token: last[i], sequence: i, position: LENGTHS[i] + at, wants };
        let rows: Vec<_> = (0..4).map(row).collect();
        let mut borrowed: Vec<&mut Sequence> = sequences.iter_mut().collect();
        let step = Step { sequences: &mut borrowed, rows: &rows, drafts: &[] };
        let aio_engine::Outputs::Tokens(tokens) = engine.step(step, &mut out).unwrap() else { panic!("no tokens") };
        last.copy_from_slice(tokens);
        all.push(tokens.to_vec());
    }
    all
}

/// Steps of four sequences in each form, on slow memory.
fn chosen(update_ns: f64) -> (Vec<Vec<u32>>, [u64; 2]) {
    let (device, engine) = engine(None);
    for (name, value) in [("hbm_bytes_per_s", SLOW), ("l2_bytes_per_s", SLOW), ("update_ns", update_ns)] {
        device.control(&format!("constant.{name}"), &value.to_string()).unwrap();
    }
    let tokens = generated(&engine);
    let forms = engine.forms();
    let of = |name| forms.iter().find(|(form, _)| *form == name).map_or(0, |(_, steps)| *steps);
    println!("{update_ns} ns an update: {forms:?}");
    (tokens, ["bucket", "patch"].map(of))
}

#[test]
fn the_form_follows_what_steps_take_and_changes_no_token() {
    let want = generated(&engine(Some(Lengths::Bucket)).1);
    let (tokens, [_, patched]) = chosen(1e3);
    assert_eq!(tokens, want);
    assert!(patched > STEPS as u64 * 3 / 4, "updates cost nothing: {patched}");
    let (tokens, [bucket, patched]) = chosen(2e6);
    assert_eq!(tokens, want);
    assert!(bucket > 8 * patched, "updates cost two milliseconds: {patched} of {bucket}");
    assert_eq!(generated(&engine(Some(Lengths::Patch)).1), want);
    assert!(engine(Some(Lengths::Patch)).1.forms().is_empty(), "there is nothing to choose");
}
