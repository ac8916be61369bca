//! Artefacts: each kind of damage, and artefacts from other programs and devices.

use crate::Table;
use crate::graph::graph;
use aio::backend::null::NullDevice;
use aio::backend::{Device, ImageAccess, WeightSet};
use aio::compiler::{Options, compile};
use aio::cpu::{CpuDevice, CpuOptions, IsaLevel};
use aio::engine::{Engine, EngineOptions};
use aio::ir::verify;
use aio::plan::artefact::{Artefact, ArtefactError, Contents, Hash, Header, decode, encode, write};
use aio::plan::{Bucket, PlanFamily, PoolSizes, Tail};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

const LINEAR: &str =
    "%x = input \"x\" : f32[rows, 32]\n%w = weight \"w\" : f32[16, 32]\n%y = matmul %x, %w\noutput \"y\" = %y\n";

fn device() -> Arc<CpuDevice> {
    Arc::new(CpuDevice::new(CpuOptions { threads: 1, isa: Some(IsaLevel::Portable), pin: false }).unwrap())
}

fn family() -> PlanFamily {
    let bucket = Bucket { rows: 1, seqs: 1, outs: 1, tail: Tail::Logits, verify: false };
    let options = Options { buckets: vec![bucket], fuse: true };
    compile(verify(&graph(LINEAR)).unwrap(), &device().target(), &options).unwrap().family
}

fn write_to(path: &Path, weights: &[u8]) -> Result<(), ArtefactError> {
    let (target, form) = ("cpu-portable".to_owned(), "cpu-rows16".to_owned());
    let header = Header { target, form, model: Hash([1; 32]), compiler: Hash([2; 32]), key: None };
    let contents = Contents { header: &header, meta: b"meta", family: &family(), weights };
    write(path, &contents, &mut |_| ControlFlow::Continue(())).map(drop)
}

fn files(table: &mut Table, folder: &Path) {
    let path = folder.join("a.aio");
    let mut bad = |e: ArtefactError| table.add_in(folder, "ArtefactError", e);
    bad(Artefact::open(&path).unwrap_err());
    bad(write_to(&folder.join("none/a.aio"), &[]).unwrap_err());
    write_to(&path, &[3; 100]).unwrap();
    let good = std::fs::read(&path).unwrap();
    let mut changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        bad(Artefact::open(&path).unwrap_err());
    };
    changed(&|b| b[..8].copy_from_slice(b"GGUF\0\0\0\0"));
    changed(&|b| b[8] = 9);
    changed(&|b| b[12..16].reverse());
    changed(&|b| b[90] ^= 1);
    changed(&|b| b[512] ^= 1);
    changed(&|b| b.truncate(1000));
    std::fs::write(&path, &good).unwrap();
    let artefact = Artefact::open(&path).unwrap();
    bad(artefact.check_made_for("cuda-tiles", Hash([2; 32])).unwrap_err());
    bad(artefact.check_made_for("cpu-rows16", Hash([4; 32])).unwrap_err());
    let last = good.len() - 1;
    std::fs::write(&path, [&good[..last], &[0]].concat()).unwrap();
    bad(artefact.weights().read_chunk(0, &mut [0; 100]).unwrap_err());
    std::fs::write(&path, b"").unwrap();
    bad(artefact.weights().map().unwrap_err());
}

fn plans(table: &mut Table) {
    table.add("ArtefactError", decode(&[]).unwrap_err());
    let mut odd = family();
    odd.alignment = 48;
    table.add("ArtefactError", decode(&encode(&odd)).unwrap_err());
}

fn devices(table: &mut Table, folder: &Path) {
    let path = folder.join("b.aio");
    write_to(&path, &[0; 64]).unwrap();
    let artefact = Artefact::open(&path).unwrap();
    let options = EngineOptions::default();
    let again = Artefact::open(&path).unwrap();
    let stale = Engine::from_artefact(again, device(), &options, ImageAccess::Read).unwrap_err();
    // The message contains the hash of this very source; its wording is a separate row, with fixed hashes.
    let shown = stale.to_string();
    let (before, _) = shown.split_once(" (compiler").unwrap();
    table.named("EngineError::Artefact", before);
    table.add("DeviceError", NullDevice::default().image(&WeightSet::new(())).unwrap_err());
    table.add(
        "DeviceError",
        device().upload_image(&family(), artefact.weights(), ImageAccess::Read, PoolSizes::pages(1)).unwrap_err(),
    );
}

pub(crate) fn cause(table: &mut Table) {
    let folder = tempfile::tempdir().unwrap();
    files(table, folder.path());
    plans(table);
    devices(table, folder.path());
}
