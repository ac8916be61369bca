//! Errors of models in Hugging Face's format. Raised by the readers in this folder.

use crate::gguf::GgufError;
use aio_mapped::MapError;
use std::io;
use std::path::PathBuf;

/// Why such a model cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SafetensorsError {
    /// A text file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// A file is not JSON, or a key is missing or has the wrong type.
    #[error("{}: {message}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        message: String,
    },
    /// The model uses something that aio does not support.
    #[error("{}: {what} is not supported", path.display())]
    Unsupported {
        /// The file that requests it.
        path: PathBuf,
        /// The unsupported feature.
        what: String,
    },
    /// A value is out of range.
    #[error("{}: {key} is {got}, but must be {expected}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// Its value.
        got: String,
        /// The values allowed.
        expected: String,
    },
    /// The folder contains no weights.
    #[error("{} has neither model.safetensors nor an index of several files", path.display())]
    NoWeights {
        /// The folder.
        path: PathBuf,
    },
    /// An index names a file outside the folder.
    #[error("{} names {file:?}, which is not a plain file name", path.display())]
    FileName {
        /// The index.
        path: PathBuf,
        /// The name.
        file: String,
    },
    /// A weight file cannot be opened or mapped.
    #[error(transparent)]
    Map(#[from] MapError),
    /// A weight file is truncated or has another format.
    #[error("{} is not a complete safetensors file: {message}", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// The message of the safetensors library.
        message: String,
    },
    /// A tensor is missing that the index lists or the model needs.
    #[error("{} lacks the tensor {name:?}", path.display())]
    MissingTensor {
        /// The file or folder.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A tensor has an unknown meaning; ignoring it would change the model.
    #[error("{} has the tensor {name:?}, which no supported model has", path.display())]
    UnknownTensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A tensor has an unsupported element type or rank.
    #[error("{}: tensor {name:?} is {kind}; vectors and matrices of F32, F16 and BF16 are read", path.display())]
    TensorKind {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its type and shape.
        kind: String,
    },
    /// The token embedding is missing, or its shape differs from the configuration's.
    #[error("{}: the token embedding is {found:?}, but config.json says {expected:?}", path.display())]
    Embedding {
        /// The folder.
        path: PathBuf,
        /// Its shape; empty if missing.
        found: Vec<u64>,
        /// The expected shape.
        expected: [u64; 2],
    },
    /// The parts do not form a valid model.
    #[error(transparent)]
    Gguf(#[from] GgufError),
}
