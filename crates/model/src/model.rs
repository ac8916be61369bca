//! A whole model: file, hyper-parameters, tokenizer, chat template and weights by name.

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
    /// The file itself.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// Its hyper-parameters.
    #[error(transparent)]
    Hyper(#[from] HyperError),
    /// Its tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A folder or file of Hugging Face's form.
    #[cfg(feature = "safetensors")]
    #[error(transparent)]
    Safetensors(#[from] crate::safetensors::SafetensorsError),
    /// Such a folder or file, in a build that does not read them.
    #[error("{} holds no GGUF file; safetensors are read by builds with the feature `safetensors`", path.display())]
    NoSafetensors {
        /// The path.
        path: PathBuf,
    },
    /// Its graph template.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// What its graph template gave is no graph.
    #[error("the rendered graph template does not parse: {0}")]
    Parse(#[from] ParseError),
    /// A tensor that the graph does not read.
    #[error("the graph does not read tensor {name:?}{}", and_more(*others))]
    UnreadTensor {
        /// The first such tensor, in file order.
        name: String,
        /// How many more there are.
        others: usize,
    },
    /// There is no graph template of its architecture.
    #[error("there is no graph template for architecture `{architecture}`")]
    NoTemplate {
        /// The architecture as the file names it.
        architecture: String,
    },
}

/// The end of a message that names the first of several tensors.
fn and_more(others: usize) -> String {
    if others == 0 { String::new() } else { format!(", nor {others} more") }
}

/// An open model. The weights stay in the file's map.
#[derive(Debug)]
pub struct Model {
    /// The file.
    pub gguf: Gguf,
    /// The shape.
    pub hyper: HyperParams,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
}

/// The bytes of a weight, with what they mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Weight<'a> {
    /// Element type.
    pub dtype: DType,
    /// Sizes in row-major order, outermost first; the last one is contiguous.
    pub shape: Vec<u64>,
    /// The raw bytes, in the file's layout.
    pub bytes: &'a [u8],
}

impl Model {
    /// Opens a GGUF file; any part of a split one opens the whole. With the feature `safetensors` also a folder of Hugging
    /// Face's form, or a safetensors file or index in one.
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

    /// As [`Model::from_gguf`], on a thread of its own while `work` runs on this one: a large vocabulary takes tens of
    /// milliseconds. `work` gets a function that waits for the hyper-parameters; `None` if there will be none.
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
            // Nobody listens if the work failed already.
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
            // The system has no thread to spare; the hyper-parameters wait in the channel then.
            Err(_) => (read(), work(&|| hyper.recv().ok())),
        });
        model.map(|model| (model, done))
    }

    /// What the file says that cannot be followed to the letter, and what is done instead.
    pub fn warnings(&self) -> Vec<Warning> {
        let name = self.gguf.get("general.name").filter(|v| matches!(v, crate::gguf::Value::Bytes(_)));
        let name = name.map(|_| Warning::NotUtf8 { what: "general.name".to_owned() });
        name.into_iter().chain(self.tokenizer.warnings().iter().cloned()).collect()
    }

    /// The text of the step graph: the template of the model's architecture, or the one named.
    ///
    /// # Errors
    /// [`ModelError::NoTemplate`]; [`GgufError::UnsupportedType`] before anything is rendered; [`ModelError::Template`]
    /// and [`ModelError::Hyper`] of the template; [`HyperError::Unread`] and [`HyperError::Unsupported`] for a key that
    /// it does not honour.
    pub fn graph_text(&self, templates: &Templates, name: Option<&str>) -> Result<String, ModelError> {
        let architecture = &self.hyper.architecture;
        let own = || templates.of_architecture(architecture);
        let name = name.map(str::to_owned).or_else(own);
        let name = name.ok_or_else(|| ModelError::NoTemplate { architecture: architecture.clone() })?;
        let facts = Facts::new(&self.gguf, &self.hyper)?;
        let rendered = templates.render(&name, &facts);
        // A fault of a function is known by its type; the engine of the templates knows only its text.
        let text = rendered.map_err(|e| facts.take_fault().map_or(ModelError::Template(e), ModelError::Hyper))?;
        keys::check(&self.gguf, architecture, &facts.asked())?;
        Ok(text)
    }

    /// The step graph, as [`Model::graph_text`] gives it; not yet verified. It reads every tensor of the file.
    ///
    /// # Errors
    /// Those of [`Model::graph_text`] and [`Model::check_tensors`], and [`ModelError::Parse`].
    pub fn graph(&self, templates: &Templates, name: Option<&str>) -> Result<Graph, ModelError> {
        let graph = aio_ir::text::parse(&self.graph_text(templates, name)?)?.graph;
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

    /// The chat template, parsed; `None` if the model has none. Parsed on demand, so that a faulty
    /// template stops nobody who does not chat.
    ///
    /// # Errors
    /// [`ChatError`].
    pub fn chat_template(&self, clock: Clock) -> Result<Option<ChatTemplate>, ChatError> {
        ChatTemplate::from_gguf(&self.gguf, clock)
    }

    /// The weight of this GGUF name; `None` if the model has no such tensor.
    ///
    /// # Errors
    /// [`GgufError::UnsupportedType`] if aio does not read its type.
    pub fn weight(&self, name: &str) -> Result<Option<Weight<'_>>, GgufError> {
        let Some(info) = self.gguf.tensor(name) else { return Ok(None) };
        let (dtype, shape) = (info.dtype()?, info.shape());
        Ok(Some(Weight { dtype, shape, bytes: self.gguf.tensor_data(name)? }))
    }

    /// As [`Model::weight`], for a weight that must be there.
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
