//! Tiny synthetic models and engines on them.

use aio_backend::Device;
use aio_engine::{Engine, EngineOptions};
use aio_ir::{DType, Graph};
use aio_model::Model;
use aio_model::gguf::Gguf;
use aio_model::synth::{Preset, Synth};
use aio_model::template::Templates;
use std::sync::Arc;

/// A preset of each architecture.
pub const ARCHITECTURES: [(&str, &str); 4] =
    [("llama", "llama-1b"), ("qwen2", "qwen2-0.5b"), ("qwen3", "qwen3-0.6b"), ("pangu-embedded", "pangu-1b")];

/// The vocabulary of a tiny model.
pub const VOCABULARY: usize = 512;

/// The graph templates of the workspace.
pub fn templates() -> Templates {
    let read = |name: &str| {
        let path = crate::workspace(&format!("graphs/{name}"));
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    let names =
        ["decoder.jinja", "llama.graph.jinja", "qwen2.graph.jinja", "qwen3.graph.jinja", "pangu-embedded.graph.jinja"];
    let texts: Vec<_> = names.iter().map(|n| (*n, read(n))).collect();
    Templates::new(texts.iter().map(|(n, t)| (*n, t.as_str())))
}

/// A model of two layers in the shape of a preset, with its step graph.
///
/// # Panics
/// If the preset is none, or the model cannot be made: faults of the caller or of aio.
pub fn model(preset: &str, weights: DType, seed: u64) -> (Model, Graph) {
    let preset = Preset::find(preset).expect("the preset exists").tiny();
    let synth = Synth::new(&preset, weights, seed).expect("the preset can be made");
    let bytes = synth.to_bytes().expect("the file fits in memory");
    let model = Model::from_gguf(Gguf::from_bytes(bytes).expect("the file is valid")).expect("the model is valid");
    let graph = graph(&model);
    (model, graph)
}

/// The step graph of a model in the full shape of a preset, without its weights.
///
/// # Panics
/// As [`model`].
pub fn full_graph(preset: &str, weights: DType) -> Graph {
    let preset = Preset::find(preset).expect("the preset exists");
    let head = Synth::new(&preset, weights, 1).and_then(|s| s.head()).expect("the preset can be made");
    graph(&Model::from_gguf(Gguf::from_head(head).expect("the head is valid")).expect("the model is valid"))
}

/// The step graph of a model.
///
/// # Panics
/// If its architecture has no template, or a faulty one.
pub fn graph(model: &Model) -> Graph {
    let text = model.graph_text(&templates(), None).expect("the template renders");
    aio_ir::text::parse(&text).unwrap_or_else(|e| panic!("{e}")).graph
}

/// An engine on such a model.
///
/// # Panics
/// As [`model`], and if the device refuses it.
pub fn engine(preset: &str, weights: DType, device: Arc<dyn Device>, options: &EngineOptions) -> Engine {
    let (model, graph) = model(preset, weights, 7);
    Engine::load(model, &graph, device, options).unwrap_or_else(|e| panic!("{e}"))
}
