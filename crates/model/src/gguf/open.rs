//! Opens a model: one file, a split set of files, or bytes in memory.
//!
//! The parts of a split model state their number and count both in the metadata (`split.no`, `split.count`) and in the
//! file name; these must agree. Given any part, all are opened.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use aio_mapped::Map;

use super::error::GgufError;
use super::index::Index;
#[cfg(feature = "safetensors")]
use super::tensor::TensorInfo;
use super::write::GgufWriter;
use super::{Bytes, Gguf, Part};

impl Gguf {
    /// Opens a model by the path of its file, or of any part of a split model.
    ///
    /// # Errors
    /// [`GgufError`]; structural errors are wrapped in [`GgufError::InFile`].
    pub fn open(path: impl AsRef<Path>) -> Result<Gguf, GgufError> {
        let path = path.as_ref();
        let given = open_part(path)?;
        let one = Gguf::from_parts(vec![given]).map_err(|e| in_file(path, e))?;
        let count = one.get_u32("split.count").map_err(|e| in_file(path, e))?.unwrap_or(1);
        if count <= 1 {
            return Ok(one);
        }
        open_split(path, count).map_err(|e| match e {
            e @ (GgufError::InFile { .. } | GgufError::Map(_)) => e,
            e => in_file(path, e),
        })
    }

    /// Opens a model in memory. Split models are rejected, because their parts have no names.
    ///
    /// # Errors
    /// [`GgufError`].
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Gguf, GgufError> {
        let index = Index::parse(&bytes)?;
        let gguf = Gguf::from_parts(vec![Part { bytes: Bytes::Owned(bytes), index }])?;
        match gguf.get_u32("split.count")? {
            Some(count) if count > 1 => Err(GgufError::SplitName { count }),
            _ => Ok(gguf),
        }
    }

    /// Opens a model without tensor data, from the output of [`Gguf::head`]. Everything except the tensors' bytes is
    /// available.
    ///
    /// # Errors
    /// [`GgufError`].
    pub fn from_head(bytes: Vec<u8>) -> Result<Gguf, GgufError> {
        let index = Index::parse_head(&bytes)?;
        Gguf::from_parts(vec![Part { bytes: Bytes::Head(bytes), index }])
    }

    /// Metadata and tensor table as a GGUF file that ends before its tensor data: all that engine and tokenizer need of
    /// a model whose weights are elsewhere. A split model becomes one file; tensors of unknown types are left out.
    ///
    /// # Errors
    /// [`GgufError::Shape`] for tensors that the writer rejects.
    pub fn head(&self) -> Result<Vec<u8>, GgufError> {
        let mut writer = GgufWriter::new();
        if let Some(alignment) = self.get_u32("general.alignment")? {
            writer.align(alignment)?;
        }
        for (key, value) in self.metadata().filter(|(key, _)| !key.starts_with("split.")) {
            writer.set(key, value.to_meta());
        }
        for tensor in self.tensors() {
            if let Ok(dtype) = tensor.dtype() {
                writer.tensor(&tensor.name, dtype, &tensor.dims);
            }
        }
        writer.head()
    }

    /// A model with metadata, and possibly some tensors, in a GGUF file in memory, and the other tensors in files of
    /// another format.
    ///
    /// # Errors
    /// [`GgufError`].
    #[cfg(feature = "safetensors")]
    pub(crate) fn of_files(metadata: Vec<u8>, files: Vec<(Map, Vec<TensorInfo>)>) -> Result<Gguf, GgufError> {
        let index = Index::parse(&metadata)?;
        let mut parts = vec![Part { bytes: Bytes::Owned(metadata), index }];
        parts.extend(files.into_iter().map(|(map, t)| Part { bytes: Bytes::Mapped(map), index: Index::of_tensors(t) }));
        Gguf::from_parts(parts)
    }

    fn from_parts(mut parts: Vec<Part>) -> Result<Gguf, GgufError> {
        let mut tensors = Vec::new();
        for (i, part) in parts.iter_mut().enumerate() {
            part.index.tensors.iter_mut().for_each(|t| t.part = i);
            tensors.append(&mut part.index.tensors);
        }
        let mut by_name = HashMap::new();
        for (i, t) in tensors.iter().enumerate() {
            if by_name.insert(t.name.clone(), i).is_some() {
                return Err(GgufError::DuplicateTensor { name: t.name.clone() });
            }
        }
        Ok(Gguf { parts, tensors, by_name })
    }
}

fn in_file(path: &Path, source: GgufError) -> GgufError {
    GgufError::InFile { path: path.to_path_buf(), source: Box::new(source) }
}

fn open_part(path: &Path) -> Result<Part, GgufError> {
    let map = Map::open(path)?;
    let index = Index::parse(&map).map_err(|e| in_file(path, e))?;
    Ok(Part { bytes: Bytes::Mapped(map), index })
}

fn open_split(path: &Path, count: u32) -> Result<Gguf, GgufError> {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let stem = split_stem(name, count).ok_or(GgufError::SplitName { count })?;
    let mut parts = Vec::new();
    for number in 1..=count {
        let part_path: PathBuf = path.with_file_name(format!("{stem}-{number:05}-of-{count:05}.gguf"));
        let part = open_part(&part_path)?;
        check_part(&part, number, count).map_err(|e| in_file(&part_path, e))?;
        if let Some(first) = parts.first() {
            check_keys(first, &part, number).map_err(|e| in_file(&part_path, e))?;
        }
        parts.push(part);
    }
    let gguf = Gguf::from_parts(parts)?;
    if let Some(expected) = gguf.get_u32("split.tensors.count")? {
        let (expected, got) = (u64::from(expected), gguf.tensors.len() as u64);
        if expected != got {
            return Err(GgufError::SplitTensors { expected, got });
        }
    }
    Ok(gguf)
}

/// Checks a later part's keys. Metadata is read only from the first part, so a later one must repeat it, except for its
/// place in the split and its alignment.
fn check_keys(first: &Part, part: &Part, number: u32) -> Result<(), GgufError> {
    for entry in &part.index.entries {
        let key = entry.key.as_str();
        if key.starts_with("split.") || key == "general.alignment" {
            continue;
        }
        let known = first.index.by_key.get(key).and_then(|&i| first.index.entries.get(i));
        if !known.is_some_and(|known| known.same_value(first.bytes.get(), entry, part.bytes.get())) {
            return Err(GgufError::SplitKey { part: number, key: key.to_owned(), missing: known.is_none() });
        }
    }
    Ok(())
}

/// The part of the file name before `-NNNNN-of-NNNNN.gguf`, if the name ends in that.
fn split_stem(name: &str, count: u32) -> Option<&str> {
    let rest = name.strip_suffix(&format!("-of-{count:05}.gguf"))?;
    let (stem, number) = rest.rsplit_once('-')?;
    let all_digits = number.len() == 5 && number.bytes().all(|b| b.is_ascii_digit());
    all_digits.then_some(stem)
}

fn check_part(part: &Part, number: u32, count: u32) -> Result<(), GgufError> {
    let read = |key: &'static str| -> Result<u32, GgufError> {
        let value = part.index.by_key.get(key).and_then(|&i| part.index.entries.get(i));
        let missing = || GgufError::MissingKey { name: key.to_owned() };
        let entry = value.ok_or_else(missing)?;
        let int = entry.value(part.bytes.get()).and_then(|v| v.as_int());
        let wrong = || GgufError::WrongType { name: key.to_owned(), expected: "u16", got: entry.ty() };
        int.and_then(|v| u32::try_from(v).ok()).ok_or_else(wrong)
    };
    for (key, expected) in [("split.no", number - 1), ("split.count", count)] {
        let got = read(key)?;
        if got != expected {
            return Err(GgufError::SplitPart { part: number, key, expected, got });
        }
    }
    Ok(())
}
