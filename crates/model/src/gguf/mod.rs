//! GGUF files: a reader over a memory map, and a streaming writer.
//!
//! The format is llama.cpp's. Versions 2 and 3 are read, little-endian only. Opening a file checks everything that can
//! be checked without reading the weights (bounds, overflow, alignment, overlap, duplicate names), so that later access
//! cannot fail because of the file's structure. Models split into `-00001-of-00003.gguf` files open as one. Used by the
//! rest of this crate, by `aio gguf` and by `aio synth`.

mod error;
mod ggml_type;
mod index;
mod open;
mod tensor;
mod value;
pub mod write;

pub use error::GgufError;
pub use ggml_type::GgmlType;
pub use index::Index;
pub use tensor::TensorInfo;
pub use value::{Array, ArrayIter, MetaValue, Value, ValueType};

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use aio_mapped::Map;

/// The bytes of one file, mapped or in memory.
#[derive(Debug)]
enum Bytes {
    Mapped(Map),
    Owned(Vec<u8>),
    /// Only metadata and tensor table.
    Head(Vec<u8>),
}

impl Bytes {
    fn get(&self) -> &[u8] {
        match self {
            Bytes::Mapped(m) => m,
            Bytes::Owned(v) | Bytes::Head(v) => v,
        }
    }

    /// Some bytes of a tensor, if they are available.
    fn data(&self, start: usize, len: usize) -> Option<&[u8]> {
        match self {
            Bytes::Head(_) => None,
            whole => whole.get().get(start..start.checked_add(len)?),
        }
    }
}

#[derive(Debug)]
struct Part {
    bytes: Bytes,
    index: Index,
}

/// An open GGUF model: one file, or all parts of a split one.
#[derive(Debug)]
pub struct Gguf {
    parts: Vec<Part>,
    tensors: Vec<TensorInfo>,
    by_name: HashMap<String, usize>,
}

impl Gguf {
    /// The format version of the (first) file.
    pub fn version(&self) -> u32 {
        self.first().version
    }

    /// Alignment of tensors in bytes.
    pub fn alignment(&self) -> u64 {
        self.first().alignment
    }

    /// Start of the (first) file's tensor data, in bytes.
    pub fn data_start(&self) -> u64 {
        self.first().data_start
    }

    /// Size of all parts together in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.parts.iter().map(|p| p.bytes.get().len() as u64).sum()
    }

    /// The files in order of parts; empty for a model in memory.
    pub fn paths(&self) -> Vec<PathBuf> {
        let mapped = self.parts.iter().filter_map(|p| match &p.bytes {
            Bytes::Mapped(m) => Some(m.path().to_path_buf()),
            Bytes::Owned(_) | Bytes::Head(_) => None,
        });
        mapped.collect()
    }

    /// The path of the (first) file, if any.
    pub fn path(&self) -> Option<&Path> {
        match &self.parts.first()?.bytes {
            Bytes::Mapped(m) => Some(m.path()),
            Bytes::Owned(_) | Bytes::Head(_) => None,
        }
    }

    /// Metadata in file order, as key and value. For a split model, that of its first part.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        let bytes = self.first_bytes();
        self.first().entries.iter().filter_map(move |e| Some((e.key.as_str(), e.value(bytes)?)))
    }

    /// The value of a metadata key, if the file has it.
    pub fn get(&self, key: &str) -> Option<Value<'_>> {
        let &i = self.first().by_key.get(key)?;
        self.first().entries.get(i)?.value(self.first_bytes())
    }

    /// The tensors, in file order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor with this name, if any.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.by_name.get(name).and_then(|&i| self.tensors.get(i))
    }

    /// The raw bytes of a tensor, in the file's layout.
    ///
    /// # Errors
    /// [`GgufError::MissingTensor`] and [`GgufError::UnsupportedType`].
    pub fn tensor_data(&self, name: &str) -> Result<&[u8], GgufError> {
        let missing = || GgufError::MissingTensor { name: name.to_owned() };
        let info = self.tensor(name).ok_or_else(missing)?;
        let dtype_known = info.dtype();
        let len = match info.bytes {
            Some(n) => n as usize,
            None => return Err(dtype_known.err().unwrap_or_else(missing)),
        };
        let start = info.file_offset as usize;
        self.parts.get(info.part).and_then(|p| p.bytes.data(start, len)).ok_or_else(missing)
    }

    /// Compares the files with their state when they were opened.
    ///
    /// # Errors
    /// [`GgufError::Map`] if one has changed.
    pub fn check_unchanged(&self) -> Result<(), GgufError> {
        for part in &self.parts {
            if let Bytes::Mapped(map) = &part.bytes {
                map.check_unchanged()?;
            }
        }
        Ok(())
    }

    /// Hints to the system that all bytes will be needed soon.
    pub fn advise_willneed(&self) {
        for part in &self.parts {
            if let Bytes::Mapped(map) = &part.bytes {
                map.advise_willneed();
            }
        }
    }

    fn first(&self) -> &Index {
        &self.parts.first().expect("a model has at least one part").index
    }

    fn first_bytes(&self) -> &[u8] {
        self.parts.first().expect("a model has at least one part").bytes.get()
    }
}

/// Typed access. For a missing key, `get_*` returns `None` and `need_*` an error. A value of another type, or out of
/// range, is an error in both.
impl Gguf {
    /// An integer of any width that fits u32.
    ///
    /// # Errors
    /// [`GgufError::WrongType`], [`GgufError::Range`].
    pub fn get_u32(&self, key: &str) -> Result<Option<u32>, GgufError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let int = value.as_int().ok_or_else(|| wrong(key, "u32", &value))?;
        let range = |_| GgufError::Range { name: key.to_owned(), expected: "u32", got: int.to_string() };
        u32::try_from(int).map(Some).map_err(range)
    }

    /// A float.
    ///
    /// # Errors
    /// [`GgufError::WrongType`].
    pub fn get_f32(&self, key: &str) -> Result<Option<f32>, GgufError> {
        self.get(key).map(|v| v.as_f32().ok_or_else(|| wrong(key, "f32", &v))).transpose()
    }

    /// A boolean.
    ///
    /// # Errors
    /// [`GgufError::WrongType`].
    pub fn get_bool(&self, key: &str) -> Result<Option<bool>, GgufError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(b)) => Ok(Some(b)),
            Some(v) => Err(wrong(key, "bool", &v)),
        }
    }

    /// A text.
    ///
    /// # Errors
    /// [`GgufError::WrongType`], [`GgufError::Utf8`].
    pub fn get_str(&self, key: &str) -> Result<Option<&str>, GgufError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Str(text)) => Ok(Some(text)),
            Some(Value::Bytes(_)) => Err(GgufError::Utf8 { name: key.to_owned() }),
            Some(v) => Err(wrong(key, "string", &v)),
        }
    }

    /// A text for display: bytes that are not UTF-8 are replaced.
    ///
    /// # Errors
    /// [`GgufError::WrongType`].
    pub fn get_text(&self, key: &str) -> Result<Option<std::borrow::Cow<'_, str>>, GgufError> {
        match self.get(key) {
            Some(Value::Bytes(bytes)) => Ok(Some(String::from_utf8_lossy(bytes))),
            _ => Ok(self.get_str(key)?.map(Into::into)),
        }
    }

    /// An array with an element type listed in `elems`.
    ///
    /// # Errors
    /// [`GgufError::WrongType`].
    pub fn get_array(&self, key: &str, elems: &[ValueType]) -> Result<Option<Array<'_>>, GgufError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(a)) if elems.contains(&a.elem()) => Ok(Some(a)),
            Some(Value::Array(a)) => {
                Err(GgufError::WrongType { name: key.to_owned(), expected: "another array type", got: a.elem() })
            }
            Some(v) => Err(wrong(key, "array", &v)),
        }
    }

    /// Like [`Gguf::get_u32`].
    ///
    /// # Errors
    /// Also [`GgufError::MissingKey`].
    pub fn need_u32(&self, key: &str) -> Result<u32, GgufError> {
        self.get_u32(key)?.ok_or_else(|| missing(key))
    }

    /// Like [`Gguf::get_f32`].
    ///
    /// # Errors
    /// Also [`GgufError::MissingKey`].
    pub fn need_f32(&self, key: &str) -> Result<f32, GgufError> {
        self.get_f32(key)?.ok_or_else(|| missing(key))
    }

    /// Like [`Gguf::get_str`].
    ///
    /// # Errors
    /// Also [`GgufError::MissingKey`].
    pub fn need_str(&self, key: &str) -> Result<&str, GgufError> {
        self.get_str(key)?.ok_or_else(|| missing(key))
    }
}

fn missing(key: &str) -> GgufError {
    GgufError::MissingKey { name: key.to_owned() }
}

fn wrong(key: &str, expected: &'static str, value: &Value<'_>) -> GgufError {
    GgufError::WrongType { name: key.to_owned(), expected, got: value.ty() }
}
