//! Malicious plans: none may panic, read or write out of bounds. Replays the corpus of the fuzz target `plans`, then
//! changes from a fixed seed.

use aio_backend::Device;
use aio_backend_cpu::{CpuDevice, CpuOptions, IsaLevel};
use aio_backend_cuda::EmulationOptions;
use aio_filetest::cuda;
use aio_filetest::hostile_plans::{Fate, check, other_graphs};
use aio_interp::InterpDevice;
use std::collections::BTreeMap;

fn devices() -> (CpuDevice, InterpDevice) {
    let portable = CpuOptions { threads: 2, isa: Some(IsaLevel::Portable), pin: false };
    (CpuDevice::new(portable).expect("threads start"), InterpDevice::default())
}

#[test]
fn the_corpus_does_no_harm() {
    let (cpu, interp) = devices();
    let folder = aio_filetest::workspace("crates/filetest/tests/data/plans-corpus");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).expect("the corpus is there").flatten().map(|e| e.path()).collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        check(&std::fs::read(&file).expect("the file can be read"), &[&interp as &dyn Device, &cpu]);
    }
}

/// Several KV states, finals of every kind, copied outputs, `recent` and `pages`, checks of drafts.
#[test]
fn the_graphs_beside_the_conformance_list_compile_to_plans_that_load() {
    let (cpu, interp) = devices();
    assert!(aio_conformance::cases().len() > 256, "two bytes choose a case");
    for graph in 0..other_graphs() as u8 {
        for fusion in [240, 241] {
            let fate = check(&[0, 0, fusion, graph], &[&interp as &dyn Device, &cpu]);
            // A row may refer to a sequence that a small step does not have.
            assert!(matches!(fate, Fate::Ran | Fate::DeviceRefused), "graph {graph}, fusion {fusion}: {fate:?}");
        }
    }
}

/// Outcomes of families changed by bytes from a fixed seed.
fn fates(count: usize, devices: &[&dyn Device]) -> BTreeMap<&'static str, usize> {
    const SEED: u64 = 15;
    println!("seed {SEED}");
    let mut state = SEED;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    let mut fates = BTreeMap::new();
    for _ in 0..count {
        let len = 4 + usize::from(random() % 28);
        let bytes: Vec<u8> = (0..len).map(|_| random()).collect();
        let fate = match check(&bytes, devices) {
            Fate::Refused => "refused",
            Fate::TooLarge => "too large",
            Fate::DeviceRefused => "refused by the device",
            Fate::Ran => "ran",
        };
        *fates.entry(fate).or_default() += 1;
    }
    println!("{fates:?}");
    fates
}

/// The emulated GPU checks the guards around each of its allocations at every synchronisation.
#[test]
fn changed_plans_do_no_harm_to_the_emulated_gpu() {
    let Some(gpu) = cuda::device("hostile plans on the emulated GPU", EmulationOptions::default()) else { return };
    let fates = fates(120, &[&gpu]);
    assert!(fates["ran"] > 5 && fates["refused"] > 50, "{fates:?}");
}

#[test]
fn changed_plans_do_no_harm() {
    let (cpu, interp) = devices();
    let fates = fates(1500, &[&interp, &cpu]);
    assert!(
        fates["ran"] > 50 && fates["refused"] > 500,
        "the changes are neither all harmless nor all refused: {fates:?}"
    );
}
