//! Weights and buffers with zero bytes: results are the same from the model and from an artefact, read or mapped.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use aio_backend::{Bindings, Data, Device, DeviceError, ImageAccess, LoadOptions, WeightSet};
use aio_backend_cpu::{CpuDevice, CpuOptions};
use aio_backend_cuda::EmulationOptions;
use aio_compiler::{Options, compile};
use aio_conformance::Weights;
use aio_filetest::cuda;
use aio_interp::InterpDevice;
use aio_ir::{Dims, Graph, text, verify};
use aio_plan::artefact::{Artefact, Contents, Hash, Header, write};
use aio_plan::{Bucket, PlanFamily, PoolSizes, Tail};
use std::ops::ControlFlow;
use std::path::Path;

const ROWS: u32 = 3;
const EMPTY: &str = "%x = input \"x\" : f32[rows, 32]\n%e = input \"e\" : f32[rows, 0]\n%w = weight \"w\" : q8_0[5, 0]\n\
                     %n = weight \"n\" : f32[0, 32]\n%a = matmul %e, %w\n%b = matmul %x, %n\n%c = concat %a, %b {axis = 1}\n\
                     %s = reduce %e {kind = sum, axis = 1}\n%y = concat %c, %s {axis = 1}\n";
const BOTH: &str = "%v = weight \"v\" : q8_0[6, 32]\n%p = matmul %x, %v\n%y2 = add %y, %p\noutput \"y\" = %y2\n";

fn graph(body: &str) -> Graph {
    text::parse(&format!("aio 1\ngraph \"t\"\n{body}")).unwrap_or_else(|e| panic!("{e}")).graph
}

fn family(graph: &Graph, device: &dyn Device) -> PlanFamily {
    let bucket = Bucket { rows: ROWS, seqs: 1, outs: 1, tail: Tail::Logits, verify: false };
    compile(verify(graph).unwrap(), &device.target(), &Options { buckets: vec![bucket], fuse: true }).unwrap().family
}

/// Runs one step and returns the words of its only output.
fn step(device: &dyn Device, family: &PlanFamily, weights: &WeightSet, dims: Dims) -> Result<Vec<u32>, DeviceError> {
    let plan = &family.plans[0];
    let mut executable = device.load(family, plan, weights, &LoadOptions::default())?;
    let numbers: Vec<f32> = (0..32 * ROWS).map(|i| (i % 7) as f32 - 3.0).collect();
    let elems = |i: usize| plan.inputs[i].ty.shape.elems(&dims).unwrap() as usize;
    let inputs: Vec<_> = (0..plan.inputs.len()).map(|i| Some(Data::F32(&numbers[..elems(i)]))).collect();
    let mut words = vec![7u32; plan.outputs[0].ty.shape.elems(&dims).unwrap() as usize];
    executable.submit(&mut Bindings { dims, inputs: &inputs, outputs: &mut [&mut words] })?.wait()?;
    Ok(words)
}

fn written(device: &dyn Device, family: &PlanFamily, weights: &WeightSet, path: &Path) -> Artefact {
    let form = device.image_form().unwrap().name.to_owned();
    let (model, compiler) = (Hash([7; 32]), Hash([8; 32]));
    let header = Header { target: family.target.clone(), form, model, compiler, key: None };
    let image = device.image(weights).unwrap();
    let contents = Contents { header: &header, meta: &[], family, weights: image.bytes() };
    write(path, &contents, &mut |_| ControlFlow::Continue(())).unwrap();
    Artefact::open(path).unwrap()
}

#[test]
fn weights_without_elements_go_through_an_artefact() {
    let folder = tempfile::tempdir().unwrap();
    let cpu = CpuDevice::new(CpuOptions { threads: 2, isa: None, pin: false }).unwrap();
    let dims = Dims { rows: ROWS, ..Dims::single(ROWS, 1) };
    for (name, tail, bytes) in [("none", "output \"y\" = %y\n", false), ("some", BOTH, true)] {
        let graph = graph(&format!("{EMPTY}{tail}"));
        let (source, own) = (Weights::of(&graph), family(&graph, &cpu));
        let resident = cpu.upload(&own, &source, PoolSizes::pages(1)).unwrap();
        let want = step(&cpu, &own, &resident, dims).unwrap();
        assert_eq!(want.len(), 6 * ROWS as usize);
        assert_eq!(want.iter().all(|&w| w == 0), !bytes, "products and sums over no elements are 0, not -0");
        let artefact = written(&cpu, &own, &resident, &folder.path().join(name));
        assert_eq!(artefact.weights().bytes() > 0, bytes);
        let back = artefact.family().unwrap();
        for access in [ImageAccess::Read, ImageAccess::Map] {
            let resident = cpu.upload_image(&back, artefact.weights(), access, PoolSizes::pages(1)).unwrap();
            assert_eq!(step(&cpu, &back, &resident, dims).unwrap(), want, "{name} {access:?}");
        }
    }
}

#[test]
fn a_symbol_of_0_along_an_axis_that_needs_elements_is_refused_on_every_device() {
    let graph = graph("%x = input \"x\" : f32[2, rows]\n%y = reduce %x {kind = max, axis = 1}\noutput \"y\" = %y\n");
    let cpu = CpuDevice::new(CpuOptions { threads: 2, isa: None, pin: false }).unwrap();
    let (null, oracle) = (aio_backend::null::NullDevice::default(), InterpDevice::default());
    for device in [&cpu as &dyn Device, &null, &oracle] {
        let family = family(&graph, device);
        let resident = device.upload(&family, &Weights::of(&graph), PoolSizes::pages(1)).unwrap();
        let refused = step(device, &family, &resident, Dims::single(0, 1)).unwrap_err();
        assert!(matches!(refused, DeviceError::EmptyAxis { symbol: "rows", .. }), "{refused}");
        assert!(refused.to_string().contains("`reduce max` along axis 1"), "{refused}");
        step(device, &family, &resident, Dims::single(1, 1)).unwrap();
    }
}

#[test]
fn a_task_without_results_to_write_launches_nothing_on_cuda() {
    let Some(device) = cuda::device("cuda zero sizes", EmulationOptions::default()) else { return };
    let dims = Dims::single(ROWS, 1);
    for (columns, launches) in [(0, 0), (32, 1)] {
        let graph = graph(&format!("%x = input \"x\" : f32[rows, {columns}]\n%y = neg %x\noutput \"y\" = %y\n"));
        let family = family(&graph, &device);
        let resident = device.upload(&family, &Weights::of(&graph), PoolSizes::pages(1)).unwrap();
        let before = device.counters().launches;
        assert_eq!(step(&device, &family, &resident, dims).unwrap().len(), columns * ROWS as usize);
        assert_eq!(device.counters().launches - before, launches, "{columns} columns");
    }
}
