//! The CUDA back end under emulation: the conformance list, and independence of the order of threads.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use aio_backend_cuda::{EmulationOptions, args, emulated_fields};
use aio_conformance::{Outcome, SEED, cases, reference, run_case};
use aio_filetest::{baseline, cuda};
use std::collections::{BTreeMap, BTreeSet};

/// Whether `AIO_CASES` selects the case: its name contains the value, or the variable is not set.
fn wanted(name: &str) -> bool {
    std::env::var("AIO_CASES").map_or(true, |filter| name.contains(&filter))
}

#[test]
fn arguments_lie_as_the_kernels_have_them() {
    let Some(library) = cuda::library("cuda arguments") else { return };
    let theirs: BTreeSet<_> = emulated_fields(&library).unwrap().into_iter().collect();
    let field = |f: &args::Field| (f.kind.to_owned(), f.field.to_owned(), f.offset as u32, f.bytes as u32);
    let ours: BTreeSet<_> = args::FIELDS.iter().map(field).collect();
    assert_eq!(ours, theirs);
}

#[test]
fn every_case_agrees_with_the_oracle_in_every_order() {
    println!("seed {SEED:#x}");
    let on = |order| cuda::device("cuda conformance", EmulationOptions { order, ..EmulationOptions::default() });
    let Some(devices) = cuda::ORDERS.into_iter().map(on).collect::<Option<Vec<_>>>() else { return };
    let mut support = BTreeMap::new();
    let mut failures = Vec::new();
    for case in cases().iter().filter(|c| wanted(&c.name)) {
        let want = reference(case).unwrap();
        for (device, order) in devices.iter().zip(cuda::ORDERS) {
            let outcome = run_case(case, device, &want);
            match &outcome {
                Outcome::Pass { nmse } => println!("pass {}, {order:?}: {nmse:e}", case.name),
                Outcome::Unsupported { .. } => println!("{}: {outcome}", case.name),
                Outcome::Fail(fault) => failures.push(format!("{}, {order:?}: {fault}", case.name)),
            }
            support.insert(case.name.clone(), format!("{},{}", case.kind.name(), outcome.name()));
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    if std::env::var_os("AIO_CASES").is_none() {
        baseline::compare(&aio_filetest::here("baselines/support-cuda.csv"), "case,kind,outcome", &support);
    }
}
