//! An open model: the file, its hyper-parameters, its tokenizer and chat template, its weights by name.

use crate::chat::{ChatError, ChatTemplate, Clock};
use crate::gguf::{Gguf, GgufError};
use crate::hyper::{HyperError, HyperParams};
use crate::template::{TemplateError, Templates};
use crate::tokenizer::{Tokenizer, TokenizerError};
use aio_ir::DType;
use std::path::Path;

/// Why a model cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The hyper-parameters.
    #[error(transparent)]
    Hyper(#[from] HyperError),
    /// The tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The chat template.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// The graph template.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// No graph template has the model's architecture.
    #[error("there is no graph template for architecture `{0}`; --template FILE gives one")]
    NoTemplate(String),
}

/// A weight as the file stores it.
#[derive(Clone, Debug)]
pub struct Weight<'a> {
    /// Element type.
    pub dtype: DType,
    /// Shape, outermost dimension first.
    pub shape: Vec<u64>,
    /// Elements, row-major.
    pub bytes: &'a [u8],
}

/// See the module's header.
#[derive(Debug)]
pub struct Model {
    /// The file.
    pub gguf: Gguf,
    /// Its hyper-parameters.
    pub hyper: HyperParams,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
}

impl Model {
    /// Opens a GGUF file (the first part of a split one). Weights stay in the file until they are asked for.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn open(path: impl AsRef<Path>) -> Result<Model, ModelError> {
        Model::from_gguf(Gguf::open(path)?)
    }

    /// A model from an open file.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn from_gguf(gguf: Gguf) -> Result<Model, ModelError> {
        let hyper = HyperParams::of_any_architecture(&gguf)?;
        let tokenizer = Tokenizer::from_gguf(&gguf)?;
        Ok(Model { gguf, hyper, tokenizer })
    }

    /// The model's chat template, if it has one.
    ///
    /// # Errors
    /// [`ModelError::Chat`] if it does not parse.
    pub fn chat_template(&self, clock: Clock) -> Result<Option<ChatTemplate>, ModelError> {
        Ok(ChatTemplate::from_gguf(&self.gguf, clock)?)
    }

    /// The weight with this name; `None` if there is none of a type that aio reads.
    pub fn weight(&self, name: &str) -> Option<Weight<'_>> {
        let info = self.gguf.tensor(name)?;
        let bytes = self.gguf.tensor_data(name).ok()?;
        Some(Weight { dtype: info.dtype().ok()?, shape: info.shape(), bytes })
    }

    /// The text of the step graph: the template of the model's architecture, or the one named.
    ///
    /// # Errors
    /// [`ModelError::NoTemplate`] and [`ModelError::Template`].
    pub fn graph_text(&self, templates: &Templates, name: Option<&str>) -> Result<String, ModelError> {
        let architecture = &self.hyper.architecture;
        let name = match name {
            Some(name) => name.to_owned(),
            None => templates
                .of_architecture(architecture)
                .ok_or_else(|| ModelError::NoTemplate(architecture.clone()))?,
        };
        let known = self.gguf.tensors().iter().filter_map(|t| Some((t.name.clone(), t.dtype().ok()?)));
        Ok(templates.render(&name, &self.hyper, known.collect())?)
    }
}
