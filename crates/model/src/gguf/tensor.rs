//! What a GGUF file says about one tensor. Made by the parser, read by everyone.

use std::fmt;

use aio_ir::DType;

use super::error::GgufError;

/// The element type of a tensor in a file: one that aio knows, or another number.
///
/// Unknown numbers are kept so that tools can show every file; only a use of the tensor fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TensorType {
    /// A type that aio reads.
    Known(DType),
    /// A type number of ggml that aio does not read.
    Unknown(u32),
}

impl TensorType {
    /// The type, if aio reads it.
    pub fn dtype(self) -> Option<DType> {
        match self {
            TensorType::Known(t) => Some(t),
            TensorType::Unknown(_) => None,
        }
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TensorType::Known(t) => t.fmt(f),
            TensorType::Unknown(id) => write!(f, "unknown({id})"),
        }
    }
}

/// One row of a file's tensor table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// The name, as in `blk.0.attn_q.weight`.
    pub name: String,
    /// The element type.
    pub ty: TensorType,
    /// Sizes in ggml's order: the innermost (contiguous) dimension first.
    pub dims: Vec<u64>,
    /// Byte offset from the start of its file's data section.
    pub offset: u64,
    /// Byte offset from the start of its file.
    pub file_offset: u64,
    /// Bytes of data; `None` for unknown types.
    pub bytes: Option<u64>,
    /// Which file of a split model holds it, from 0.
    pub part: usize,
}

impl TensorInfo {
    /// The type.
    ///
    /// # Errors
    /// [`GgufError::UnsupportedType`] names the tensor and the number if aio does not read it.
    pub fn dtype(&self) -> Result<DType, GgufError> {
        match self.ty {
            TensorType::Known(t) => Ok(t),
            TensorType::Unknown(id) => Err(GgufError::UnsupportedType { name: self.name.clone(), id }),
        }
    }

    /// Number of elements.
    pub fn elems(&self) -> u64 {
        self.dims.iter().product()
    }

    /// Sizes in row-major order: outermost first, the reverse of [`TensorInfo::dims`].
    pub fn shape(&self) -> Vec<u64> {
        self.dims.iter().rev().copied().collect()
    }
}
