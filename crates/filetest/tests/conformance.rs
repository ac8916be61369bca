//! The conformance list on the CPU, at every instruction-set level that this machine has.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use aio_backend::conformance::{SEED, cases};
use aio_backend_cpu::isa::IsaLevel;
use aio_backend_cpu::{CpuDevice, CpuOptions};
use aio_filetest::conformance::{Outcome, reference, run_case};
use aio_filetest::{baseline, needs};
use std::collections::BTreeMap;

/// A device for each level, or a line that says why not.
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
        let want = reference(&case);
        for device in &devices {
            let outcome = run_case(&case, device, &want);
            match &outcome {
                Outcome::Pass { nmse } => println!("pass {} at {}: {nmse:e}", case.name, device.isa()),
                Outcome::Unsupported(reason) => println!("unsupported {} at {}: {reason}", case.name, device.isa()),
                Outcome::Fail(reason) => failures.push(format!("{} at {}: {reason}", case.name, device.isa())),
            }
            let row = format!("{},{}", case.kind.name(), outcome.name());
            let at_first = support.entry(case.name.clone()).or_insert_with(|| row.clone());
            assert_eq!(*at_first, row, "{} differs between levels", case.name);
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    baseline::compare(&aio_filetest::here("baselines/support-cpu.csv"), "case,kind,outcome", &support);
}

/// Kernels index by inputs that are checked by name: a graph that names them otherwise must be refused, not run.
#[test]
fn inputs_under_other_names_are_unsupported() {
    let device = CpuDevice::new(CpuOptions { threads: 1, isa: None, pin: false }).unwrap();
    for (case, name) in [
        ("qkv-plain-f32", "positions"),
        ("qkv-plain-f32", "row_seq"),
        ("qkv-plain-f32", "page_table"),
        ("head-logits-f32", "out_rows"),
    ] {
        let mut case = cases().into_iter().find(|c| c.name == case).unwrap();
        case.steps.truncate(1);
        let want = reference(&case);
        case.text = case.text.replace(&format!("{name:?}"), "\"other\"");
        let outcome = run_case(&case, &device, &want);
        assert!(matches!(outcome, Outcome::Unsupported(_)), "{name}: {outcome:?}");
    }
}

/// Factors that a step binds would be ignored by tables that are made once.
#[test]
fn frequency_factors_that_are_no_weight_are_unsupported() {
    let device = CpuDevice::new(CpuOptions { threads: 1, isa: None, pin: false }).unwrap();
    let mut case = cases().into_iter().find(|c| c.name == "qkv-factors-f32").unwrap();
    case.steps.truncate(1);
    case.text = case.text.replace("weight \"factors\"", "input \"factors\"");
    let outcome = run_case(&case, &device, &reference(&case));
    assert!(matches!(outcome, Outcome::Unsupported(_)), "{outcome:?}");
}
