//! Tiny synthetic models, and engines for them.

use aio_backend::Device;
use aio_engine::{Engine, EngineOptions};
use aio_ir::{DType, Graph};
use aio_model::Model;
use aio_model::gguf::Gguf;
use aio_model::synth::{Preset, Synth, presets};
use aio_model::template::Templates;
use std::sync::Arc;

/// Every architecture that has a graph template, each with a preset: the first one with the most optional tensors, not
/// counting a separate head. A new architecture is thus tested as soon as it has a template and a preset.
///
/// # Panics
/// If a template has no preset.
pub fn architectures() -> Vec<(String, String)> {
    let named = templates().architectures().map(str::to_owned).collect::<Vec<_>>();
    let preset = |architecture: &str| {
        let optional = |p: &Preset| p.optional.iter().filter(|o| *o != "output.weight").count();
        let own = presets().into_iter().filter(|p| p.architecture == architecture).rev();
        own.max_by_key(optional).unwrap_or_else(|| panic!("no preset of {architecture}")).name
    };
    named.into_iter().map(|a| (a.clone(), preset(&a))).collect()
}

/// Vocabulary size of a tiny model.
pub const VOCABULARY: usize = 512;

/// The graph templates of the workspace.
pub fn templates() -> Templates {
    let folder = std::fs::read_dir(crate::workspace("graphs")).expect("the folder of templates is there");
    let mut paths: Vec<_> = folder.flatten().map(|e| e.path()).collect();
    paths.sort();
    let mut templates = Templates::default();
    for path in paths.iter().filter(|p| p.extension().is_some_and(|e| e == "jinja")) {
        let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        templates.set(&path.file_name().unwrap_or_default().to_string_lossy(), &text);
    }
    templates
}

/// A model of two layers in the shape of a preset, with its step graph.
///
/// # Panics
/// If the preset does not exist, or the model cannot be made.
pub fn model(preset: &str, weights: DType, seed: u64) -> (Model, Graph) {
    let preset = Preset::find(preset).expect("the preset exists").tiny();
    let synth = Synth::new(&preset, weights, seed).expect("the preset can be made");
    let bytes = synth.to_bytes().expect("the file fits in memory");
    let model = Model::from_gguf(Gguf::from_bytes(bytes).expect("the file is valid")).expect("the model is valid");
    let graph = graph(&model);
    (model, graph)
}

/// The step graph of a model in the full size of a preset, without weights.
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
/// If its architecture has no template or an invalid one.
pub fn graph(model: &Model) -> Graph {
    model.graph(&templates(), None).unwrap_or_else(|e| panic!("{e}"))
}

/// A toy model with recurrent state, from a template in `tests/data/recurrent`: `recurrent` or `hybrid`.
///
/// # Panics
/// As [`model`], and if the template does not exist.
pub fn recurrent(template: &str, seed: u64) -> (Model, Graph) {
    let (model, _) = model("smollm2-135m", DType::F32, seed);
    let mut templates = Templates::default();
    for name in ["recurrent.jinja".to_owned(), format!("{template}.graph.jinja")] {
        let path = crate::workspace("tests/data/recurrent").join(&name);
        templates.set(&name, &std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{name}: {e}")));
    }
    let graph = model.graph(&templates, Some(&format!("{template}.graph.jinja"))).unwrap_or_else(|e| panic!("{e}"));
    (model, graph)
}

/// An engine on a toy model with recurrent state.
///
/// # Panics
/// As [`recurrent`], and if the device rejects the model.
pub fn recurrent_engine(template: &str, device: impl Device + 'static, options: &EngineOptions) -> Engine {
    let (model, graph) = recurrent(template, 7);
    Engine::load(model, &graph, Arc::new(device), options).unwrap_or_else(|e| panic!("{e}"))
}

/// An engine on a tiny model.
///
/// # Panics
/// As [`model`], and if the device rejects the model.
pub fn engine(preset: &str, weights: DType, device: Arc<dyn Device>, options: &EngineOptions) -> Engine {
    let (model, _) = model(preset, weights, 7);
    let graph = model.paged_graph(&templates(), None, device.target().page_positions());
    Engine::load(model, &graph.unwrap_or_else(|e| panic!("{e}")), device, options).unwrap_or_else(|e| panic!("{e}"))
}

/// Bytes of a tensor to overwrite: the tensor, the byte offset in its data, and the new bytes.
pub type Damage<'a> = (&'a str, usize, &'a [u8]);

/// An engine on a tiny model with a damaged file.
///
/// # Panics
/// As [`engine`], and if a tensor is missing.
pub fn damaged(device: Arc<dyn Device>, weights: DType, damage: &[Damage<'_>], options: &EngineOptions) -> Engine {
    // The head is a separate matrix, so a damaged embedding affects only what follows the token.
    let preset = Preset::find("qwen3-8b").expect("the preset exists").tiny();
    let synth = Synth::new(&preset, weights, 7).expect("the preset can be made");
    let mut bytes = synth.to_bytes().expect("the file fits in memory");
    let sound = Gguf::from_bytes(bytes.clone()).expect("the file is valid");
    for (name, at, with) in damage {
        let tensor = sound.tensor(name).unwrap_or_else(|| panic!("{name} exists"));
        bytes[tensor.file_offset as usize + at..][..with.len()].copy_from_slice(with);
    }
    let model = Model::from_gguf(Gguf::from_bytes(bytes).expect("the file is valid")).expect("the model is valid");
    let graph = model.paged_graph(&templates(), None, device.target().page_positions());
    Engine::load(model, &graph.unwrap_or_else(|e| panic!("{e}")), device, options).unwrap_or_else(|e| panic!("{e}"))
}
