//! Damaged complete models: no byte of a file may make the reader, the hyper-parameters, the tokenizer, the chat
//! template or the graph template panic. Also replays the corpus of the fuzz target `gguf`.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use aio_filetest::tiny;
use aio_ir::DType;
use aio_model::Model;
use aio_model::chat::{Clock, Message};
use aio_model::gguf::Gguf;
use aio_model::synth::{Preset, Synth};
use aio_model::template::Templates;

/// Uses everything in a file. Returns how far it got: 0 not a file, 1 not a model, 2 a model.
fn exercise(bytes: Vec<u8>, templates: &Templates) -> u32 {
    let Ok(gguf) = Gguf::from_bytes(bytes) else { return 0 };
    for (_, value) in gguf.metadata() {
        value.to_meta();
    }
    for tensor in gguf.tensors() {
        assert_eq!(gguf.tensor_data(&tensor.name).is_ok(), tensor.bytes.is_some());
    }
    let Ok(model) = Model::from_gguf(gguf) else { return 1 };
    if let Ok(ids) = model.tokenizer.encode_prompt("a <|im_end|> é😀 12 \n\n", true) {
        model.tokenizer.decode(&ids, true).unwrap();
    }
    for warning in model.warnings() {
        assert!(!warning.to_string().contains(char::is_control), "{warning}");
    }
    let _ = model.graph(templates, None);
    if let Ok(Some(chat)) = model.chat_template(Clock { unix_s: 0 }) {
        let _ = chat.render(&[Message::new("user", "hi")], true, "", "");
    }
    2
}

fn smallest() -> Vec<u8> {
    let mut preset = Preset::find("pangu-1b").unwrap().tiny();
    (preset.block_count, preset.embedding_length, preset.feed_forward_length) = (1, 32, 32);
    (preset.head_count, preset.head_count_kv, preset.head_length, preset.vocab_size) = (2, 1, 16, 260);
    Synth::new(&preset, DType::Q4_0, 1).unwrap().to_bytes().unwrap()
}

#[test]
fn no_flipped_bit_of_a_model_panics() {
    let bytes = smallest();
    let header = Gguf::from_bytes(bytes.clone()).unwrap().data_start() as usize;
    let templates = tiny::templates();
    assert_eq!(exercise(bytes.clone(), &templates), 2);
    let mut came = [0; 3];
    // Every third byte, which takes seconds; the fuzz target covers the rest.
    for at in (0..header).step_by(3) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        came[exercise(damaged, &templates) as usize] += 1;
    }
    assert!(came.iter().all(|&n| n > 0), "the damage reached only some layers: {came:?}");
}

#[test]
fn the_fuzz_corpus_replays() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/gguf-corpus");
    let (mut count, templates) = (0, tiny::templates());
    for entry in std::fs::read_dir(folder).unwrap() {
        exercise(std::fs::read(entry.unwrap().path()).unwrap(), &templates);
        count += 1;
    }
    assert!(count > 0, "the corpus is empty");
}
