//! Steps of prompts are padded to the numbers of rows that are frequent. One test, since the constants of the simulated Ascend
//! are the process's.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use aio_backend::Device;
use aio_backend_ascend::{AclLibrary, AscendDevice, AscendOptions, Lengths};
use aio_engine::{Engine, EngineOptions, OutputBuffer, Sequence, Step, StepRow, StepWants};
use aio_filetest::logits::{assert_same_bits, bits_of, token};
use aio_filetest::tiny;
use aio_ir::DType;
use aio_orchestrator::Ceilings;
use std::sync::Arc;

/// Arithmetic so slow that rows are all that counts.
const PEAK: f64 = 1e9;

fn engine() -> (AscendDevice, Engine) {
    let options = AscendOptions { lengths: Some(Lengths::Bucket), ..AscendOptions::default() };
    let device = AscendDevice::open(AclLibrary::simulated().unwrap(), options).unwrap();
    for name in ["cube_flops_per_s", "vector_ops_per_s"] {
        device.control(&format!("constant.{name}"), &PEAK.to_string()).unwrap();
    }
    let ceilings = Some(Ceilings { bandwidth: 1e12, peak: PEAK });
    let options = EngineOptions { context: Some(256), prefill_rows: 256, ceilings, ..EngineOptions::default() };
    (device.clone(), tiny::engine("llama-1b", DType::F16, Arc::new(device), &options))
}

/// Logits of a prompt's last row, and the prompt's modelled seconds.
fn prompt(device: &AscendDevice, engine: &Engine, rows: usize) -> (Vec<u32>, f64) {
    let before = device.counters();
    let (mut sequence, mut out) = (Sequence::new(), OutputBuffer::new());
    engine.reserve(&mut sequence, rows).unwrap();
    let wants = |position| if position + 1 == rows { StepWants::Logits } else { StepWants::Nothing };
    let row = |position| StepRow { token: token(position), sequence: 0, position, wants: wants(position) };
    let rows: Vec<_> = (0..rows).map(row).collect();
    let bits =
        bits_of(engine.step(Step { sequences: &mut [&mut sequence], rows: &rows, drafts: &[] }, &mut out).unwrap());
    (bits, (device.counters() - before).modelled_ns as f64 * 1e-9)
}

#[test]
fn prompts_of_frequent_lengths_are_padded_less_and_give_the_same_bits() {
    let (device, engine) = engine();
    let (want, padded) = prompt(&device, &engine, 130);
    let (_, whole) = prompt(&device, &engine, 200);
    assert!((padded / whole - 1.0).abs() < 0.01, "130 rows run as 256, as 200 do: {padded} and {whole} s");
    for rows in [130, 129].into_iter().cycle().take(40) {
        prompt(&device, &engine, rows);
    }
    let (bits, seconds) = prompt(&device, &engine, 130);
    println!("130 rows: {padded} s as 256, {seconds} s after 40 prompts");
    assert!(seconds < 0.7 * padded, "{seconds} of {padded} s");
    assert_same_bits(&bits, &want, "130 rows");
    // Others are padded as before, and a change of lengths is followed.
    let (_, before) = prompt(&device, &engine, 34);
    for _ in 0..60 {
        prompt(&device, &engine, 34);
    }
    let captures = device.counters().captures;
    let (_, after) = prompt(&device, &engine, 34);
    println!("34 rows: {before} s as 48, {after} s later");
    assert!(after < 0.9 * before, "{after} of {before} s");
    prompt(&device, &engine, 34);
    assert_eq!(device.counters().captures, captures, "its graph exists");
}
