//! Model files: opening a GGUF file, rendering its graph, building the tokenizer, and texts to tokens and back.
//!
//! Run with `cargo bench --bench models`. The synthetic model is always there; the default model (BPE with 49152 tokens) if it
//! is in the cache folder (`aio pull`).

use aio::model::Model;
use aio::model::gguf::Gguf;
use aio::model::synth::{Preset, Synth};
use aio::model::tokenizer::Tokenizer;
use aio_filetest::{needs, tiny, workspace};
use criterion::{BenchmarkId, Criterion, Throughput};
use std::hint::black_box;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Model files by name.
fn models(folder: &Path) -> Vec<(&'static str, PathBuf)> {
    let preset = Preset::find("smollm2-135m").expect("the preset exists").tiny();
    let synth = Synth::new(&preset, aio::ir::DType::Q4_1, 1).expect("the preset can be made");
    let path = folder.join("synthetic.gguf");
    synth.write_to(&path, &mut |_| ControlFlow::Continue(())).expect("the folder can be written");
    let default = needs::default_model("models").map(|path| ("default", path));
    std::iter::once(("synthetic", path)).chain(default).collect()
}

fn open(c: &mut Criterion, models: &[(&str, PathBuf)]) {
    let mut group = c.benchmark_group("gguf");
    let templates = tiny::templates();
    for (name, path) in models {
        group.bench_function(BenchmarkId::new("open", name), |b| b.iter(|| Gguf::open(black_box(path)).is_ok()));
        let gguf = Gguf::open(path).expect("the model is valid");
        group.bench_function(BenchmarkId::new("tokenizer", name), |b| {
            b.iter(|| Tokenizer::from_gguf(black_box(&gguf)).is_ok());
        });
        group.bench_function(BenchmarkId::new("model", name), |b| b.iter(|| Model::open(black_box(path)).is_ok()));
        let model = Model::open(path).expect("the model is valid");
        group.bench_function(BenchmarkId::new("graph", name), |b| {
            b.iter(|| black_box(&model).graph(&templates, None).is_ok());
        });
    }
    group.finish();
}

/// The prompts of a workload, one after the other.
fn text(workload: &str) -> String {
    let file = std::fs::read_to_string(workspace("benches/workloads").join(format!("{workload}.jsonl")));
    let lines = file.expect("the workload is there");
    let prompt = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).expect("a line is an object");
        value["prompt"].as_str().unwrap_or_default().to_owned()
    };
    lines.lines().map(prompt).collect::<Vec<_>>().join("\n")
}

fn tokens(c: &mut Criterion, models: &[(&str, PathBuf)]) {
    let mut group = c.benchmark_group("tokens");
    for (name, path) in models {
        let tokenizer = Model::open(path).expect("the model is valid").tokenizer;
        for workload in ["prose", "code", "grounded"] {
            let text = text(workload);
            let ids = tokenizer.encode(&text, true).expect("any text can be encoded");
            let id = |what: &str| BenchmarkId::new(format!("{what}/{workload}"), name);
            group.throughput(Throughput::Bytes(text.len() as u64));
            group.bench_function(id("encode"), |b| b.iter(|| tokenizer.encode(black_box(&text), true).is_ok()));
            group.throughput(Throughput::Elements(ids.len() as u64));
            group.bench_function(id("decode"), |b| b.iter(|| tokenizer.decode(black_box(&ids), true).is_ok()));
        }
    }
    group.finish();
}

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let models = models(folder.path());
    let (warm_up, measured) = (Duration::from_millis(300), Duration::from_secs(1));
    let criterion = Criterion::default().warm_up_time(warm_up).measurement_time(measured);
    let mut criterion = criterion.configure_from_args();
    open(&mut criterion, &models);
    tokens(&mut criterion, &models);
    criterion.final_summary();
}
