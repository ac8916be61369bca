//! A device's counters match what a step did.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use aio_backend::bindings::OutputWords;
use aio_backend::{Bindings, Data, Device, LoadOptions, WeightData, WeightSource};
use aio_backend_cpu::{CpuDevice, CpuOptions};
use aio_backend_cuda::{EmulationOptions, ThreadOrder};
use aio_compiler::{Options, compile};
use aio_engine::{EngineOptions, Flow, Request, Sampling};
use aio_filetest::{cuda, tiny};
use aio_interp::InterpDevice;
use aio_ir::{DType, Dims, text, verify};
use aio_plan::{Bucket, PoolSizes, StepLoad, Tail, Traffic};
use std::sync::Arc;

fn ascending() -> EmulationOptions {
    EmulationOptions { order: ThreadOrder::Ascending, ..EmulationOptions::default() }
}

struct Nothing;

impl WeightSource for Nothing {
    fn weight(&self, _: &str) -> Option<WeightData<'_>> {
        None
    }
}

/// Counters of one step of a graph with this many outputs: submissions, syncs, allocations.
fn counts(outputs: usize) -> [u64; 3] {
    let lines = (0..outputs).map(|i| format!("%y{i} = neg %x\noutput \"y{i}\" = %y{i}\n"));
    let graph = format!("aio 1\ngraph \"many\"\n%x = input \"x\" : f32[4]\n{}", lines.collect::<String>());
    let graph = text::parse(&graph).unwrap().graph;
    let device = CpuDevice::new(CpuOptions { threads: 2, isa: None, pin: false }).unwrap();
    let bucket = Bucket { rows: 1, seqs: 1, outs: 1, tail: Tail::Logits, verify: false };
    let options = Options { buckets: vec![bucket], fuse: true };
    let family = compile(verify(&graph).unwrap(), &device.target(), &options).unwrap().family;
    let resident = device.upload(&family, &Nothing, PoolSizes::pages(1)).unwrap();
    let mut executable = device.load(&family, &family.plans[0], &resident, &LoadOptions::default()).unwrap();
    let mut memory = vec![[0u32; 4]; outputs];
    let mut words: Vec<OutputWords<'_>> = memory.iter_mut().map(|m| &mut m[..]).collect();
    let before = device.counters();
    let inputs = [Some(Data::F32(&[1.0, 2.0, 3.0, 4.0]))];
    let mut bindings = Bindings { dims: Dims::default(), inputs: &inputs, outputs: &mut words };
    executable.submit(&mut bindings).unwrap().wait().unwrap();
    let used = device.counters() - before;
    [used.submissions, used.syncs, used.step_allocations]
}

/// The devices that can run plans on this machine.
fn devices() -> Vec<Arc<dyn Device>> {
    let cpu = CpuDevice::new(CpuOptions { threads: 2, isa: None, pin: false }).unwrap();
    let mut devices: Vec<Arc<dyn Device>> = vec![Arc::new(cpu), Arc::new(InterpDevice::default())];
    devices.extend(cuda::device("counters", ascending()).map(|gpu| Arc::new(gpu) as Arc<dyn Device>));
    devices
}

#[test]
fn bytes_are_those_of_the_plans_traffic_on_every_device() {
    const PROMPT: u64 = 70;
    const TOKENS: u64 = 5;
    let prompt = (0..PROMPT as u32).map(|i| i % 200).collect();
    let request = Request::new(prompt, Sampling::greedy());
    let request = Request { max_tokens: Some(TOKENS as usize), ignore_eog: true, ..request };
    for device in devices() {
        let name = device.target().name;
        let options = EngineOptions { context: Some(128), ..EngineOptions::default() };
        let engine = tiny::engine("llama-1b", DType::Q8_0, device, &options);
        let traffic = Traffic::of(engine.family(), &engine.family().plans[0]);
        let before = engine.counters();
        engine.generate(&request, &mut |_| Flow::Continue).unwrap();
        let spent = engine.counters() - before;
        // The prompt in one step, then a step for each token after the first.
        let decoded = (1..TOKENS).map(|i| StepLoad { rows: 1, positions: PROMPT + i, sequences: 1 });
        let loads: Vec<_> =
            [StepLoad { rows: PROMPT, positions: PROMPT, sequences: 1 }].into_iter().chain(decoded).collect();
        let read: u64 = loads.iter().map(|&load| traffic.bytes_read(load)).sum();
        let written: u64 = loads.iter().map(|&load| traffic.bytes_written(load)).sum();
        assert!(traffic.weights > 0 && traffic.kv_per_position > 0, "{name}: {traffic:?}");
        assert_eq!((spent.bytes_read, spent.bytes_written, spent.submissions), (read, written, TOKENS), "{name}");
    }
}

#[test]
fn lists_that_outgrow_their_place_are_counted() {
    assert_eq!(counts(1), [1, 1, 0]);
    assert_eq!(counts(4), [1, 1, 0]);
    assert_eq!(counts(9), [1, 1, 1]);
}
