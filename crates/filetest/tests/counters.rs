//! What a device counts of a step is what the step did.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use aio_backend::bindings::OutputWords;
use aio_backend::{Bindings, Data, Device, LoadOptions, WeightData, WeightSource};
use aio_backend_cpu::{CpuDevice, CpuOptions};
use aio_compiler::{Options, compile};
use aio_ir::{Dims, text, verify};
use aio_plan::{Bucket, PoolSizes, Tail};

struct Nothing;

impl WeightSource for Nothing {
    fn weight(&self, _: &str) -> Option<WeightData<'_>> {
        None
    }
}

/// Counts of one step of a graph with this many outputs: submissions, syncs, allocations.
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

#[test]
fn lists_that_outgrow_their_place_are_counted() {
    assert_eq!(counts(1), [1, 1, 0]);
    assert_eq!(counts(4), [1, 1, 0]);
    assert_eq!(counts(9), [1, 1, 1]);
}
