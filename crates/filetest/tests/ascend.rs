//! The Ascend back end on the simulated Ascend: the conformance list.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use aio_backend::Device;
use aio_backend_ascend::{AclLibrary, AscendDevice, AscendOptions, Lengths};
use aio_conformance::{Outcome, SEED, cases, reference, run_case};
use aio_filetest::baseline;
use std::collections::BTreeMap;

fn device(lengths: Lengths) -> AscendDevice {
    AscendDevice::open(AclLibrary::simulated().unwrap(), AscendOptions { lengths, ..AscendOptions::default() }).unwrap()
}

/// Whether `AIO_CASES` selects the case: its name contains the value, or the variable is not set.
fn wanted(name: &str) -> bool {
    std::env::var("AIO_CASES").map_or(true, |filter| name.contains(&filter))
}

/// Places are found by the operands of attention, not by names.
#[test]
fn inputs_under_other_names_run_all_the_same() {
    let device = device(Lengths::Bucket);
    for name in ["positions", "row_seq", "page_table"] {
        let mut case = cases().into_iter().find(|c| c.name == "attend-heads-4-of-4").unwrap().on(&device.target());
        case.steps.truncate(4);
        let want = reference(&case).unwrap();
        // Test values are chosen by name, so the new name contains the old one.
        case.text = case.text.replace(&format!("{name:?}"), &format!("\"other {name}\""));
        let outcome = run_case(&case, &device, &want);
        assert!(matches!(outcome, Outcome::Pass { .. }), "{name}: {outcome:?}");
    }
}

#[test]
fn every_case_agrees_with_the_oracle() {
    println!("seed {SEED:#x}");
    let device = device(Lengths::Bucket);
    let target = device.target();
    let mut support = BTreeMap::new();
    let mut failures = Vec::new();
    for case in cases().iter().filter(|c| wanted(&c.name)) {
        let case = case.on(&target);
        let outcome = run_case(&case, &device, &reference(&case).unwrap());
        match &outcome {
            Outcome::Pass { nmse } => println!("pass {}: {nmse:e}", case.name),
            Outcome::Unsupported { .. } => println!("{}: {outcome}", case.name),
            Outcome::Fail(fault) => failures.push(format!("{}: {fault}", case.name)),
        }
        support.insert(case.name.clone(), format!("{},{}", case.kind.name(), outcome.name()));
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    if std::env::var_os("AIO_CASES").is_none() {
        baseline::compare(&aio_filetest::here("baselines/support-ascend.csv"), "case,kind,outcome", &support);
    }
}
