//! Damaged, hostile or contradictory GGUF files.

use crate::Table;
use aio::ir::DType;
use aio::model::gguf::write::{GgufWriter, TensorSpec};
use aio::model::gguf::{Gguf, GgufError};
use std::io::Write;
use std::path::Path;

fn put_text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

/// A file with this many tensors and entries, and `body` after its header.
fn file(tensors: u64, entries: u64, body: &[u8]) -> Vec<u8> {
    let mut out = [b"GGUF\x03\0\0\0".as_slice(), &tensors.to_le_bytes(), &entries.to_le_bytes(), body].concat();
    out.resize(out.len().next_multiple_of(32) + 256, 0);
    out
}

fn entry(key: &str, ty: u32, value: &[u8]) -> Vec<u8> {
    [&put_text(key), ty.to_le_bytes().as_slice(), value].concat()
}

fn tensor(name: &str, dims: &[u64], ty: u32, offset: u64) -> Vec<u8> {
    let sizes: Vec<u8> = dims.iter().flat_map(|d| d.to_le_bytes()).collect();
    let count = (dims.len() as u32).to_le_bytes();
    [&put_text(name), count.as_slice(), &sizes, &ty.to_le_bytes(), &offset.to_le_bytes()].concat()
}

fn zeros(spec: &TensorSpec, out: &mut dyn Write) -> std::io::Result<()> {
    out.write_all(&vec![0; spec.bytes().unwrap() as usize])
}

fn forms(table: &mut Table) {
    let mut bad = |bytes: Vec<u8>| table.add("GgufError", Gguf::from_bytes(bytes).unwrap_err());
    bad(b"PK\x03\x04".to_vec());
    bad(b"FUGG\0\0\0\x03".to_vec());
    bad(b"GGUF\x09\0\0\0".to_vec());
    bad(b"GGUF\x03".to_vec());
    bad(file(u64::MAX, 0, &[]));
    bad(file(0, 1, &entry("k", 13, &[])));
    bad(file(0, 1, &entry("k", 7, &[2])));
    let level = [&9u32.to_le_bytes()[..], &1u64.to_le_bytes()].concat();
    bad(file(0, 1, &entry("k", 9, &level.repeat(9))));
    bad(file(0, 2, &entry("k", 0, &[1]).repeat(2)));
    bad(file(0, 1, &entry("general.alignment", 4, &24u32.to_le_bytes())));
    bad(file(2, 0, &tensor("t", &[8], 0, 0).repeat(2)));
    bad(file(1, 0, &tensor("t", &[1; 5], 0, 0)));
    bad(file(1, 0, &tensor("t", &[33], 2, 0)));
    bad(file(1, 0, &tensor("t", &[8], 0, 8)));
    bad(file(1, 0, &tensor("t", &[8], 0, 1 << 20)));
    bad(file(2, 0, &[tensor("t", &[16], 0, 0), tensor("u", &[8], 0, 32)].concat()));
    bad(file(0, 1, &entry("split.count", 4, &2u32.to_le_bytes())));
}

fn access(table: &mut Table) {
    let open = |tensors, entries, body: &[u8]| Gguf::from_bytes(file(tensors, entries, body)).unwrap();
    let gguf = open(0, 1, &entry("n", 10, &(1u64 << 40).to_le_bytes()));
    table.add("GgufError", gguf.need_u32("absent").unwrap_err());
    table.add("GgufError", gguf.get_str("n").unwrap_err());
    table.add("GgufError", gguf.get_u32("n").unwrap_err());
    table.add("GgufError", gguf.tensor_data("absent").unwrap_err());
    let latin = open(0, 1, &entry("k", 8, &[&1u64.to_le_bytes()[..], &[0xe4]].concat()));
    table.add("GgufError", latin.get_str("k").unwrap_err());
    let unknown = open(1, 0, &tensor("t", &[256], 23, 0));
    table.add("GgufError", unknown.tensor_data("t").unwrap_err());
}

fn split(table: &mut Table, folder: &Path) {
    let part = |number: u16, says: u16, tensors: i32, name: &str| {
        let mut w = GgufWriter::new();
        w.set("split.no", says).set("split.count", 2u16).set("split.tensors.count", tensors);
        w.tensor(name, DType::F32, &[8]);
        let path = folder.join(format!("m-{number:05}-of-00002.gguf"));
        w.write_to(&path, &mut zeros).unwrap();
        path
    };
    let inner = |path: &Path| match Gguf::open(path).unwrap_err() {
        GgufError::InFile { source, .. } => *source,
        other => other,
    };
    let first = part(1, 0, 3, "a");
    part(2, 1, 3, "b");
    table.add("GgufError", inner(&first));
    part(2, 0, 2, "b");
    table.add("GgufError", inner(&first));
    let mut w = GgufWriter::new();
    w.set("split.no", 1u16).set("split.count", 2u16).set("llama.block_count", 1u32);
    w.write_to(&folder.join("m-00002-of-00002.gguf"), &mut zeros).unwrap();
    table.add("GgufError", inner(&first));
}

fn files(table: &mut Table, folder: &Path) {
    let path = folder.join("model.gguf");
    let open = |path: &Path| Gguf::open(path).unwrap_err();
    let mut map = |e: GgufError| {
        let GgufError::Map(source) = &e else { panic!("{e:?}") };
        let shown = format!("{source:?}");
        let message = source.to_string().replace(&folder.display().to_string(), "DIR");
        // The rest of the message depends on the time.
        let message = message.split(": modification time").next().unwrap();
        table.named(&format!("MapError::{}", shown.split(' ').next().unwrap()), message);
        table.add_in(folder, "GgufError", e);
    };
    map(open(&path));
    std::fs::write(&path, b"").unwrap();
    map(open(&path));
    map(open(folder));
    let mut w = GgufWriter::new();
    w.tensor("t", DType::F32, &[8]);
    w.write_to(&path, &mut zeros).unwrap();
    let gguf = Gguf::open(&path).unwrap();
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(9);
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
    map(gguf.check_unchanged().unwrap_err());
    std::fs::write(&path, b"PK\x03\x04").unwrap();
    table.add_in(folder, "GgufError", open(&path));
    table.add_in(folder, "GgufError", w.write_to(&folder.join("no/m.gguf"), &mut zeros).unwrap_err());
    table.add("GgufError", w.to_bytes(&mut |_, out| out.write_all(b"x")).unwrap_err());
}

pub(crate) fn cause(table: &mut Table) {
    let folder = tempfile::tempdir().unwrap();
    forms(table);
    access(table);
    split(table, folder.path());
    files(table, folder.path());
}
