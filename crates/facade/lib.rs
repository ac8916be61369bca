//! aio: a kernel-level compute-graph runtime for LLM decoding on memory-bound devices.
//!
//! A model file becomes a verified step graph, the graph becomes a family of precompiled plans, and a device makes each
//! plan executable. One step is one submission and one synchronisation. This crate re-exports the parts:
//!
//! ```no_run
//! use aio::engine::{EngineOptions, Flow, Request, Sampling};
//! let model = aio::model::Model::open("model.gguf")?;
//! let opened = aio::devices::Registry::with_defaults().open("cpu", &Default::default())?;
//! let engine = aio::load(model, opened.device, &EngineOptions::default())?;
//! let prompt = engine.model().tokenizer.encode_prompt("Once upon a time", true)?;
//! let request = Request::new(prompt, Sampling::greedy());
//! let done = engine.generate(&request, &mut |text| {
//!     print!("{text}");
//!     Flow::Continue
//! })?;
//! println!("{:?}", done.stop_reason);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The library reads no environment variables and installs no signal handlers.
#![forbid(unsafe_code)]

pub mod devices;

pub use aio_backend as backend;
#[cfg(feature = "ascend")]
pub use aio_backend_ascend as ascend;
pub use aio_backend_cpu as cpu;
#[cfg(feature = "cuda")]
pub use aio_backend_cuda as cuda;
pub use aio_compiler as compiler;
pub use aio_conformance as conformance;
pub use aio_engine as engine;
pub use aio_fleet as fleet;
pub use aio_inspect as inspect;
pub use aio_interp as interp;
pub use aio_ir as ir;
pub use aio_mapped as mapped;
pub use aio_model as model;
pub use aio_orchestrator as orchestrator;
pub use aio_plan as plan;

use aio_backend::{Device, ImageAccess};
use aio_engine::{Engine, EngineError, EngineOptions};
use aio_model::{Model, template::Templates};
use aio_plan::artefact::Artefact;

use std::path::Path;
use std::sync::Arc;

/// The commit that this build was made from.
pub const COMMIT: &str = env!("AIO_COMMIT");

/// The built-in graph templates: all files in `graphs/`, by name.
pub fn templates() -> Templates {
    const FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/graph_templates.rs"));
    Templates::new(FILES.iter().copied())
}

/// Loads a model from a compiled artefact (`aio compile`), without compiling or packing.
///
/// # Errors
/// See [`Engine::from_artefact`].
pub fn load_artefact(path: &Path, device: Arc<dyn Device>, options: &EngineOptions) -> Result<Engine, EngineError> {
    Engine::from_artefact(Artefact::open(path)?, device, options, ImageAccess::Read)
}

/// Loads a model with the template for its architecture.
///
/// # Errors
/// See [`EngineError`].
pub fn load(model: Model, device: Arc<dyn Device>, options: &EngineOptions) -> Result<Engine, EngineError> {
    let graph = model.paged_graph(&templates(), None, device.target().page_positions())?;
    Engine::load(model, &graph, device, options)
}
