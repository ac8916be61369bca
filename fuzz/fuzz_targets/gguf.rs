//! Any bytes as a model file: reader, hyper-parameters and tokenizer must not panic, and
//! everything that the reader accepts must be readable. `crates/model/tests/hostile.rs` replays
//! the corpus.
#![no_main]

use aio_model::{Model, gguf::Gguf};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(gguf) = Gguf::from_bytes(data.to_vec()) else { return };
    for (_, value) in gguf.metadata() {
        value.to_meta();
    }
    for tensor in gguf.tensors() {
        let data = gguf.tensor_data(&tensor.name);
        assert!(data.is_ok() == tensor.bytes.is_some());
    }
    if let Ok(model) = Model::from_gguf(gguf) {
        let text = "a <|im_end|> \u{e9}\u{1f600} 12 \n\n";
        if let Ok(ids) = model.tokenizer.encode_prompt(text, true) {
            let _ = model.tokenizer.decode(&ids, true);
        }
    }
});
