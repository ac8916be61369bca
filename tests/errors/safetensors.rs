//! Folders in Hugging Face format that are not valid models.

use crate::Table;
use aio::ir::DType;
use aio::model::{Model, ModelError};
use aio_filetest::hugging_face;
use serde_json::{Value, json};
use std::path::Path;

fn change(folder: &Path, file: &str, change: impl FnOnce(&mut Value)) {
    let path = folder.join(file);
    let mut value: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

/// Renames a tensor in the header to a name of the same length.
fn rename(folder: &Path, from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let path = folder.join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(from.len()).position(|w| w == from.as_bytes()).unwrap();
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    std::fs::write(path, bytes).unwrap();
}

/// Damages a good folder and records the error from opening it.
fn broken(table: &mut Table, parts: usize, breaks: impl FnOnce(&Path)) {
    let folder = tempfile::tempdir().unwrap();
    hugging_face::write(folder.path(), "qwen2-0.5b", DType::F16, 7, parts);
    breaks(folder.path());
    let error = Model::open(folder.path()).unwrap_err();
    let ModelError::Safetensors(inner) = &error else { panic!("{error:?}") };
    table.add_in(folder.path(), "SafetensorsError", inner);
    table.add_in(folder.path(), "ModelError", &error);
}

pub(crate) fn cause(table: &mut Table) {
    // Only builds without the feature return it, and tests have the feature, so check at least the message.
    table.add("ModelError", ModelError::NoSafetensors { path: "folder".into() });
    let remove = |name: &'static str| move |f: &Path| std::fs::remove_file(f.join(name)).unwrap();
    broken(table, 1, remove("tokenizer.json"));
    broken(table, 1, |f| change(f, "config.json", |v| v["hidden_size"] = json!("wide")));
    broken(table, 1, |f| change(f, "config.json", |v| v["model_type"] = json!("gemma")));
    broken(table, 1, |f| change(f, "config.json", |v| v["num_attention_heads"] = json!(0)));
    broken(table, 1, remove("model.safetensors"));
    broken(table, 2, |f| {
        change(f, "model.safetensors.index.json", |v| v["weight_map"]["x"] = json!("../x.safetensors"));
    });
    broken(table, 2, remove("model-00002-of-00002.safetensors"));
    broken(table, 1, |f| std::fs::write(f.join("model.safetensors"), b"PK\x03\x04").unwrap());
    broken(table, 2, |f| {
        change(f, "model.safetensors.index.json", |v| v["weight_map"]["x"] = json!("model-00001-of-00002.safetensors"));
    });
    broken(table, 1, |f| rename(f, "mlp.up_proj", "mlp.no_proj"));
    broken(table, 1, |f| rename(f, "\"dtype\":\"F16\"", "\"dtype\":\"I16\""));
    broken(table, 1, |f| change(f, "config.json", |v| v["vocab_size"] = json!(513)));
    broken(table, 2, |f| {
        let first = f.join("model-00001-of-00002.safetensors");
        std::fs::copy(&first, f.join("again.safetensors")).unwrap();
        let name = "model.embed_tokens.weight";
        change(f, "model.safetensors.index.json", |v| {
            v["weight_map"]["model.layers.0.mlp.up_proj.weight"] = json!("again.safetensors");
            assert!(v["weight_map"][name].is_string());
        });
    });
}
