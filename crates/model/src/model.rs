//! A complete model: file, hyper-parameters, tokenizer, chat template and weights by name.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use aio_ir::text::ParseError;
use aio_ir::{DType, Graph};

use crate::chat::{ChatError, ChatTemplate, Clock};
use crate::facts::Facts;
use crate::gguf::{Gguf, GgufError};
use crate::hyper::{HyperError, HyperParams};
use crate::template::{TemplateError, Templates};
use crate::tokenizer::{Tokenizer, TokenizerError};
use crate::warning::Warning;
use crate::{keys, unread};

/// Why a model cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The file is invalid.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The hyper-parameters are invalid.
    #[error(transparent)]
    Hyper(#[from] HyperError),
    /// The tokenizer is invalid.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A folder or file in Hugging Face's format is invalid.
    #[cfg(feature = "safetensors")]
    #[error(transparent)]
    Safetensors(#[from] crate::safetensors::SafetensorsError),
    /// Such a folder or file, in a build without support for it.
    #[error("{} holds no GGUF file; safetensors are read by builds with the feature `safetensors`", path.display())]
    NoSafetensors {
        /// The path.
        path: PathBuf,
    },
    /// The graph template failed.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The rendered graph template is not a graph.
    #[error("the rendered graph template does not parse: {0}")]
    Parse(#[from] ParseError),
    /// The graph does not read a tensor.
    #[error("the graph does not read tensor {name:?}{}", and_more(*others))]
    UnreadTensor {
        /// The first such tensor, in file order.
        name: String,
        /// Number of further such tensors.
        others: usize,
    },
    /// There is no graph template for the architecture.
    #[error("there is no graph template for architecture `{architecture}`")]
    NoTemplate {
        /// The architecture's name in the file.
        architecture: String,
    },
}

/// The end of a message that names the first of several tensors.
fn and_more(others: usize) -> String {
    if others == 0 { String::new() } else { format!(", nor {others} more") }
}

/// An open model. The weights stay in the mapped file.
#[derive(Debug)]
pub struct Model {
    /// The file.
    pub gguf: Gguf,
    /// The hyper-parameters.
    pub hyper: HyperParams,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
}

/// A weight's bytes, type and shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Weight<'a> {
    /// Element type.
    pub dtype: DType,
    /// Dimensions in row-major order, outermost first; the last one is contiguous.
    pub shape: Vec<u64>,
    /// The raw bytes, in the file's layout.
    pub bytes: &'a [u8],
}

impl Model {
    /// Opens a GGUF file; any part of a split model opens the whole. With the feature `safetensors` also a folder in
    /// Hugging Face's format, or a safetensors file or index in one.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn open(path: impl AsRef<Path>) -> Result<Model, ModelError> {
        let path = path.as_ref();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let gguf = if path.is_dir() || name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json") {
            open_safetensors(path)?
        } else {
            Gguf::open(path)?
        };
        Model::from_gguf(gguf)
    }

    /// A model from an open file.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn from_gguf(gguf: Gguf) -> Result<Model, ModelError> {
        let hyper = HyperParams::from_gguf(&gguf)?;
        let tokenizer = Tokenizer::from_gguf(&gguf)?;
        Ok(Model { gguf, hyper, tokenizer })
    }

    /// Like [`Model::from_gguf`], on another thread while `work` runs on this one, because a large vocabulary takes
    /// tens of milliseconds. `work` gets a function that waits for the hyper-parameters and returns `None` if reading
    /// them failed.
    ///
    /// # Errors
    /// [`ModelError`]; `work` has run then.
    pub fn from_gguf_while<T>(
        open: impl FnOnce() -> Result<Gguf, GgufError> + Send,
        work: impl FnOnce(&dyn Fn() -> Option<HyperParams>) -> T,
    ) -> Result<(Model, T), ModelError> {
        let (found, hyper) = std::sync::mpsc::channel();
        let read = move || {
            let gguf = open()?;
            let hyper = HyperParams::from_gguf(&gguf)?;
            // There is no receiver if the work has already failed.
            let _ = found.send(hyper.clone());
            let tokenizer = Tokenizer::from_gguf(&gguf)?;
            Ok(Model { gguf, hyper, tokenizer })
        };
        let read = Mutex::new(Some(read));
        let take = || read.lock().unwrap_or_else(PoisonError::into_inner).take();
        let read = || take().expect("one thread reads, once")();
        let (model, done) = std::thread::scope(|scope| match std::thread::Builder::new().spawn_scoped(scope, read) {
            Ok(model) => {
                let done = work(&|| hyper.recv().ok());
                (model.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), done)
            }
            // The system cannot start a thread, so the model is read first; the hyper-parameters wait in the channel.
            Err(_) => (read(), work(&|| hyper.recv().ok())),
        });
        model.map(|model| (model, done))
    }

    /// Metadata that cannot be followed exactly, and what is done instead.
    pub fn warnings(&self) -> Vec<Warning> {
        let name = self.gguf.get("general.name").filter(|v| matches!(v, crate::gguf::Value::Bytes(_)));
        let name = name.map(|_| Warning::NotUtf8 { what: "general.name".to_owned() });
        name.into_iter().chain(self.tokenizer.warnings().iter().cloned()).collect()
    }

    /// Renders the text of the step graph with the template for the model's architecture, or the one named.
    ///
    /// # Errors
    /// [`ModelError::NoTemplate`]; [`GgufError::UnsupportedType`] before rendering; [`ModelError::Template`] and
    /// [`ModelError::Hyper`] from the template; [`HyperError::Unread`] and [`HyperError::Unsupported`] for a key that
    /// it does not honour.
    pub fn graph_text(&self, templates: &Templates, name: Option<&str>) -> Result<String, ModelError> {
        self.paged_graph_text(templates, name, aio_ir::PAGE_POSITIONS)
    }

    /// The same with KV pages of so many positions, as a device wants them (`Target::page_positions`).
    ///
    /// # Errors
    /// See [`Model::graph_text`].
    pub fn paged_graph_text(
        &self,
        templates: &Templates,
        name: Option<&str>,
        page_positions: u64,
    ) -> Result<String, ModelError> {
        let architecture = &self.hyper.architecture;
        let own = || templates.of_architecture(architecture);
        let name = name.map(str::to_owned).or_else(own);
        let name = name.ok_or_else(|| ModelError::NoTemplate { architecture: architecture.clone() })?;
        let facts = Facts::paged(&self.gguf, &self.hyper, page_positions)?;
        let rendered = templates.render(&name, &facts);
        // Prefers a function's typed error to its text from the template engine.
        let text = rendered.map_err(|e| facts.take_fault().map_or(ModelError::Template(e), ModelError::Hyper))?;
        keys::check(&self.gguf, architecture, &facts.asked())?;
        Ok(text)
    }

    /// The step graph from [`Model::graph_text`], not yet verified. It reads every tensor of the file.
    ///
    /// # Errors
    /// The errors of [`Model::graph_text`] and [`Model::check_tensors`], and [`ModelError::Parse`].
    pub fn graph(&self, templates: &Templates, name: Option<&str>) -> Result<Graph, ModelError> {
        self.paged_graph(templates, name, aio_ir::PAGE_POSITIONS)
    }

    /// The same with KV pages of so many positions.
    ///
    /// # Errors
    /// See [`Model::graph`].
    pub fn paged_graph(
        &self,
        templates: &Templates,
        name: Option<&str>,
        page_positions: u64,
    ) -> Result<Graph, ModelError> {
        let graph = aio_ir::text::parse(&self.paged_graph_text(templates, name, page_positions)?)?.graph;
        self.check_tensors(&graph)?;
        Ok(graph)
    }

    /// Checks that the graph reads every tensor of the file.
    ///
    /// # Errors
    /// [`ModelError::UnreadTensor`].
    pub fn check_tensors(&self, graph: &Graph) -> Result<(), ModelError> {
        let mut unread = unread::tensors(self.gguf.tensors(), graph);
        let Some(first) = unread.next() else { return Ok(()) };
        Err(ModelError::UnreadTensor { name: first.name.clone(), others: unread.count() })
    }

    /// The parsed chat template; `None` if the model has none. Parsed on demand, so that an invalid template only
    /// affects chat.
    ///
    /// # Errors
    /// [`ChatError`].
    pub fn chat_template(&self, clock: Clock) -> Result<Option<ChatTemplate>, ChatError> {
        ChatTemplate::from_gguf(&self.gguf, clock)
    }

    /// The weight with this GGUF name; `None` if the model has no such tensor.
    ///
    /// # Errors
    /// [`GgufError::UnsupportedType`] if aio does not read its type.
    pub fn weight(&self, name: &str) -> Result<Option<Weight<'_>>, GgufError> {
        let Some(info) = self.gguf.tensor(name) else { return Ok(None) };
        let (dtype, shape) = (info.dtype()?, info.shape());
        Ok(Some(Weight { dtype, shape, bytes: self.gguf.tensor_data(name)? }))
    }

    /// Like [`Model::weight`], for a required weight.
    ///
    /// # Errors
    /// [`GgufError::MissingTensor`], [`GgufError::UnsupportedType`].
    pub fn need_weight(&self, name: &str) -> Result<Weight<'_>, GgufError> {
        self.weight(name)?.ok_or_else(|| GgufError::MissingTensor { name: name.to_owned() })
    }
}

#[cfg(feature = "safetensors")]
fn open_safetensors(path: &Path) -> Result<Gguf, ModelError> {
    Ok(crate::safetensors::open(path)?)
}

#[cfg(not(feature = "safetensors"))]
fn open_safetensors(path: &Path) -> Result<Gguf, ModelError> {
    Err(ModelError::NoSafetensors { path: path.to_path_buf() })
}
