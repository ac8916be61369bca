//! Complete models: synthetic ones of every preset and type, and the default model.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use aio_filetest::needs;
use aio_ir::DType;
use aio_model::chat::{Clock, Message};
use aio_model::gguf::{Gguf, GgufError};
use aio_model::synth::{Preset, Synth, SynthError, presets};
use aio_model::{Model, ModelError};

fn tiny(preset: &Preset, dtype: DType) -> Model {
    let bytes = Synth::new(&preset.tiny(), dtype, 7).unwrap().to_bytes().unwrap();
    Model::from_gguf(Gguf::from_bytes(bytes).unwrap()).unwrap()
}

#[test]
fn every_preset_opens() {
    for preset in presets() {
        let model = tiny(&preset, DType::Q4_0);
        let h = &model.hyper;
        assert_eq!((&h.architecture, h.context_length, h.vocab_size), (&preset.architecture, 512, 512));
        assert!(model.warnings().is_empty());
        for name in &preset.optional {
            let all = model.gguf.tensors().iter().filter(|t| t.name == *name || t.name.ends_with(&format!(".{name}")));
            assert!(all.count() > 0, "{name}");
        }
        let down = model.need_weight("blk.1.ffn_down.weight").unwrap();
        assert_eq!((down.dtype, down.shape, down.bytes.len()), (DType::Q4_0, vec![256, 512], 256 * 512 / 32 * 18));
        assert_eq!(model.tokenizer.encode("<|im_end|>", true).unwrap(), [259]);
        assert!(model.tokenizer.vocab().is_end(259));
    }
}

#[test]
fn every_weight_type_is_written_and_reproducible() {
    let preset = Preset::find("smollm2-135m").unwrap().tiny();
    for &dtype in DType::ALL {
        let synth = Synth::new(&preset, dtype, 3);
        if dtype.ggml_id().is_none() || !dtype.is_float() {
            assert!(matches!(synth, Err(SynthError::Type { .. })), "{dtype}");
            continue;
        }
        let synth = synth.unwrap();
        assert!(synth.fallbacks().is_empty());
        let bytes = synth.to_bytes().unwrap();
        assert_eq!(bytes.len() as u64, synth.file_bytes().unwrap());
        assert_eq!(bytes, Synth::new(&preset, dtype, 3).unwrap().to_bytes().unwrap());
        assert_ne!(bytes, Synth::new(&preset, dtype, 4).unwrap().to_bytes().unwrap());
    }
}

#[test]
fn decoded_noise_has_the_wanted_deviation() {
    // Q8_0 is the one block type that can be decoded in one line.
    let model = tiny(&Preset::find("qwen3-0.6b").unwrap(), DType::Q8_0);
    let weight = model.need_weight("blk.0.ffn_up.weight").unwrap();
    let values = weight.bytes.chunks(34).flat_map(|b| {
        let d = half::f16::from_le_bytes([b[0], b[1]]).to_f64();
        b[2..].iter().map(move |&q| d * f64::from(q as i8))
    });
    let (sum, square, n) = values.fold((0.0, 0.0, 0.0), |(s, q, n), v| (s + v, q + v * v, n + 1.0));
    let (mean, deviation) = (sum / n, f64::sqrt(square / n));
    assert!(mean.abs() < 1e-3 && (deviation * 16.0 - 1.0).abs() < 0.05, "{mean} {deviation}");
}

#[test]
fn rows_of_partial_blocks_fall_back() {
    let mut preset = Preset::find("smollm2-135m").unwrap().tiny();
    (preset.embedding_length, preset.feed_forward_length) = (96, 200);
    let synth = Synth::new(&preset, DType::Q4K, 1).unwrap();
    let got = |name: &str| synth.fallbacks().iter().find(|f| f.tensor == name).unwrap().got;
    assert_eq!(got("token_embd.weight"), DType::Q5_0);
    assert_eq!(got("blk.0.ffn_down.weight"), DType::F16);
    preset.vocab_size = 100;
    assert!(matches!(Synth::new(&preset, DType::F32, 1), Err(SynthError::Vocab { got: 100 })));
    preset.vocab_size = 512;
    preset.optional = vec!["attn_q.bias".to_owned(), "attn_z.bias".to_owned()];
    assert!(matches!(Synth::new(&preset, DType::F32, 1), Err(SynthError::Optional { name }) if name == "attn_z.bias"));
    preset.block_count = 0;
    preset.optional.clear();
    assert!(matches!(Synth::new(&preset, DType::F32, 1), Err(SynthError::Zero { field: "block_count" })));
}

#[test]
fn missing_files_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("none.gguf");
    assert!(matches!(Model::open(&path), Err(ModelError::Gguf(GgufError::Map(_)))));
    std::fs::write(&path, b"PK\x03\x04 is a zip").unwrap();
    let message = Model::open(&path).unwrap_err().to_string();
    assert!(message.contains("none.gguf") && message.contains("not a GGUF file"), "{message}");
}

#[test]
fn the_default_model() {
    let Some(path) = needs::default_model("the_default_model") else { return };
    let model = Model::open(path).unwrap();
    let h = &model.hyper;
    assert_eq!((h.architecture.as_str(), h.context_length, h.vocab_size), ("llama", 8192, 49_152));
    model.graph(&aio_filetest::tiny::templates(), None).unwrap();
    let w = model.need_weight("blk.29.ffn_down.weight").unwrap();
    assert_eq!((w.shape, w.bytes.len()), (vec![576, 1536], 576 * 1536 / 32 * w.dtype.block_bytes()));
    model.gguf.check_unchanged().unwrap();
    let chat = model.chat_template(Clock { unix_s: 0 }).unwrap().unwrap();
    let prompt = chat.render(&[Message::new("user", "hi")], true, "<|im_start|>", "<|im_end|>").unwrap();
    let expected = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n\
                    <|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(prompt, expected);
}
