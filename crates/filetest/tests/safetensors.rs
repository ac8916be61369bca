//! The same weights as GGUF and in Hugging Face format give the same tokens and logits.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use aio_backend::Device;
use aio_backend_cpu::{CpuDevice, CpuOptions};
use aio_engine::{Engine, EngineOptions, OutputBuffer, Sequence, Step, StepRow, StepWants};
use aio_filetest::logits::bits_of;
use aio_filetest::{hugging_face, tiny};
use aio_interp::InterpDevice;
use aio_ir::DType;
use aio_model::Model;
use std::path::Path;
use std::sync::Arc;

const ROWS: usize = 70;

fn logits(model: Model, device: Arc<dyn Device>) -> Vec<u32> {
    let graph = tiny::graph(&model);
    let options = EngineOptions { context: Some(128), prefill_rows: ROWS as u32, ..EngineOptions::default() };
    let engine = Engine::load(model, &graph, device, &options).unwrap();
    let mut sequence = Sequence::new();
    engine.reserve(&mut sequence, ROWS).unwrap();
    let row = |p: usize| StepRow {
        token: (p * 37 % 256) as u32,
        sequence: 0,
        position: p,
        wants: if p % 10 == 9 { StepWants::Logits } else { StepWants::Nothing },
    };
    let rows: Vec<_> = (0..ROWS).map(row).collect();
    let step = Step { sequences: &mut [&mut sequence], rows: &rows, drafts: &[] };
    bits_of(engine.step(step, &mut OutputBuffer::new()).unwrap())
}

fn nmse(got: &[u32], want: &[u32]) -> f64 {
    let pairs = got.iter().zip(want).map(|(&g, &w)| (f64::from(f32::from_bits(g)), f64::from(f32::from_bits(w))));
    let (error, energy) = pairs.fold((0.0, 0.0), |(e, n), (g, w)| (e + (g - w) * (g - w), n + w * w));
    assert!(energy > 0.0 && got.len() == want.len());
    error / energy
}

fn open(folder: &Path, preset: &str, dtype: DType, parts: usize) -> Model {
    hugging_face::write(folder, preset, dtype, 7, parts);
    Model::open(folder).unwrap_or_else(|e| panic!("{preset}: {e}"))
}

#[test]
fn both_forms_give_the_same_logits() {
    let cpu: Arc<dyn Device> = Arc::new(CpuDevice::new(CpuOptions { threads: 2, isa: None, pin: false }).unwrap());
    let devices: [(&str, Arc<dyn Device>); 2] = [("cpu", cpu), ("oracle", Arc::new(InterpDevice::default()))];
    for (preset, parts) in [("qwen2-0.5b", 1), ("qwen3-0.6b", 3), ("llama-1b", 2), ("smollm2-135m", 1)] {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            for (name, device) in &devices {
                let folder = tempfile::tempdir().unwrap();
                let got = logits(open(folder.path(), preset, dtype, parts), Arc::clone(device));
                let want = logits(tiny::model(preset, dtype, 7).0, Arc::clone(device));
                let error = nmse(&got, &want);
                // The rows of Llama's heads are in a different order, so sums are too. Where activations are rounded to
                // 16 or 8 bits, a difference in the last bit may grow.
                let exact = preset.starts_with("qwen");
                let most = if *name == "oracle" { 1e-10 } else { 1e-9 };
                assert!(if exact { got == want } else { error < most }, "{preset} {dtype} on {name}: {error:e}");
            }
        }
    }
}

#[test]
fn hyper_parameters_and_tokens_are_those_of_the_gguf_file() {
    for preset in ["qwen2-0.5b", "qwen3-0.6b", "llama-1b", "smollm2-135m"] {
        let folder = tempfile::tempdir().unwrap();
        let mut got = open(folder.path(), preset, DType::F16, 1);
        let (want, _) = tiny::model(preset, DType::F16, 7);
        got.hyper.name = want.hyper.name.clone();
        assert_eq!(got.hyper, want.hyper);
        let (ours, theirs) = (got.tokenizer.vocab(), want.tokenizer.vocab());
        assert_eq!((ours.bos(), ours.eos(), ours.len()), (theirs.bos(), theirs.eos(), theirs.len()));
        let text = "a quick t<|im_end|> brown fox, 12\n";
        let ids = got.tokenizer.encode_prompt(text, true).unwrap();
        assert_eq!(ids, want.tokenizer.encode_prompt(text, true).unwrap());
        let factors = |m: &Model| m.weight("rope_freqs.weight").unwrap().map(|w| w.bytes.to_vec());
        assert_eq!(factors(&got), factors(&want));
        got.gguf.check_unchanged().unwrap();
    }
}

#[test]
fn a_part_or_the_index_stands_for_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let whole = open(folder.path(), "qwen2-0.5b", DType::F32, 3);
    for name in ["model-00002-of-00003.safetensors", "model.safetensors.index.json"] {
        let model = Model::open(folder.path().join(name)).unwrap();
        assert_eq!(model.gguf.tensors().len(), whole.gguf.tensors().len());
    }
    assert_eq!(whole.gguf.paths().len(), 3);
}
