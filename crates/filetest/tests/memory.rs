//! The engine's memory estimate before it loads a model.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use aio_backend::Device;
use aio_backend::null::NullDevice;
use aio_backend_cpu::{CpuDevice, CpuOptions, IsaLevel};
use aio_compiler::{Options, compile};
use aio_engine::MemoryNeed;
use aio_filetest::tiny;
use aio_ir::DType;
use aio_plan::{Bucket, PlanFamily, PoolSizes, Tail};

fn cpu(threads: usize) -> CpuDevice {
    CpuDevice::new(CpuOptions { threads, isa: Some(IsaLevel::Portable), pin: false }).unwrap()
}

fn family(device: &dyn Device, rows: u32) -> PlanFamily {
    let (_, graph) = tiny::model("llama-1b", DType::Q8_0, 7);
    let bucket = Bucket { rows, seqs: rows, outs: 1, tail: Tail::Argmax, verify: false };
    let options = Options { buckets: vec![bucket], fuse: true };
    compile(aio_ir::verify(&graph).unwrap(), &device.target(), &options).unwrap().family
}

#[test]
fn scratch_memory_grows_with_rows_pages_and_threads() {
    let bytes = |threads, rows, pages| {
        let device = cpu(threads);
        device.scratch_bytes(&family(&device, rows), PoolSizes::pages(pages))
    };
    let least = bytes(1, 1, 4);
    // Partial results of one row and one split: a maximum and a sum per head, besides its values.
    assert!(least > 4 * (64 + 2) * 4, "{least}");
    assert!(bytes(2, 1, 4) > least && bytes(1, 64, 4) > least && bytes(1, 1, 400) > least);
    let null = NullDevice::default();
    assert_eq!(null.scratch_bytes(&family(&null, 1), PoolSizes::pages(4)), 0);
}

#[test]
fn the_need_names_its_parts() {
    let device = cpu(1);
    let mut need = MemoryNeed::of(&family(&device, 1), PoolSizes::pages(4));
    // Keys and values of two layers, two heads of 64 in 16 bits; 64 positions per page.
    assert_eq!(need.kv, 4 * 2 * 2 * 2 * 64 * 64 * 2);
    let before = need.total();
    assert!(!need.to_string().contains("scratch"));
    need.scratch = 1000;
    assert_eq!(need.total(), before + 1000);
    assert!(need.to_string().ends_with(", scratch 1000)"), "{need}");
}
