//! Random graphs with dimensions of size 0: what runs on the oracle also runs on the CPU, unless it reports that it
//! cannot.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[allow(dead_code, reason = "graphs of one op are enough here")]
#[path = "../../ir/tests/generate/mod.rs"]
mod generate;

use aio_backend::{Bindings, Data, Device, DeviceError, LoadOptions, WeightData, WeightSource};
use aio_backend_cpu::{CpuDevice, CpuOptions};
use aio_compiler::{Options, compile};
use aio_interp::InterpDevice;
use aio_ir::{DType, Dims, Graph, Op, text, verify};
use aio_plan::{Bucket, PlanFamily, PoolSizes, Tail, WeightDesc};
use std::collections::BTreeMap;

const SEED: u64 = 9;
const PAGES: u32 = 2;
const SLOTS: u32 = 4;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 32) as u32
    }
}

/// Input bytes in whole words: small integers, many of them valid as indices.
fn input(dtype: DType, bytes: usize, random: &mut Random) -> Vec<u32> {
    let mut small = || random.next() % 3;
    let mut words = vec![0u32; bytes.div_ceil(4)];
    for word in &mut words {
        *word = match dtype {
            DType::F32 => (small() as f32).to_bits(),
            DType::U32 | DType::I32 => small(),
            DType::U8 | DType::I8 | DType::Bool => u32::from_ne_bytes([0, 1, 1, 0]),
            _ => 0,
        };
    }
    words
}

/// The weights of a family, by name.
struct Weights(BTreeMap<String, (DType, Vec<u64>, Vec<u32>, usize)>);

impl Weights {
    fn of(family: &PlanFamily) -> Weights {
        let mut random = Random(SEED);
        let weight = |w: &WeightDesc| {
            let bytes = w.ty.bytes(&Dims::default()).unwrap() as usize;
            let shape = w.ty.shape.dims().iter().filter_map(|d| d.known()).collect();
            (w.name.clone(), (w.ty.dtype, shape, input(w.ty.dtype, bytes, &mut random), bytes))
        };
        Weights(family.weights.iter().map(weight).collect())
    }
}

impl WeightSource for Weights {
    fn weight(&self, name: &str) -> Option<WeightData<'_>> {
        let (dtype, shape, words, bytes) = self.0.get(name)?;
        let bytes = &bytemuck::cast_slice(words)[..*bytes];
        Some(WeightData { dtype: *dtype, shape: shape.clone(), bytes })
    }
}

/// Runs one step and returns the size of each output in bytes.
fn run(family: &PlanFamily, device: &dyn Device, dims: Dims) -> Result<Vec<u64>, DeviceError> {
    let plan = &family.plans[0];
    let resident = device.upload(family, &Weights::of(family), PoolSizes { pages: PAGES, slots: SLOTS })?;
    let mut executable = device.load(family, plan, &resident, &LoadOptions::default())?;
    let size = |ty: &aio_ir::TensorType| ty.bytes(&dims).unwrap() as usize;
    let mut random = Random(SEED);
    let words: Vec<_> = plan.inputs.iter().map(|i| input(i.ty.dtype, size(&i.ty), &mut random)).collect();
    let inputs = plan.inputs.iter().zip(&words).map(|(i, words)| match i.ty.dtype {
        _ if i.optional => None,
        DType::F32 => Some(Data::F32(bytemuck::cast_slice(words))),
        DType::I32 => Some(Data::I32(bytemuck::cast_slice(words))),
        DType::U32 => Some(Data::U32(words)),
        other => Some(Data::Bytes(other, &bytemuck::cast_slice(words)[..size(&i.ty)])),
    });
    let inputs: Vec<_> = inputs.collect();
    let mut outputs: Vec<Vec<u32>> = plan.outputs.iter().map(|o| vec![0; size(&o.ty).div_ceil(4)]).collect();
    let mut places: Vec<&mut [u32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
    executable.submit(&mut Bindings { dims, inputs: &inputs, outputs: &mut places })?.wait()?;
    Ok(plan.outputs.iter().map(|o| size(&o.ty) as u64).collect())
}

/// Whether both devices ran it.
fn agrees(graph: &Graph, dims: Dims, fuse: bool, cpu: &CpuDevice) -> bool {
    let bucket = Bucket { rows: 3, seqs: 3, outs: 3, tail: Tail::Logits, verify: false };
    let options = Options { buckets: vec![bucket], fuse };
    let verified = verify(graph).unwrap();
    let Ok(compiled) = compile(verified, &cpu.target(), &options) else { return false };
    let oracle = run(&compiled.family, &InterpDevice::default(), dims);
    let got = run(&compiled.family, cpu, dims);
    match (&oracle, &got) {
        (_, Err(DeviceError::Unsupported { .. })) | (Err(_), _) => false,
        _ => {
            assert_eq!(got, oracle, "{dims:?}\n{}", text::print(graph));
            true
        }
    }
}

#[test]
fn the_cpu_runs_random_graphs_with_sizes_of_0() {
    println!("seed {SEED}");
    let cpu = CpuDevice::new(CpuOptions { threads: 2, isa: None, pin: false }).unwrap();
    let mut random = Random(SEED);
    let (mut ran, mut empty) = (0, 0);
    for _ in 0..12 {
        for &op in Op::ALL {
            let words: Vec<u32> = (0..40).map(|_| random.next()).collect();
            let graph = generate::graph_with(op, &words);
            let [rows, seqs, outs] = [0; 3].map(|_| random.next() % 4);
            let recent = random.next() % 3;
            let dims = Dims { rows, seqs, outs, pages: PAGES, stride: PAGES, recent, slots: SLOTS };
            let done = [true, false].into_iter().filter(|&fuse| agrees(&graph, dims, fuse, &cpu)).count();
            ran += done;
            empty += usize::from(done > 0 && graph.values().any(|(_, v)| v.ty.shape.is_empty()));
        }
    }
    assert!(ran > 300 && empty > 50, "{ran} graphs ran, {empty} of them with a size of 0");
}
