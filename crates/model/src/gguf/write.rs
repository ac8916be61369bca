//! The GGUF writer: metadata and tensor table first, then each tensor's data from a callback.
//!
//! Only the header is held in memory, so an 8 GB model streams through. The file is written under a temporary name and
//! renamed when complete, so a partial file never appears under the final name and a failed run leaves nothing. Used by
//! `aio synth` and by tests.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use aio_ir::DType;
use aio_mapped::PartFile;

use super::error::GgufError;
use super::value::{MetaValue, put_str};

/// A tensor to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// The name.
    pub name: String,
    /// The element type, which must have a number in GGUF.
    pub dtype: DType,
    /// Sizes, innermost first.
    pub dims: Vec<u64>,
}

impl TensorSpec {
    /// Bytes of the tensor's data; `None` if the shape cannot be stored in this type.
    pub fn bytes(&self) -> Option<u64> {
        let (row, rows) = self.dims.split_first()?;
        let rows = rows.iter().try_fold(1u64, |n, &d| n.checked_mul(d))?;
        self.dtype.row_bytes(*row)?.checked_mul(rows)
    }
}

/// Collects metadata and tensors, then writes a version 3 file.
#[derive(Clone, Debug)]
pub struct GgufWriter {
    alignment: u64,
    kv: Vec<(String, MetaValue)>,
    tensors: Vec<TensorSpec>,
}

impl Default for GgufWriter {
    fn default() -> GgufWriter {
        GgufWriter::new()
    }
}

impl GgufWriter {
    /// An empty file with the usual alignment of 32 bytes.
    pub fn new() -> GgufWriter {
        GgufWriter { alignment: 32, kv: Vec::new(), tensors: Vec::new() }
    }

    /// Sets the alignment of tensors and writes it into the metadata.
    ///
    /// # Errors
    /// [`GgufError::Alignment`] unless it is a power of two.
    pub fn align(&mut self, bytes: u32) -> Result<&mut GgufWriter, GgufError> {
        if !bytes.is_power_of_two() {
            return Err(GgufError::Alignment { got: bytes });
        }
        self.alignment = bytes.into();
        Ok(self.set("general.alignment", bytes))
    }

    /// Sets a metadata key; a second call replaces the value.
    pub fn set(&mut self, key: &str, value: impl Into<MetaValue>) -> &mut GgufWriter {
        let value = value.into();
        match self.kv.iter_mut().find(|(k, _)| k == key) {
            Some((_, old)) => *old = value,
            None => self.kv.push((key.to_owned(), value)),
        }
        self
    }

    /// Appends a tensor; `dims` are innermost first.
    pub fn tensor(&mut self, name: &str, dtype: DType, dims: &[u64]) -> &mut GgufWriter {
        self.tensors.push(TensorSpec { name: name.to_owned(), dtype, dims: dims.to_vec() });
        self
    }

    /// The tensors added so far.
    pub fn tensors(&self) -> &[TensorSpec] {
        &self.tensors
    }

    /// Size of the complete file in bytes.
    ///
    /// # Errors
    /// See [`GgufWriter::write_to`].
    pub fn file_bytes(&self) -> Result<u64, GgufError> {
        let mut end = self.head()?.len() as u64;
        for t in &self.tensors {
            end = end.next_multiple_of(self.alignment) + spec_bytes(t)?;
        }
        Ok(end.next_multiple_of(self.alignment))
    }

    /// Writes the file. `data` is called once per tensor, in order, and must write exactly the tensor's bytes.
    ///
    /// # Errors
    /// [`GgufError::Write`], [`GgufError::Shape`], [`GgufError::TensorBytes`], [`GgufError::DuplicateTensor`]. No file
    /// remains then.
    pub fn write_to(
        &self,
        path: &Path,
        data: &mut dyn FnMut(&TensorSpec, &mut dyn Write) -> io::Result<()>,
    ) -> Result<(), GgufError> {
        let header = self.head()?;
        let fail = |source| GgufError::Write { path: path.to_path_buf(), source };
        let mut part = PartFile::create(path).map_err(fail)?;
        {
            let mut out = Counted { inner: BufWriter::with_capacity(1 << 20, &mut part), written: 0 };
            out.write_all(&header).map_err(fail)?;
            for spec in &self.tensors {
                pad(&mut out, self.alignment).map_err(fail)?;
                let (start, expected) = (out.written, spec_bytes(spec)?);
                data(spec, &mut out).map_err(fail)?;
                let got = out.written - start;
                if got != expected {
                    return Err(GgufError::TensorBytes { name: spec.name.clone(), expected, got });
                }
            }
            pad(&mut out, self.alignment).map_err(fail)?;
            out.flush().map_err(fail)?;
        }
        part.finish().map_err(fail)
    }

    /// The complete file in memory, for tests and small models.
    ///
    /// # Errors
    /// See [`GgufWriter::write_to`].
    pub fn to_bytes(
        &self,
        data: &mut dyn FnMut(&TensorSpec, &mut dyn Write) -> io::Result<()>,
    ) -> Result<Vec<u8>, GgufError> {
        let mut out = self.head()?;
        let align = |out: &mut Vec<u8>| out.resize(out.len().next_multiple_of(self.alignment as usize), 0);
        for spec in &self.tensors {
            align(&mut out);
            let (start, expected) = (out.len(), spec_bytes(spec)?);
            let fail = |source| GgufError::Write { path: PathBuf::from("memory"), source };
            data(spec, &mut out).map_err(fail)?;
            let got = (out.len() - start) as u64;
            if got != expected {
                return Err(GgufError::TensorBytes { name: spec.name.clone(), expected, got });
            }
        }
        align(&mut out);
        Ok(out)
    }

    /// Metadata and tensor table: the file up to its tensor data.
    ///
    /// # Errors
    /// [`GgufError::Shape`], [`GgufError::DuplicateTensor`].
    pub fn head(&self) -> Result<Vec<u8>, GgufError> {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.kv.len() as u64).to_le_bytes());
        for (key, value) in &self.kv {
            put_str(&mut out, key);
            out.extend((value.ty() as u32).to_le_bytes());
            value.put(&mut out);
        }
        let mut seen = std::collections::HashSet::new();
        let mut offset = 0u64;
        for t in &self.tensors {
            if !seen.insert(&t.name) {
                return Err(GgufError::DuplicateTensor { name: t.name.clone() });
            }
            put_str(&mut out, &t.name);
            out.extend((t.dims.len() as u32).to_le_bytes());
            t.dims.iter().for_each(|d| out.extend(d.to_le_bytes()));
            out.extend(t.dtype.ggml_id().ok_or_else(|| shape_error(t))?.to_le_bytes());
            out.extend(offset.to_le_bytes());
            offset = offset
                .checked_add(spec_bytes(t)?)
                .and_then(|n| n.checked_next_multiple_of(self.alignment))
                .ok_or_else(|| shape_error(t))?;
        }
        Ok(out)
    }
}

fn spec_bytes(spec: &TensorSpec) -> Result<u64, GgufError> {
    spec.bytes().ok_or_else(|| shape_error(spec))
}

fn shape_error(spec: &TensorSpec) -> GgufError {
    GgufError::Shape { name: spec.name.clone(), ty: spec.dtype.to_string(), dims: spec.dims.clone() }
}

struct Counted<W> {
    inner: W,
    written: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(buf)?;
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn pad<W: Write>(out: &mut Counted<W>, alignment: u64) -> io::Result<()> {
    let gap = out.written.next_multiple_of(alignment) - out.written;
    io::copy(&mut io::Read::take(io::repeat(0), gap), out).map(drop)
}
