//! Plans that someone wrote to do harm: none panics, none reads or writes out of bounds. Replays the corpus of the fuzz
//! target `plans`, then changes of a fixed seed.

use aio_backend::Device;
use aio_backend_cpu::{CpuDevice, CpuOptions, IsaLevel};
use aio_filetest::hostile_plans::{Fate, check};
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

#[test]
fn changed_plans_do_no_harm() {
    const SEED: u64 = 15;
    println!("seed {SEED}");
    let (cpu, interp) = devices();
    let mut state = SEED;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    let mut fates: BTreeMap<&str, usize> = BTreeMap::new();
    for _ in 0..1500 {
        let len = 4 + usize::from(random() % 28);
        let bytes: Vec<u8> = (0..len).map(|_| random()).collect();
        let fate = match check(&bytes, &[&interp as &dyn Device, &cpu]) {
            Fate::Refused => "refused",
            Fate::TooLarge => "too large",
            Fate::DeviceRefused => "refused by the device",
            Fate::Ran => "ran",
        };
        *fates.entry(fate).or_default() += 1;
    }
    println!("{fates:?}");
    assert!(
        fates["ran"] > 50 && fates["refused"] > 500,
        "the changes are neither all harmless nor all refused: {fates:?}"
    );
}
