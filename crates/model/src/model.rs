//! A whole model: file, hyper-parameters, tokenizer, chat template and weights by name.

use std::path::Path;

use aio_ir::DType;

use crate::chat::{ChatError, ChatTemplate, Clock};
use crate::gguf::{Gguf, GgufError};
use crate::hyper::{HyperError, HyperParams};
use crate::tokenizer::{Tokenizer, TokenizerError};

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
}

/// How a model is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// Accept an architecture that aio has no template for, because the user brings one.
    pub any_architecture: bool,
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
    /// Opens a GGUF model of an architecture in [`crate::hyper::ARCHITECTURES`].
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn open(path: impl AsRef<Path>) -> Result<Model, ModelError> {
        Model::open_with(path, OpenOptions::default())
    }

    /// As [`Model::open`], with options.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn open_with(path: impl AsRef<Path>, options: OpenOptions) -> Result<Model, ModelError> {
        Model::from_gguf(Gguf::open(path)?, options)
    }

    /// A model from an open file.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn from_gguf(gguf: Gguf, options: OpenOptions) -> Result<Model, ModelError> {
        let hyper = if options.any_architecture {
            HyperParams::of_any_architecture(&gguf)?
        } else {
            HyperParams::from_gguf(&gguf)?
        };
        let tokenizer = Tokenizer::from_gguf(&gguf)?;
        Ok(Model { gguf, hyper, tokenizer })
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
