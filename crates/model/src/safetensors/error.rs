//! Why a folder in Hugging Face's form is no model that aio runs. Made by this folder's readers.

use crate::gguf::GgufError;
use aio_mapped::MapError;
use std::io;
use std::path::PathBuf;

/// A fault of such a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SafetensorsError {
    /// A text file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A file is no JSON, lacks a key or has one of another type.
    #[error("{}: {message}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What and where.
        message: String,
    },
    /// The model uses something that aio does not have.
    #[error("{}: {what} is not supported", path.display())]
    Unsupported {
        /// The file that says so.
        path: PathBuf,
        /// What it is.
        what: String,
    },
    /// A value outside what a model can have.
    #[error("{}: {key} is {got}, but must be {expected}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// Its value.
        got: String,
        /// What it may be.
        expected: String,
    },
    /// The folder has no weights.
    #[error("{} has neither model.safetensors nor an index of several files", path.display())]
    NoWeights {
        /// The folder.
        path: PathBuf,
    },
    /// An index names a file in another folder.
    #[error("{} names {file:?}, which is not a plain file name", path.display())]
    FileName {
        /// The index.
        path: PathBuf,
        /// The name.
        file: String,
    },
    /// A file of weights cannot be opened or mapped.
    #[error(transparent)]
    Map(#[from] MapError),
    /// A file of weights is cut short or has another form.
    #[error("{} is not a complete safetensors file: {message}", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What the safetensors library says.
        message: String,
    },
    /// A file lacks a tensor that its index promises, or a folder one that the model needs.
    #[error("{} lacks the tensor {name:?}", path.display())]
    MissingTensor {
        /// The file or folder.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A tensor whose meaning is not known; to leave it out would change the model.
    #[error("{} has the tensor {name:?}, which no supported model has", path.display())]
    UnknownTensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A tensor of another element type or rank.
    #[error("{}: tensor {name:?} is {kind}; vectors and matrices of F32, F16 and BF16 are read", path.display())]
    TensorKind {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its type and shape.
        kind: String,
    },
    /// The token embedding is missing or has another shape than the configuration says.
    #[error("{}: the token embedding is {found:?}, but config.json says {expected:?}", path.display())]
    Embedding {
        /// The folder.
        path: PathBuf,
        /// Its shape; empty if there is none.
        found: Vec<u64>,
        /// The shape that it should have.
        expected: [u64; 2],
    },
    /// The parts do not make a model.
    #[error(transparent)]
    Gguf(#[from] GgufError),
}
