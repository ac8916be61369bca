//! Synthetic models of every weight type and architecture against llama.cpp: teacher-forced logits of the same file.
//!
//! Runs if `AIO_PEER` names a folder made by `benches/peers/build`; otherwise skips.
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

use aio::backend::Device;
use aio::cpu::{CpuDevice, CpuOptions};
use aio::engine::{Engine, EngineOptions, OutputBuffer, Sequence, Step, StepRow, StepWants};
use aio::interp::InterpDevice;
use aio::ir::DType;
use aio::model::Model;
use aio::model::synth::{Preset, Synth};
use aio_filetest::needs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// The peer's program prints every `STRIDE`-th logit.
const STRIDE: usize = 16;
/// Margin at or above which the peer's arg-max counts as certain.
const MARGIN: f64 = 0.35;
/// Error bound: each side quantises activations to 8 bits in its own way, and the models have two layers.
const BOUND: f64 = 2e-3;

struct PeerRow {
    best: u32,
    margin: f64,
    logits: Vec<f64>,
}

fn peer_rows(folder: &Path, model: &Path, ids: &[u32]) -> Vec<PeerRow> {
    let list: Vec<_> = ids.iter().map(ToString::to_string).collect();
    let output = Command::new(folder.join("logits")).arg(model).arg(list.join(",")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let row = |line: &str| {
        let mut numbers = line.split(' ').map(|n| n.parse::<f64>().unwrap());
        PeerRow { best: numbers.next().unwrap() as u32, margin: numbers.next().unwrap(), logits: numbers.collect() }
    };
    text.lines().map(row).collect()
}

fn cpu() -> Arc<dyn Device> {
    Arc::new(CpuDevice::new(CpuOptions { threads: 2, isa: None, pin: false }).unwrap())
}

fn our_rows(device: Arc<dyn Device>, model: &Path, ids: &[u32]) -> Vec<Vec<f32>> {
    let options = EngineOptions { context: Some(256), ..EngineOptions::default() };
    let engine: Engine = aio::load(Model::open(model).unwrap(), device, &options).unwrap();
    let mut sequence = Sequence::new();
    engine.reserve(&mut sequence, ids.len()).unwrap();
    let row = |(p, &token): (usize, &u32)| StepRow { token, sequence: 0, position: p, wants: StepWants::Logits };
    let rows: Vec<_> = ids.iter().enumerate().map(row).collect();
    let width = engine.model().hyper.vocab_size as usize;
    let mut out = OutputBuffer::new();
    let step = Step { sequences: &mut [&mut sequence], rows: &rows, drafts: &[] };
    let logits = engine.step(step, &mut out).unwrap().logits().unwrap();
    logits.chunks(width).map(<[f32]>::to_vec).collect()
}

/// Compares one file on some tokens; returns the error over all positions. Where the peer is certain of its arg-max,
/// ours must be the same, unless the oracle, which does not round activations, is uncertain. For K-quants, llama.cpp
/// quantises activations in blocks of 256, eight times as coarse as ours, so its own margins move more there.
fn compare_file(folder: &Path, label: &str, file: &Path, ids: &[u32]) -> f64 {
    let (theirs, ours) = (peer_rows(folder, file, ids), our_rows(cpu(), file, ids));
    assert_eq!(theirs.len(), ours.len());
    let (mut error, mut total, mut certain, mut flips) = (0.0, 0.0, 0, Vec::new());
    for (i, (their, our)) in theirs.iter().zip(&ours).enumerate() {
        for (&want, &got) in their.logits.iter().zip(our.iter().step_by(STRIDE)) {
            error += (f64::from(got) - want).powi(2);
            total += want * want;
        }
        let best = argmax(our);
        if their.margin >= MARGIN {
            certain += 1;
            if best != their.best {
                flips.push((i, their.margin));
            }
        }
    }
    let nmse = error / total;
    println!("{label}: logits NMSE {nmse:.2e}, {certain} of {} arg-maxes certain, flips {flips:?}", ids.len());
    if !flips.is_empty() {
        let exact = our_rows(Arc::new(InterpDevice::default()), file, ids);
        for (i, margin) in flips {
            let (best, lead) = (argmax(&exact[i]), margin_of(&exact[i]));
            println!("{label}, position {i}: the peer leads by {margin}, the oracle chooses {best} by {lead}");
            assert!(best == argmax(&ours[i]) || lead < MARGIN, "{label}, position {i}: the oracle is certain too");
        }
    }
    nmse
}

fn argmax(row: &[f32]) -> u32 {
    (0..row.len()).max_by(|&i, &j| row[i].total_cmp(&row[j]).then(j.cmp(&i))).unwrap() as u32
}

/// Compares one synthetic model.
fn compare(folder: &Path, preset: &Preset, dtype: DType) -> f64 {
    let file = tempfile::Builder::new().suffix(".gguf").tempfile().unwrap();
    let synth = Synth::new(preset, dtype, 11).unwrap();
    std::fs::write(file.path(), synth.to_bytes().unwrap()).unwrap();
    let ids: Vec<u32> = (0..40).map(|i| (i * 37 + 11) % 256).collect();
    compare_file(folder, &format!("{} {dtype}", preset.architecture), file.path(), &ids)
}

/// The lead of the largest logit over the second.
fn margin_of(row: &[f32]) -> f64 {
    let best = argmax(row) as usize;
    let others = row.iter().enumerate().filter(|(i, _)| *i != best).map(|(_, &v)| v);
    f64::from(row[best] - others.fold(f32::NEG_INFINITY, f32::max))
}

#[test]
fn every_weight_type_agrees_with_llama_cpp() {
    let Some(folder) = needs::peer("every_weight_type") else { return };
    let preset = Preset::find("llama-1b").unwrap().tiny();
    for &dtype in DType::ALL.iter().filter(|t| t.is_float()) {
        let nmse = compare(&folder, &preset, dtype);
        assert!(nmse <= BOUND, "{dtype}: {nmse}");
    }
}

#[test]
fn every_architecture_agrees_with_llama_cpp() {
    let Some(folder) = needs::peer("every_architecture") else { return };
    for (_, name) in aio_filetest::tiny::architectures() {
        for dtype in [DType::F16, DType::Q8_0, DType::Q4_1] {
            let nmse = compare(&folder, &Preset::find(&name).unwrap().tiny(), dtype);
            assert!(nmse <= BOUND, "{name} {dtype}: {nmse}");
        }
    }
}

/// Llama with the biases that llama.cpp reads for it, and Qwen2 with a bias of the head. llama.cpp accepts scales only
/// with a few weight types; `optional_tensors` of aio-filetest tests those.
#[test]
fn optional_tensors_agree_with_llama_cpp() {
    let Some(folder) = needs::peer("optional_tensors") else { return };
    let ffn = ["ffn_gate.bias", "ffn_up.bias", "ffn_down.bias"];
    let attention = ["attn_q.bias", "attn_k.bias", "attn_v.bias", "attn_output.bias"];
    for (name, more) in [("llama-1b", &ffn[..]), ("llama-1b", &attention), ("qwen2-0.5b", &["output.bias"])] {
        let mut preset = Preset::find(name).unwrap().tiny();
        preset.optional.extend(more.iter().map(|&o| o.to_owned()));
        let nmse = compare(&folder, &preset, DType::F16);
        assert!(nmse <= BOUND, "{name} with {more:?}: {nmse}");
    }
}

#[test]
fn the_default_model_in_other_types_agrees_with_llama_cpp() {
    let Some(folder) = needs::peer("default_model_in_other_types") else { return };
    let Some(model) = needs::default_model("default_model_in_other_types") else { return };
    let scratch = tempfile::tempdir().unwrap();
    let cases: serde_json::Value = serde_json::from_str(include_str!("data/golden-smollm2.json")).unwrap();
    let mut ids: Vec<u32> = Vec::new();
    for case in cases.as_array().unwrap() {
        let list = |key: &str| case[key].as_array().unwrap().clone();
        ids.extend(list("prompt_ids").iter().chain(&list("greedy_ids")).map(|n| n.as_u64().unwrap() as u32));
    }
    ids.truncate(200);
    for name in ["Q4_0", "Q8_0", "Q4_K_M", "Q5_K_M", "Q6_K", "F16"] {
        let file = scratch.path().join(format!("{name}.gguf"));
        let mut quantize = Command::new(folder.join("llama-quantize"));
        let output = quantize.arg("--allow-requantize").arg(&model).arg(&file).arg(name).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let nmse = compare_file(&folder, name, &file, &ids);
        assert!(nmse <= 1e-2, "{name}: {nmse}");
        std::fs::remove_file(&file).unwrap();
    }
}
