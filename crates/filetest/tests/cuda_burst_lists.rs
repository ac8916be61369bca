//! Lists the kernels that bursts run, so that they can be compiled ahead of time: for the models of
//! `scripts/gpu-check.sh` and of its tests.
//!
//! With `AIO_BURST_LISTS=FILE`, writes the lists to a file, one per line, for `aio device kernels --bursts`
//! (`scripts/gpu-pack.sh`). They apply to a GPU with the shared memory of the emulation, which is that of an H100.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use aio_backend::Device;
use aio_backend_cuda::{CudaDevice, EmulationOptions};
use aio_compiler::{Options, compile};
use aio_filetest::{cuda, needs, tiny};
use aio_ir::{DType, Graph, verify};
use aio_model::Model;
use aio_plan::{Bucket, Tail};
use std::collections::BTreeSet;

/// Rows of the plan used for bursts; any number not below the rows of a burst's step.
const ROWS: u32 = 17;
const GREEDY: &[Tail] = &[Tail::Argmax];
const BOTH: &[Tail] = &[Tail::Argmax, Tail::Sample];

fn lists(device: &CudaDevice, graph: &Graph, tails: &[Tail]) -> Vec<String> {
    let buckets = tails.iter().map(|&tail| Bucket::new(ROWS, ROWS, tail).verifying()).collect();
    let family = compile(verify(graph).unwrap(), &device.target(), &Options { buckets, fuse: true }).unwrap().family;
    family.plans.iter().map(|plan| device.burst_kernels(&family, plan).unwrap().join(" ")).collect()
}

#[test]
fn lists_have_the_kernels_of_every_model() {
    let Some(device) = cuda::device("burst lists", EmulationOptions::default()) else { return };
    let mut all = BTreeSet::new();
    for preset in ["llama-1b", "pangu-1b"] {
        for weights in [DType::BF16, DType::Q8_0, DType::Q4_1] {
            let found = lists(&device, &tiny::full_graph(preset, weights), GREEDY);
            // Two normed rows leave room for as many blocks as no normed rows do.
            let normed = format!("norm_gate_up_{}", weights.name());
            assert!(found.iter().all(|l| l.contains(&normed) && l.contains("attend")), "{found:?}");
            all.extend(found);
        }
    }
    for (preset, weights) in [
        ("llama-1b", DType::Q8_0),
        ("qwen2-0.5b", DType::Q4_1),
        ("qwen3-0.6b", DType::F32),
        ("pangu-1b", DType::F16),
        ("llama-1b", DType::Q6K),
        ("llama-1b", DType::Q4K),
        ("llama-1b", DType::BF16),
    ] {
        all.extend(lists(&device, &tiny::model(preset, weights, 7).1, BOTH));
    }
    if let Some(path) = needs::default_model("burst list of the default model") {
        all.extend(lists(&device, &tiny::graph(&Model::open(&path).unwrap()), BOTH));
    }
    println!("{} lists", all.len());
    if let Some(path) = std::env::var_os("AIO_BURST_LISTS") {
        let text: String = all.iter().map(|l| format!("{l}\n")).collect();
        std::fs::write(path, text).unwrap();
    }
}
