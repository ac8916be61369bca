//! Writes a synthetic model in Hugging Face format, with the same weights as the GGUF file of its preset.
//!
//! Shares no code with the reader in `aio-model`, so that neither can hide the other's mistakes.

use aio_ir::DType;
use aio_model::gguf::{Gguf, Value};
use aio_model::synth::{Preset, Synth};
use serde_json::{Map, json};
use std::path::Path;

/// Tensor names within a layer: GGUF's, Hugging Face's.
const LAYER: [(&str, &str); 11] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// A tensor as stored in a safetensors file.
struct HfTensor {
    name: String,
    dtype: &'static str,
    shape: Vec<u64>,
    bytes: Vec<u8>,
}

/// Writes a model of two layers in the shape of a preset, with its weights split over `parts` files.
///
/// # Panics
/// If the preset or the type does not exist in this format, or the folder cannot be written.
pub fn write(folder: &Path, preset: &str, dtype: DType, seed: u64, parts: usize) {
    let preset = Preset::find(preset).expect("the preset exists").tiny();
    let bytes =
        Synth::new(&preset, dtype, seed).expect("the preset can be made").to_bytes().expect("it fits in memory");
    let gguf = Gguf::from_bytes(bytes).expect("the file is valid");
    let put = |name: &str, value: serde_json::Value| {
        std::fs::write(folder.join(name), value.to_string()).expect("the folder can be written to");
    };
    put("config.json", config(&preset));
    put("tokenizer.json", tokenizer(&gguf));
    put("tokenizer_config.json", json!({"bos_token": "<|im_start|>", "eos_token": {"content": "<|im_end|>"}}));
    let tensors = tensors(&gguf, &preset);
    if parts == 1 {
        std::fs::write(folder.join("model.safetensors"), file(&tensors)).expect("the folder can be written to");
        return;
    }
    let mut map = Map::new();
    for (i, some) in tensors.chunks(tensors.len().div_ceil(parts)).enumerate() {
        let name = format!("model-{:05}-of-{parts:05}.safetensors", i + 1);
        map.extend(some.iter().map(|t| (t.name.clone(), json!(name))));
        std::fs::write(folder.join(name), file(some)).expect("the folder can be written to");
    }
    put("model.safetensors.index.json", json!({"metadata": {}, "weight_map": map}));
}

fn config(p: &Preset) -> serde_json::Value {
    // The factors that synthetic models of this kind store as `rope_freqs.weight`.
    let llama3 = json!({"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                        "original_max_position_embeddings": 8192});
    json!({
        "model_type": p.architecture, "vocab_size": p.vocab_size, "hidden_size": p.embedding_length,
        "intermediate_size": p.feed_forward_length, "num_hidden_layers": p.block_count,
        "num_attention_heads": p.head_count, "num_key_value_heads": p.head_count_kv, "head_dim": p.head_length,
        "max_position_embeddings": p.context_length, "rms_norm_eps": p.rms_epsilon, "rope_theta": p.rope_freq_base,
        "rope_scaling": p.has("rope_freqs.weight").then_some(llama3), "tie_word_embeddings": !p.has("output.weight"),
        "hidden_act": "silu", "torch_dtype": "float32"
    })
}

fn texts(gguf: &Gguf, key: &str) -> Vec<String> {
    let Some(Value::Array(list)) = gguf.get(key) else { panic!("{key} is no list") };
    list.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

fn tokenizer(gguf: &Gguf) -> serde_json::Value {
    let tokens = texts(gguf, "tokenizer.ggml.tokens");
    let special = |t: &str| t.starts_with("<|");
    let vocab: Map<_, _> =
        tokens.iter().enumerate().filter(|(_, t)| !special(t)).map(|(i, t)| (t.clone(), json!(i))).collect();
    let added: Vec<_> = tokens
        .iter()
        .enumerate()
        .filter(|(_, t)| special(t))
        .map(|(i, t)| json!({"id": i, "content": t, "special": true}))
        .collect();
    json!({
        "added_tokens": added, "normalizer": null, "post_processor": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
        "model": {"type": "BPE", "vocab": vocab, "merges": texts(gguf, "tokenizer.ggml.merges")}
    })
}

fn tensors(gguf: &Gguf, preset: &Preset) -> Vec<HfTensor> {
    let all = gguf.tensors().iter().filter(|t| t.name != "rope_freqs.weight");
    let tensor = |t: &aio_model::gguf::TensorInfo| {
        let bytes = gguf.tensor_data(&t.name).expect("the tensor is there");
        let pairs_apart = preset.architecture == "llama" && (t.name.contains("attn_q.") || t.name.contains("attn_k."));
        let bytes = if pairs_apart { halves(bytes, &t.shape(), preset.head_length as usize) } else { bytes.to_vec() };
        let dtype = match t.dtype().expect("synthetic types are known") {
            DType::F32 => "F32",
            DType::F16 => "F16",
            DType::BF16 => "BF16",
            other => panic!("safetensors have no {other}"),
        };
        HfTensor { name: name(&t.name), dtype, shape: t.shape(), bytes }
    };
    all.map(tensor).collect()
}

fn name(gguf: &str) -> String {
    let Some((number, rest)) = gguf.strip_prefix("blk.").and_then(|r| r.split_once('.')) else {
        let whole = [("token_embd", "model.embed_tokens"), ("output_norm", "model.norm"), ("output", "lm_head")];
        let stem = gguf.strip_suffix(".weight").expect("weights end so");
        let found = whole.iter().find(|(own, _)| *own == stem).expect("the tensor has a name");
        return format!("{}.weight", found.1);
    };
    let (stem, kind) = rest.rsplit_once('.').expect("names have an end");
    let found = LAYER.iter().find(|(own, _)| *own == stem).expect("the tensor has a name");
    format!("model.layers.{number}.{}.{kind}", found.1)
}

/// Reorders the rows of each head, even ones first: GGUF stores the two rows of a rotated pair next to each other, the
/// original format half a head apart.
fn halves(bytes: &[u8], shape: &[u64], head: usize) -> Vec<u8> {
    let row = bytes.len() / shape[0] as usize;
    let of_head = |rows: &[u8]| {
        let even = rows.chunks(row).step_by(2);
        even.chain(rows.chunks(row).skip(1).step_by(2)).flatten().copied().collect::<Vec<u8>>()
    };
    bytes.chunks(row * head).flat_map(of_head).collect()
}

/// Serialises a file: length of the header, header in JSON, data.
fn file(tensors: &[HfTensor]) -> Vec<u8> {
    let mut header = Map::from_iter([("__metadata__".to_owned(), json!({"format": "pt"}))]);
    let mut data = Vec::new();
    for t in tensors {
        let start = data.len();
        data.extend_from_slice(&t.bytes);
        let entry = json!({"dtype": t.dtype, "shape": t.shape, "data_offsets": [start, data.len()]});
        header.insert(t.name.clone(), entry);
    }
    // No padding, because readers must not rely on alignment.
    let header = serde_json::Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()
}
