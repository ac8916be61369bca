//! Devices and packing: mismatched handles, weights and bindings.

use crate::Table;
use crate::graph::graph;
use aio::backend::LoadOptions;
use aio::backend::null::{NullDevice, permissive_target};
use aio::backend::{Bindings, Data, Device, WeightData, WeightSource};
use aio::compiler::{Options, compile};
use aio::cpu::pack::{PackArgs, pack};
use aio::cpu::{CpuDevice, CpuOptions, IsaLevel};
use aio::ir::{DType, Dims, verify};
use aio::plan::{Bucket, PlanFamily, PoolSizes, Tail, Target};

/// A model without weights.
struct Nothing;

impl WeightSource for Nothing {
    fn weight(&self, _: &str) -> Option<WeightData<'_>> {
        None
    }
}

fn family(body: &str, target: &Target) -> PlanFamily {
    let bucket = Bucket { rows: 1, seqs: 1, outs: 1, tail: Tail::Logits, verify: false };
    compile(verify(&graph(body)).unwrap(), target, &Options { buckets: vec![bucket], fuse: true }).unwrap().family
}

fn packing(table: &mut Table) {
    let args = |dtype, cols| PackArgs { dtype, rows: 16, cols, source: &[], groups: 0..1 };
    table.add("PackError", pack(&args(DType::I32, 32), &mut []).unwrap_err());
    table.add("PackError", pack(&args(DType::Q4_0, 32), &mut []).unwrap_err());
}

pub(crate) fn cause(table: &mut Table) {
    packing(table);
    let cpu = CpuDevice::new(CpuOptions { threads: 1, isa: Some(IsaLevel::Portable), pin: false }).unwrap();
    let linear =
        "%x = input \"x\" : f32[rows, 32]\n%w = weight \"w\" : f32[16, 32]\n%y = matmul %x, %w\noutput \"y\" = %y\n";
    let plain = family(linear, &cpu.target());
    table.add("DeviceError", cpu.upload(&plain, &Nothing, PoolSizes::pages(1)).unwrap_err());
    let foreign =
        NullDevice::default().upload(&family(NEG, &permissive_target("null")), &Nothing, PoolSizes::pages(1)).unwrap();
    table.add("DeviceError", cpu.copy_pages(&foreign, &[]).unwrap_err());
    // The compiler asks the target first, so a plan for another device is needed to get this device's error.
    let other = family(NEG, &permissive_target("any"));
    let resident = cpu.upload(&other, &Nothing, PoolSizes::pages(1)).unwrap();
    let many = family(RANK_9, &permissive_target("any"));
    table.add("DeviceError", cpu.load(&many, &many.plans[0], &resident, &LoadOptions::default()).err().unwrap());
    table.add("DeviceError", cpu.copy_pages(&resident, &[(0, 9)]).unwrap_err());
    let state = "%s = state \"s\" : f16[pages, 2, 8, 64, 1048576]\n%x = input \"x\" : f32[4]\n%y = neg %x\noutput \"y\" = %y\n\
                 %k = input \"k\" : f32[rows, 8, 1048576]\n%t = input \"t\" : u32[seqs, stride]\n%r = input \"r\" : u32[rows]\n\
                 %p = input \"p\" : u32[rows]\n%n = page_write %s, %k, %k, %t, %r, %p\nfinal %s = %n\n";
    let huge = family(state, &permissive_target("any"));
    table.add("DeviceError", cpu.upload(&huge, &Nothing, PoolSizes::pages(u32::MAX)).unwrap_err());
    table.add("DeviceError", cpu.load_burst(&other, &other.plans[0], &resident).err().unwrap());
    empty_axis(table);
    let null = NullDevice::default();
    table.add("DeviceError", null.trace().unwrap_err());
    let mut executable = null.load(&other, &other.plans[0], &foreign, &LoadOptions::default()).unwrap();
    let mut bindings = Bindings { dims: Dims::default(), inputs: &[None], outputs: &mut [&mut [0; 4]] };
    table.add("DeviceError", executable.submit(&mut bindings).err().unwrap());
}

/// A step with zero elements where an op needs at least one.
fn empty_axis(table: &mut Table) {
    let null = NullDevice::default();
    let top = family("%x = input \"x\" : f32[3, rows]\n%y = argmax %x\noutput \"y\" = %y\n", &null.target());
    let resident = null.upload(&top, &Nothing, PoolSizes::pages(1)).unwrap();
    let mut executable = null.load(&top, &top.plans[0], &resident, &LoadOptions::default()).unwrap();
    let nothing = [Some(Data::F32(&[]))];
    let mut bindings = Bindings { dims: Dims::default(), inputs: &nothing, outputs: &mut [&mut [0; 3]] };
    table.add("DeviceError", executable.submit(&mut bindings).err().unwrap());
}

const RANK_9: &str = "%x = input \"x\" : f32[1, 1, 1, 1, 1, 1, 1, 1, 4]\n%y = neg %x\noutput \"y\" = %y\n";
const NEG: &str = "%x = input \"x\" : f32[4]\n%y = neg %x\noutput \"y\" = %y\n";
