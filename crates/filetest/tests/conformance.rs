//! The conformance list on the CPU, at every instruction-set level of this machine.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use aio_backend_cpu::isa::IsaLevel;
use aio_backend_cpu::{CpuDevice, CpuOptions};
use aio_conformance::{Case, Outcome, SEED, cases, reference, run_case, time_case};
use aio_filetest::{baseline, needs};
use std::collections::BTreeMap;

/// A device for each level; prints the reason for each level that is missing.
fn devices() -> Vec<CpuDevice> {
    let mut devices = Vec::new();
    for level in IsaLevel::ALL {
        match CpuDevice::new(CpuOptions { threads: 2, isa: Some(level), pin: false }) {
            Ok(device) => devices.push(device),
            Err(e) => needs::skip("conformance", "isa", &format!("{level}: {e}")),
        }
    }
    devices
}

#[test]
fn every_case_agrees_with_the_oracle_at_every_level() {
    println!("seed {SEED:#x}");
    let devices = devices();
    let mut support = BTreeMap::new();
    let mut failures = Vec::new();
    for case in cases() {
        let want = reference(&case).unwrap();
        for device in &devices {
            let outcome = run_case(&case, device, &want);
            match &outcome {
                Outcome::Pass { nmse } => println!("pass {} at {}: {nmse:e}", case.name, device.isa()),
                Outcome::Unsupported { .. } => println!("{} at {}: {outcome}", case.name, device.isa()),
                Outcome::Fail(fault) => failures.push(format!("{} at {}: {fault}", case.name, device.isa())),
            }
            let row = format!("{},{}", case.kind.name(), outcome.name());
            let at_first = support.entry(case.name.clone()).or_insert_with(|| row.clone());
            assert_eq!(*at_first, row, "{} differs between levels", case.name);
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    baseline::compare(&aio_filetest::here("baselines/support-cpu.csv"), "case,kind,outcome", &support);
}

/// Kernels of fused tasks index by inputs that are checked by name. A graph with other names runs unfused.
#[test]
fn inputs_under_other_names_run_all_the_same() {
    let device = CpuDevice::new(CpuOptions { threads: 2, isa: None, pin: false }).unwrap();
    for (case, name) in [
        ("qkv-plain-f32", "positions"),
        ("qkv-plain-f32", "row_seq"),
        ("qkv-plain-q4_0", "page_table"),
        ("head-logits-q8_0", "out_rows"),
    ] {
        let mut case = case_of(case);
        case.steps.truncate(1);
        let want = reference(&case).unwrap();
        // Test values are chosen by name, so the new name contains the old one.
        case.text = case.text.replace(&format!("{name:?}"), &format!("\"other {name}\""));
        let outcome = run_case(&case, &device, &want);
        assert!(matches!(outcome, Outcome::Pass { .. }), "{name}: {outcome:?}");
    }
}

/// Frequency factors bound by a step cannot go into tables that are computed once.
#[test]
fn frequency_factors_that_are_no_weight_run_all_the_same() {
    let device = CpuDevice::new(CpuOptions { threads: 1, isa: None, pin: false }).unwrap();
    let mut case = case_of("qkv-factors-f32");
    case.steps.truncate(1);
    case.text = case.text.replace("weight \"factors\"", "input \"factors\"");
    let outcome = run_case(&case, &device, &reference(&case).unwrap());
    assert!(matches!(outcome, Outcome::Pass { .. }), "{outcome:?}");
}

/// Graphs with an index out of range, and the expected error.
#[test]
fn indices_out_of_range_are_errors_that_name_the_input() {
    let device = CpuDevice::new(CpuOptions { threads: 2, isa: None, pin: false }).unwrap();
    for (name, input, what) in [
        ("op-embed-alone-q4_0", "index", "embed: token"),
        ("op-gather-f32", "index", "gather: row"),
        ("op-scatter-u8", "index", "scatter: row"),
        ("op-matmul-experts-f32", "index", "matmul: expert"),
        // The index is computed, so it is detected only while the step runs.
        ("op-embed-computed-f32", "", "embed: token"),
    ] {
        let case = case_of(name);
        let small = Case { text: case.text.replace("[9", "[5"), ..case.clone() };
        let outcome = run_case(&small, &device, &reference(&case).unwrap());
        let Outcome::Fail(fault) = outcome else { panic!("{name}: {outcome:?}") };
        let reason = fault.to_string();
        assert!(reason.contains(what) && reason.contains("is not below 5"), "{reason}");
        assert!(reason.contains(&format!("`{input}`")) || input.is_empty(), "{reason}");
    }
}

fn case_of(name: &str) -> Case {
    cases().into_iter().find(|c| c.name == name).unwrap()
}

#[test]
fn a_case_can_be_timed() {
    let device = CpuDevice::new(CpuOptions { threads: 1, isa: None, pin: false }).unwrap();
    let timing = time_case(&case_of("linear-q4_0"), &device, 0, 5).unwrap();
    assert_eq!(timing.cost.flops, 2 * 256 * 264);
    assert!(timing.seconds >= 0.0 && timing.cost.bytes_read > 0 && timing.cost.flops > 0, "{timing:?}");
    let long = time_case(&case_of("attend-context-300"), &device, 12, 1).unwrap();
    assert!(long.cost.bytes_read > 300 * 2 * 2 * 32 * 2, "{long:?}");
}
