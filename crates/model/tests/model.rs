//! Whole models: synthetic ones of every preset and type, and the default model.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use aio_filetest::needs;
use aio_ir::DType;
use aio_model::chat::{Clock, Message};
use aio_model::gguf::write::GgufWriter;
use aio_model::gguf::{Gguf, GgufError};
use aio_model::hyper::{HyperError, HyperParams, RopeScalingType};
use aio_model::synth::{Preset, Synth, SynthError, presets};
use aio_model::template::{TemplateError, Templates};
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
        assert_eq!(h.architecture, preset.architecture);
        assert_eq!((h.block_count, h.key_length, h.vocab_size), (2, 64, 512));
        assert_eq!((h.rms_epsilon, h.rope_freq_base), (preset.rms_epsilon, preset.rope_freq_base));
        assert_eq!(h.tied_embeddings, preset.tied_embeddings);
        assert_eq!(h.rope_freqs, preset.rope_freqs);
        assert_eq!(h.attn_qk_norm, preset.architecture == "qwen3");
        assert_eq!(h.attn_v_bias, ["qwen2", "pangu-embedded"].contains(&h.architecture.as_str()));
        assert_eq!(h.attn_output_bias, h.architecture == "pangu-embedded");
        assert_eq!(h.rope_scaling.ty, RopeScalingType::None);
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
    // Q8_0 is the one block type that is decoded in a line.
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
    preset.block_count = 0;
    preset.vocab_size = 512;
    assert!(matches!(Synth::new(&preset, DType::F32, 1), Err(SynthError::Zero { field: "block_count" })));
}

fn hyper_of(change: impl FnOnce(&mut GgufWriter)) -> Result<HyperParams, HyperError> {
    let mut w = GgufWriter::new();
    w.set("general.architecture", "llama").set("llama.block_count", 1u32).set("llama.context_length", 64u32);
    w.set("llama.embedding_length", 8u32).set("llama.feed_forward_length", 16u32);
    w.set("llama.attention.head_count", 2u32).set("llama.attention.layer_norm_rms_epsilon", 1e-5f32);
    w.tensor("token_embd.weight", DType::F32, &[8, 4]);
    change(&mut w);
    let zeros = w.to_bytes(&mut |spec, out| out.write_all(&vec![0; spec.bytes().unwrap() as usize])).unwrap();
    HyperParams::from_gguf(&Gguf::from_bytes(zeros).unwrap())
}

#[test]
fn hyper_parameters_have_the_usual_defaults() {
    let h = hyper_of(|_| ()).unwrap();
    assert_eq!((h.head_count_kv, h.key_length, h.value_length, h.rope_dimension_count), (2, 4, 4, 4));
    assert_eq!((h.vocab_size, h.rope_freq_base, h.tied_embeddings), (4, 10_000.0, true));
    let yarn = |w: &mut GgufWriter| {
        w.set("llama.rope.scaling.type", "yarn").set("llama.rope.scaling.factor", 4.0f32);
        w.set("llama.rope.scaling.original_context_length", 16u32);
    };
    let s = hyper_of(yarn).unwrap().rope_scaling;
    assert_eq!((s.ty, s.factor, s.original_context_length), (RopeScalingType::Yarn, 4.0, 16));
    assert_eq!((s.yarn_ext_factor, s.yarn_beta_fast, s.attn_factor), (1.0, 32.0, 1.0));
    let linear = hyper_of(|w| {
        w.set("llama.rope.scaling.factor", 2.0f32);
    })
    .unwrap()
    .rope_scaling;
    assert_eq!((linear.ty, linear.factor), (RopeScalingType::Linear, 2.0));
}

#[test]
fn bad_hyper_parameters_are_named() {
    let value = |key: &str, v: u32| match hyper_of(|w| {
        w.set(key, v);
    }) {
        Err(HyperError::Value { key, .. }) => key,
        other => panic!("unexpected {other:?}"),
    };
    for key in ["llama.block_count", "llama.embedding_length", "llama.attention.head_count"] {
        assert_eq!(value(key, 0), key);
    }
    assert_eq!(value("llama.block_count", 9), "llama.block_count");
    assert_eq!(value("llama.attention.head_count_kv", 3), "llama.attention.head_count_kv");
    assert_eq!(value("llama.rope.dimension_count", 3), "llama.rope.dimension_count");
    let error = |key: &str, v: &str| {
        hyper_of(|w| {
            w.set(key, v);
        })
        .unwrap_err()
    };
    assert!(matches!(error("llama.rope.scaling.type", "longrope"), HyperError::Value { .. }));
    assert!(matches!(error("general.architecture", "qwen2"),
        HyperError::Gguf(GgufError::MissingKey { name }) if name == "qwen2.block_count"));
    let moe = hyper_of(|w| {
        w.set("llama.expert_count", 8u32);
    });
    assert!(matches!(moe, Err(HyperError::Unsupported { key, .. }) if key == "llama.expert_count"));
    let wide = hyper_of(|w| {
        w.set("llama.embedding_length", 16u32);
    });
    assert!(matches!(wide, Err(HyperError::Embedding { embedding_length: 16, .. })));
}

#[test]
fn graph_templates_see_every_parameter() {
    let h = hyper_of(|_| ()).unwrap();
    let text = "{% for i in range(block_count) %}\nL{{ i }} {{ rms_epsilon }} {{ rope_freq_base }}\n{% endfor %}\n";
    assert_eq!(render(text, &h).unwrap(), "L0 0.00001 10000.0\n");
    assert_eq!(render("{{ rope_scaling.type }}", &h).unwrap(), "none");
    assert!(render("\n{{ no_such_name }}", &h).unwrap_err().to_string().contains("line 2"));
    let endless = "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}";
    assert!(render(endless, &h).unwrap_err().to_string().contains("fuel"));
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
    assert_eq!((h.block_count, h.embedding_length, h.feed_forward_length), (30, 576, 1536));
    assert_eq!((h.head_count, h.head_count_kv, h.key_length, h.vocab_size), (9, 3, 64, 49_152));
    assert!(h.tied_embeddings && !h.attn_q_bias && !h.rope_freqs);
    let w = model.need_weight("blk.29.ffn_down.weight").unwrap();
    assert_eq!((w.shape, w.bytes.len()), (vec![576, 1536], 576 * 1536 / 32 * w.dtype.block_bytes()));
    model.gguf.check_unchanged().unwrap();
    let chat = model.chat_template(Clock { unix_s: 0 }).unwrap().unwrap();
    let prompt = chat.render(&[Message::new("user", "hi")], true, "<|im_start|>", "<|im_end|>").unwrap();
    let expected = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n\
                    <|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(prompt, expected);
}

fn render(text: &str, params: &HyperParams) -> Result<String, TemplateError> {
    Templates::new([("t", text)]).render("t", params, Default::default())
}
