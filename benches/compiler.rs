//! The compiler: text forms, passes, whole families of plans, their verification, and the memory planner.
//!
//! Run with `cargo bench --bench compiler`. Graphs are those of synthetic models in full size; no weights are needed.

use aio::compiler::memory::{Lifetime, pack};
use aio::compiler::{Options, compile, passes};
use aio::cpu::{CpuDevice, CpuOptions};
use aio::ir::{DType, Graph, text, verify};
use aio::plan::{Bucket, PlanFamily, Tail, Target};
use aio_filetest::tiny::full_graph;
use criterion::{BenchmarkId, Criterion, Throughput};
use std::hint::black_box;
use std::time::Duration;

/// Presets with few and many layers, and with every optional tensor.
const PRESETS: [&str; 3] = ["smollm2-135m", "qwen3-0.6b", "pangu-7b"];

fn target() -> Target {
    use aio::backend::Device;
    CpuDevice::new(CpuOptions::default()).expect("threads start").target()
}

/// The step sizes of a model that is loaded for generation, with all tails.
fn buckets() -> Vec<Bucket> {
    let sizes = [(1, 1), (17, 17), (64, 17), (512, 17)];
    sizes.into_iter().flat_map(|(rows, outs)| Tail::ALL.map(|tail| Bucket::new(rows, outs, tail))).collect()
}

fn compiled(graph: &Graph, target: &Target, buckets: Vec<Bucket>) -> PlanFamily {
    let verified = verify(graph).expect("the graph is valid");
    compile(verified, target, &Options { buckets, fuse: true }).expect("the graph compiles").family
}

fn graphs(c: &mut Criterion) {
    let mut group = c.benchmark_group("graph");
    for preset in PRESETS {
        let graph = full_graph(preset, DType::Q4_0);
        let printed = text::print(&graph);
        group.throughput(Throughput::Bytes(printed.len() as u64));
        group.bench_function(BenchmarkId::new("print", preset), |b| b.iter(|| text::print(black_box(&graph))));
        group.bench_function(BenchmarkId::new("parse", preset), |b| b.iter(|| text::parse(black_box(&printed))));
        group.throughput(Throughput::Elements(graph.nodes().len() as u64));
        group.bench_function(BenchmarkId::new("verify", preset), |b| b.iter(|| verify(black_box(&graph)).is_ok()));
    }
    group.finish();
}

fn plans(c: &mut Criterion, target: &Target) {
    let mut group = c.benchmark_group("compile");
    group.sample_size(20);
    let decode = Bucket::new(1, 1, Tail::Argmax);
    for preset in PRESETS {
        let graph = full_graph(preset, DType::Q4_0);
        let verified = verify(&graph).expect("the graph is valid");
        group.bench_function(BenchmarkId::new("decode", preset), |b| {
            b.iter(|| compiled(black_box(&graph), target, vec![decode]));
        });
        group.bench_function(BenchmarkId::new("passes", preset), |b| {
            b.iter(|| passes(black_box(verified), target, decode, None).expect("the graph compiles"));
        });
        group.bench_function(BenchmarkId::new("family", preset), |b| {
            b.iter(|| compiled(black_box(&graph), target, buckets()));
        });
        let family = compiled(&graph, target, buckets());
        group.bench_function(BenchmarkId::new("verify", preset), |b| {
            b.iter(|| aio::plan::verify(black_box(&family)).is_ok());
        });
    }
    group.finish();
}

/// Buffers of a chain of layers: a residual stream that lives long among values that are read by the next task or two.
fn layers(buffers: usize) -> Vec<Lifetime> {
    let lifetime = |i: usize| {
        let (bytes, lives) = match i % 5 {
            0 => (2304, 5),
            4 => (6144, 1),
            n => (2304 * n as u64, 1 + n % 2),
        };
        Lifetime { first: i, last: i + lives, bytes }
    };
    (0..buffers).map(lifetime).collect()
}

/// Buffers of random sizes and lifetimes, most of which are live together.
fn random(buffers: usize) -> Vec<Lifetime> {
    let mut state = 1u64;
    let mut next = |limit: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % limit
    };
    let lifetime = |_| {
        let first = next(buffers);
        Lifetime { first, last: first + next(buffers / 4), bytes: 64 + next(1 << 20) as u64 }
    };
    (0..buffers).map(lifetime).collect()
}

type Made = fn(usize) -> Vec<Lifetime>;

fn memory(c: &mut Criterion) {
    let mut group = c.benchmark_group("memory");
    for (kind, made, sizes) in
        [("layers", layers as Made, &[150, 1500, 15_000][..]), ("random", random as Made, &[100, 400, 1600])]
    {
        for &buffers in sizes {
            let lifetimes = made(buffers);
            group.throughput(Throughput::Elements(buffers as u64));
            group.bench_function(BenchmarkId::new(kind, buffers), |b| b.iter(|| pack(black_box(&lifetimes), 64)));
        }
    }
    group.finish();
}

fn main() {
    let (warm_up, measured) = (Duration::from_millis(300), Duration::from_secs(1));
    let criterion = Criterion::default().warm_up_time(warm_up).measurement_time(measured);
    let mut criterion = criterion.configure_from_args();
    graphs(&mut criterion);
    plans(&mut criterion, &target());
    memory(&mut criterion);
    criterion.final_summary();
}
