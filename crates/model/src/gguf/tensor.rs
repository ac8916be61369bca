//! A tensor's entry in a GGUF file. Created by the parser, read by everything else.

use aio_ir::DType;

use super::error::GgufError;
use super::ggml_type::GgmlType;

/// A row of a file's tensor table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// The name, such as `blk.0.attn_q.weight`.
    pub name: String,
    /// The element type.
    pub ty: GgmlType,
    /// Sizes in ggml's order: the innermost (contiguous) dimension first.
    pub dims: Vec<u64>,
    /// Byte offset from the start of its file's data section.
    pub offset: u64,
    /// Byte offset from the start of its file.
    pub file_offset: u64,
    /// Bytes of data; `None` for unknown types.
    pub bytes: Option<u64>,
    /// Index of the split model's file that contains it, from 0.
    pub part: usize,
}

impl TensorInfo {
    /// The element type.
    ///
    /// # Errors
    /// [`GgufError::UnsupportedType`] names the tensor and the type if aio does not read it.
    pub fn dtype(&self) -> Result<DType, GgufError> {
        match self.ty {
            GgmlType::Known(t) => Ok(t),
            ty @ GgmlType::Unknown(_) => Err(GgufError::UnsupportedType { name: self.name.clone(), ty }),
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
