//! Folders in Hugging Face's format that are truncated, hostile or inconsistent give errors, never a panic.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use aio_filetest::hugging_face;
use aio_ir::DType;
use aio_model::safetensors::SafetensorsError;
use aio_model::{Model, ModelError};
use serde_json::{Value, json};
use std::path::Path;

fn folder(dtype: DType) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    hugging_face::write(folder.path(), "llama-1b", dtype, 7, 1);
    folder
}

fn alter(folder: &Path, file: &str, change: impl FnOnce(&mut Value)) {
    let path = folder.join(file);
    let mut value: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

/// The error message for a folder with one key of a file changed.
fn message(file: &str, pointer: &str, new: Value) -> String {
    let folder = folder(DType::F16);
    alter(folder.path(), file, |v| *v.pointer_mut(pointer).unwrap() = new);
    let model = Model::open(folder.path());
    model.and_then(|m| m.graph(&aio_filetest::tiny::templates(), None)).unwrap_err().to_string()
}

#[test]
fn truncated_weights_are_errors() {
    let folder = folder(DType::F16);
    let path = folder.path().join("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    for length in [1, 7, 8, 9, header - 1, header, header + 1, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = Model::open(folder.path()).unwrap_err();
        assert!(matches!(error, ModelError::Safetensors(SafetensorsError::Header { .. })), "{length}: {error}");
    }
    std::fs::write(&path, [u64::MAX.to_le_bytes().as_slice(), &whole[8..]].concat()).unwrap();
    assert!(matches!(Model::open(folder.path()), Err(ModelError::Safetensors(SafetensorsError::Header { .. }))));
}

#[test]
fn no_flipped_byte_of_a_header_panics() {
    let folder = folder(DType::F16);
    let path = folder.path().join("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    for at in (0..400).step_by(3) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x15;
        std::fs::write(&path, damaged).unwrap();
        let _ = Model::open(folder.path());
    }
}

#[test]
fn what_would_give_another_model_is_refused() {
    for (key, new, expected) in [
        ("/model_type", json!("gemma"), "model_type \"gemma\""),
        ("/hidden_act", json!("gelu"), "hidden_act"),
        ("/rope_scaling/rope_type", json!("longrope"), "rope_type \"longrope\""),
        ("/rope_scaling/factor", json!(0.5), "factor of rope_scaling"),
        ("/rope_scaling/high_freq_factor", json!(1.0), "high_freq_factor"),
        ("/num_attention_heads", json!(0), "num_attention_heads"),
        ("/num_attention_heads", json!(-4), "config.json: invalid value"),
        ("/vocab_size", json!(u32::MAX), "the token embedding is [512, 256]"),
        ("/hidden_size", json!(0), "the token embedding is [512, 256]"),
        ("/tie_word_embeddings", json!(false), "lacks the tensor \"lm_head.weight\""),
        ("/num_hidden_layers", json!(0), "block_count"),
        ("/rms_norm_eps", json!("small"), "config.json: invalid type"),
    ] {
        let message = message("config.json", key, new);
        assert!(message.contains(expected), "{key}: {message}");
    }
    for (key, new, expected) in [
        ("layer_types", json!(["full_attention", "sliding_attention"]), "layer_types"),
        ("is_causal", json!(false), "is_causal"),
    ] {
        let folder = folder(DType::F16);
        alter(folder.path(), "config.json", |v| v[key] = new);
        let message = Model::open(folder.path()).unwrap_err().to_string();
        assert!(message.contains(expected), "{key}: {message}");
    }
    for (key, new, expected) in [
        ("/model/type", json!("Unigram"), "of type Unigram"),
        ("/normalizer", json!({"type": "Lowercase"}), "normalizer \"Lowercase\""),
        ("/pre_tokenizer", json!({"type": "Whitespace"}), "its pre_tokenizer is not supported"),
        ("/model/merges", json!(["a"]), "is not a pair"),
        ("/model/merges", json!(7), "tokenizer.json: model: "),
        ("/added_tokens/0/id", json!(512), "below vocab_size 512"),
    ] {
        let message = message("tokenizer.json", key, new);
        assert!(message.contains(expected), "{key}: {message}");
    }
}

#[test]
fn scaling_and_added_tokens_reach_the_model() {
    let folder = folder(DType::F32);
    let yarn = json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 16.0,
                      "attention_factor": 1.0});
    alter(folder.path(), "config.json", |v| v["rope_scaling"] = yarn);
    let template =
        json!({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<|im_start|>"}}, {"Sequence": {}}]});
    alter(folder.path(), "tokenizer.json", |v| v["post_processor"] = template);
    std::fs::write(folder.path().join("chat_template.jinja"), "{{ messages }}").unwrap();
    let model = Model::open(folder.path()).unwrap();
    let text = model.graph_text(&aio_filetest::tiny::templates(), None).unwrap();
    let rope = text.lines().find(|l| l.contains(" = rope ")).unwrap();
    assert!(rope.contains("scaling = yarn, factor = 4.0, original_context = 64") && rope.contains("beta_fast = 16.0"));
    let attn_factor: f32 = rope.split("attn_factor = ").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
    let magnitude = attn_factor * (1.0 + 0.1 * 4.0f32.ln());
    assert!((magnitude - 1.0).abs() < 1e-6, "{magnitude}");
    assert!(!text.contains("rope_freqs"));
    let bos = model.tokenizer.vocab().bos().unwrap();
    assert_eq!(model.tokenizer.encode_prompt("a", true).unwrap(), [bos, 97]);
    assert!(model.chat_template(aio_model::chat::Clock { unix_s: 0 }).unwrap().is_some());
}
