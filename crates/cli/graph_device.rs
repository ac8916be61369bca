//! `aio graph run --device DEVICE`: compiles the graph to one plan and runs it the way a model's plans run.

use crate::args::GraphRunArgs;
use crate::devices;
use crate::graph_job::Job;
use crate::npy::Npy;
use aio::backend::bindings::OutputWords;
use aio::backend::{Bindings, Data, LoadOptions, WeightData, WeightSource};
use aio::compiler::{Options, compile};
use aio::ir::{DType, Def, Graph, Verified};
use aio::plan::{Binding, Bucket, Plan, PoolSizes, Tail};
use anyhow::{Context, Result, bail};
use std::collections::HashMap;

/// Weights with the types that the graph declares, checked before.
struct Weights<'a> {
    graph: &'a Graph,
    given: &'a HashMap<String, Npy>,
}

impl WeightSource for Weights<'_> {
    fn weight(&self, name: &str) -> Option<WeightData<'_>> {
        let ty = self.graph.ty(self.graph.find(name)?);
        let shape = ty.shape.dims().iter().map(|d| d.known()).collect::<Option<Vec<_>>>()?;
        Some(WeightData { dtype: ty.dtype, shape, bytes: &self.given.get(name)?.bytes })
    }
}

/// Elements in the form in which plans bind them.
enum Elements<'a> {
    F32(Vec<f32>),
    I32(Vec<i32>),
    U32(Vec<u32>),
    Bytes(DType, &'a [u8]),
}

impl<'a> Elements<'a> {
    fn of(dtype: DType, bytes: &'a [u8]) -> Elements<'a> {
        let words = || bytes.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]]));
        match dtype {
            DType::F32 => Elements::F32(words().map(f32::from_bits).collect()),
            DType::I32 => Elements::I32(words().map(|w| w as i32).collect()),
            DType::U32 => Elements::U32(words().collect()),
            other => Elements::Bytes(other, bytes),
        }
    }

    fn data(&self) -> Data<'_> {
        match self {
            Elements::F32(v) => Data::F32(v),
            Elements::I32(v) => Data::I32(v),
            Elements::U32(v) => Data::U32(v),
            Elements::Bytes(dtype, bytes) => Data::Bytes(*dtype, bytes),
        }
    }
}

/// Runs the graph and returns the bytes of outputs and final states.
pub(crate) fn run(graph: Verified<'_>, job: &Job, args: &GraphRunArgs) -> Result<Vec<Vec<u8>>> {
    let states = graph.graph().values().filter(|(_, v)| v.def == Def::State);
    if let Some((_, state)) = states.into_iter().find(|(_, v)| job.given.contains_key(&v.name)) {
        bail!("state `{}` is given, but on this device states start as zeros; --device interp takes them", state.name);
    }
    let device = devices::open(args.device, args.into())?.device;
    let (dims, at_least_one) = (job.dims, |n: u32| n.max(1));
    let (rows, seqs, outs) = (at_least_one(dims.rows), at_least_one(dims.seqs), at_least_one(dims.outs));
    let bucket = Bucket { rows, seqs, outs, tail: Tail::Logits, verify: false };
    let family = compile(graph, &device.target(), &Options { buckets: vec![bucket], fuse: true })?.family;
    let plan = family.plans.first().context("a bucket gives a plan")?;
    let weights = Weights { graph: graph.graph(), given: &job.given };
    let pools = PoolSizes { pages: dims.pages, slots: dims.slots };
    let resident = device.upload(&family, &weights, pools)?;
    let mut executable = device.load(&family, plan, &resident, &LoadOptions::default())?;

    let elements: Vec<Option<Elements<'_>>> = plan.inputs.iter().map(|b| elements(b, job)).collect();
    let inputs: Vec<Option<Data<'_>>> = elements.iter().map(|e| e.as_ref().map(Elements::data)).collect();
    let mut outputs = output_words(plan, job)?;
    let mut words: Vec<OutputWords<'_>> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
    executable.submit(&mut Bindings { dims, inputs: &inputs, outputs: &mut words })?.wait()?;

    let mut results = Vec::new();
    for output in &graph.graph().outputs {
        let place =
            plan.outputs.iter().position(|b| b.name == output.name).context("a plan has the graph's outputs")?;
        let bytes = plan.outputs[place].ty.bytes(&dims).context("sizes were checked")?;
        let mut all: Vec<u8> = outputs[place].iter().flat_map(|w| w.to_le_bytes()).collect();
        all.truncate(bytes as usize);
        results.push(all);
    }
    for last in &graph.graph().finals {
        let name = &graph.graph().value(last.state).name;
        let place = family.states.iter().position(|s| s.name == *name).context("a family has the graph's states")?;
        results.push(device.download_state(&resident, place)?);
    }
    Ok(results)
}

fn elements<'a>(binding: &Binding, job: &'a Job) -> Option<Elements<'a>> {
    job.given.get(&binding.name).map(|npy| Elements::of(binding.ty.dtype, &npy.bytes))
}

fn output_words(plan: &Plan, job: &Job) -> Result<Vec<Vec<u32>>> {
    let words = plan.outputs.iter().map(|b| {
        let bytes = b.ty.bytes(&job.dims).context("sizes were checked")?;
        Ok(vec![0; bytes.div_ceil(4) as usize])
    });
    words.collect()
}
