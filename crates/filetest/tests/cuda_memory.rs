//! Device memory used by the CUDA back end, under emulation: hundreds of graphs, memory shared between steps, a device
//! that is too small, and the figures of a probe.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use aio_backend::bindings::OutputWords;
use aio_backend::{Bindings, Data, Device, DeviceError, LoadOptions, WeightData, WeightSource};
use aio_backend_cuda::{CudaDevice, EmulationOptions};
use aio_compiler::{Options, compile};
use aio_engine::{EngineError, EngineOptions};
use aio_filetest::{cuda, tiny};
use aio_ir::{DType, Dims, text, verify};
use aio_plan::{Bucket, PlanFamily, PoolSizes, Tail};
use std::time::Instant;

struct Nothing;

impl WeightSource for Nothing {
    fn weight(&self, _: &str) -> Option<WeightData<'_>> {
        None
    }
}

fn device(test: &str) -> Option<CudaDevice> {
    cuda::device(test, EmulationOptions::default())
}

/// A graph with rows of `elements` elements; a step binds all of them as input and as output.
fn family(device: &CudaDevice, elements: usize) -> PlanFamily {
    let graph =
        format!("aio 1\ngraph \"wide\"\n%x = input \"x\" : f32[rows, {elements}]\n%y = neg %x\noutput \"y\" = %y\n");
    let graph = text::parse(&graph).unwrap().graph;
    let buckets = [1, 4].map(|rows| Bucket::new(rows, rows, Tail::Logits)).to_vec();
    compile(verify(&graph).unwrap(), &device.target(), &Options { buckets, fuse: true }).unwrap().family
}

/// Inputs and outputs over 1 MiB are in memory shared by all plans of a model.
#[test]
fn large_outputs_are_right_or_an_error() {
    let Some(device) = device("large outputs") else { return };
    let family = family(&device, 300_000);
    let weights = device.upload(&family, &Nothing, PoolSizes::pages(1)).unwrap();
    let load = |i: usize| device.load(&family, &family.plans[i], &weights, &LoadOptions::default()).unwrap();
    let (mut one, mut four) = (load(0), load(1));
    let values = |rows: usize, scale: f32| (0..rows * 300_000).map(|i| i as f32 * scale).collect::<Vec<_>>();
    let (few, many) = (values(1, 1.0), values(3, 0.5));
    let (mut a, mut b) = (vec![0u32; few.len()], vec![0u32; many.len()]);
    let right = |got: &[u32], x: &[f32]| got.iter().zip(x).all(|(g, x)| *g == (-x).to_bits());
    let dims = |rows| Dims { rows, seqs: rows, outs: rows, ..Dims::default() };
    let (one_in, four_in) = ([Some(Data::F32(&few))], [Some(Data::F32(&many))]);
    {
        let mut out: [OutputWords<'_>; 1] = [&mut b];
        let mut bindings = Bindings { dims: dims(3), inputs: &four_in, outputs: &mut out };
        four.submit(&mut bindings).unwrap().wait().unwrap();
    }
    assert!(right(&b, &many));
    let (mut out_a, mut out_b): ([OutputWords<'_>; 1], [OutputWords<'_>; 1]) = ([&mut a], [&mut b]);
    let mut bindings_a = Bindings { dims: dims(1), inputs: &one_in, outputs: &mut out_a };
    let mut bindings_b = Bindings { dims: dims(3), inputs: &four_in, outputs: &mut out_b };
    let first = one.submit(&mut bindings_a).unwrap();
    let second = four.submit(&mut bindings_b).unwrap();
    let error = first.wait().unwrap_err();
    assert!(matches!(&error, DeviceError::Failed(m) if m.contains("another step")), "{error}");
    second.wait().unwrap();
    assert!(right(&b, &many));
    // The executable that lost its outputs still works.
    let mut out: [OutputWords<'_>; 1] = [&mut a];
    let mut bindings = Bindings { dims: dims(1), inputs: &one_in, outputs: &mut out };
    one.submit(&mut bindings).unwrap().wait().unwrap();
    assert!(right(&a, &few));
}

#[test]
fn what_counts_is_the_memory_of_the_device() {
    if cuda::on_gpu() {
        return aio_filetest::needs::skip("device memory", "emulation", "a GPU has the memory that it has");
    }
    let emulation = EmulationOptions { memory_bytes: 1 << 20, ..EmulationOptions::default() };
    let Some(device) = cuda::device("device memory", emulation) else { return };
    let (model, graph) = tiny::model("llama-1b", DType::BF16, 7);
    let error = aio_engine::Engine::load(model, &graph, std::sync::Arc::new(device), &EngineOptions::default());
    let error = error.err().unwrap();
    assert!(matches!(error, EngineError::Memory { available: 1_048_576, .. }), "{error}");
}

/// Memory of the graphs for over 128 buckets of a billion-parameter model, with sharing and without.
#[test]
fn graphs_by_the_hundred_take_little_memory() {
    let Some(device) = device("many graphs") else { return };
    let graph = tiny::full_graph("llama-1b", DType::BF16);
    let rows = (1..=24u32).chain((32..=512).step_by(32));
    let tails = |rows: u32| {
        Tail::ALL.map(|tail| Bucket::new(rows, if tail == Tail::Logits { rows } else { rows.min(72) }, tail))
    };
    let mut buckets: Vec<Bucket> = rows.flat_map(tails).collect();
    let verifying: Vec<_> = buckets
        .iter()
        .filter(|b| b.tail != Tail::Logits && b.rows > 1 && b.rows <= 24)
        .map(|b| b.verifying())
        .collect();
    buckets.extend(verifying);
    assert!(buckets.len() >= 128, "{}", buckets.len());
    let start = Instant::now();
    let family = compile(verify(&graph).unwrap(), &device.target(), &Options { buckets, fuse: true }).unwrap().family;
    let compiled = start.elapsed();
    let start = Instant::now();
    let pages = 4096 / 64 + 72;
    let need = device.graphs(&family, pages).unwrap();
    let lowered = start.elapsed();
    let (own, arguments): (u64, u64) = (need.own.iter().sum(), need.arguments.iter().sum());
    let (launches, pinned): (u32, u64) = (need.launches.iter().sum(), need.pinned.iter().sum());
    println!(
        "{} graphs of llama-1b: {launches} launches, {own} bytes of their own on the device, {arguments} of arguments, {pinned} \
         pinned; shared by all: {} of scratch memory, {} of large inputs and outputs, {} of arena; {compiled:.1?} to \
         compile, {lowered:.1?} to lower",
        family.plans.len(),
        need.scratch,
        need.large,
        family.arena_bytes
    );
    // Memory that grows with the number of graphs. The driver's part of it can be measured only on a GPU.
    assert!(own + arguments <= 48 << 20, "{own} + {arguments}");
    let deepest = need.launches.iter().max().unwrap();
    assert!(*deepest <= 7 * 16 + 9, "{deepest} launches");
    let logits =
        family.plans.iter().flat_map(|p| &p.outputs).filter_map(|o| o.ty.bytes(&Dims { outs: 512, ..Dims::default() }));
    assert!(need.large >= logits.max().unwrap());
}

/// At 131072 positions, a step that verifies sixteen drafts has 73 MB of partial results. Without them, a few blocks
/// would walk the whole context. With 512 rows there are enough blocks.
#[test]
fn long_contexts_are_split_where_rows_are_few() {
    if cuda::on_gpu() {
        return aio_filetest::needs::skip("long contexts", "emulation", "the figures are those of 132 multiprocessors");
    }
    let emulation = EmulationOptions { multiprocessors: 132, ..EmulationOptions::default() };
    let Some(device) = cuda::device("long contexts", emulation) else { return };
    let graph = tiny::full_graph("llama-1b", DType::BF16);
    let scratch = |rows: u32| {
        let buckets = vec![Bucket::new(rows, 1, Tail::Argmax)];
        let options = Options { buckets, fuse: true };
        let family = compile(verify(&graph).unwrap(), &device.target(), &options).unwrap().family;
        device.graphs(&family, 131_072 / 64).unwrap().scratch
    };
    let partials = |rows: u64| 4 * rows * 32 * 512 * 66;
    assert!((partials(17)..2 * partials(17)).contains(&scratch(17)), "{}", scratch(17));
    assert!(scratch(512) < partials(17), "{}", scratch(512));
}

#[test]
fn a_probe_measures() {
    let Some(device) = device("probe") else { return };
    let probe = device.measure(1 << 16).unwrap();
    assert_eq!(probe.bytes(), 1 << 16);
    let seconds = [
        probe.read_seconds().unwrap(),
        probe.copy_seconds().unwrap(),
        probe.launch_seconds().unwrap(),
        probe.edge_seconds().unwrap(),
        probe.submission_seconds().unwrap(),
        probe.sync_seconds().unwrap(),
    ];
    assert!(seconds.iter().all(|&s| s >= 0.0), "{seconds:?}");
    assert!(probe.int8_macs(2).unwrap() >= 0.0 && probe.bf16_macs(2).unwrap() >= 0.0);
}
