//! Any text as a graph template: it renders within its bounds or is an error.
#![no_main]

use std::sync::LazyLock;

use aio_model::Model;
use aio_model::gguf::Gguf;
use aio_model::synth::{Preset, Synth};
use aio_model::template::Templates;
use libfuzzer_sys::fuzz_target;

static MODEL: LazyLock<Model> = LazyLock::new(|| {
    let preset = Preset::find("smollm2-135m").expect("a preset").tiny();
    let synth = Synth::new(&preset, aio_ir::DType::Q4_0, 1).expect("a model");
    Model::from_gguf(Gguf::from_bytes(synth.to_bytes().expect("bytes")).expect("a file")).expect("a model")
});

fuzz_target!(|data: &[u8]| {
    let Ok(source) = std::str::from_utf8(data) else { return };
    if let Ok(text) = MODEL.graph_text(&Templates::new([("t", source)]), Some("t")) {
        assert!(text.len() <= 16 << 20);
    }
});
