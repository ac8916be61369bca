//! The parser: turns the bytes of a GGUF file into a checked index.
//!
//! [`Index::parse`] trusts nothing: every count is compared with the remaining bytes before anything is allocated for
//! it, every sum is checked, and tensors must be aligned, inside the file and disjoint. The index stores positions, not
//! copies, so the file's bytes are needed again to read a value. Called by [`super::Gguf`] and by the fuzz target.

use std::collections::HashMap;
use std::ops::Range;

use aio_ir::DType;

use super::error::GgufError;
use super::ggml_type::GgmlType;
use super::tensor::TensorInfo;
use super::value::{Value, ValueType, take_value};

/// Maximum nesting of arrays; real files have none.
const MAX_DEPTH: u32 = 4;
/// Minimum size of a metadata entry: key length, type, one byte.
const MIN_KV_BYTES: u64 = 8 + 4 + 1;
/// Minimum size of a tensor entry: name length, dimension count, one dimension, type, offset.
const MIN_TENSOR_BYTES: u64 = 8 + 4 + 8 + 4 + 8;
const DEFAULT_ALIGNMENT: u32 = 32;

/// A metadata entry: its key and the position of its value.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    ty: ValueType,
    at: Range<usize>,
}

impl Entry {
    /// The value; `None` if the bytes differ from those parsed.
    pub(super) fn value<'a>(&self, bytes: &'a [u8]) -> Option<Value<'a>> {
        let mut bytes = bytes.get(self.at.clone())?;
        take_value(&mut bytes, self.ty)
    }

    /// Whether another entry, possibly of another file, has the same type and bytes.
    pub(super) fn same_value(&self, bytes: &[u8], other: &Entry, others: &[u8]) -> bool {
        self.ty == other.ty && bytes.get(self.at.clone()) == others.get(other.at.clone())
    }

    pub(super) fn ty(&self) -> ValueType {
        self.ty
    }
}

/// The checked contents of a GGUF file.
#[derive(Debug)]
pub struct Index {
    pub(super) version: u32,
    pub(super) alignment: u64,
    pub(super) data_start: u64,
    pub(super) entries: Vec<Entry>,
    pub(super) by_key: HashMap<String, usize>,
    pub(super) tensors: Vec<TensorInfo>,
}

impl Index {
    /// An index for a file of another format, which has tensors but no metadata.
    #[cfg(feature = "safetensors")]
    pub(super) fn of_tensors(tensors: Vec<TensorInfo>) -> Index {
        Index { version: 0, alignment: 1, data_start: 0, entries: Vec::new(), by_key: HashMap::new(), tensors }
    }

    /// Parses the header, the metadata and the tensor table of a complete GGUF file.
    ///
    /// # Errors
    /// [`GgufError`] names the first error and its position.
    pub fn parse(bytes: &[u8]) -> Result<Index, GgufError> {
        let mut index = Index::parse_head(bytes)?;
        check_places(&mut index.tensors, index.data_start, bytes.len() as u64)?;
        Ok(index)
    }

    /// Like [`Index::parse`], for a file that may lack its tensor data: tensors have no positions.
    ///
    /// # Errors
    /// See [`Index::parse`].
    pub(super) fn parse_head(bytes: &[u8]) -> Result<Index, GgufError> {
        let mut cur = Cursor { bytes, at: 0 };
        let version = header(&mut cur)?;
        let tensor_count_at = cur.at as u64;
        let tensor_count = cur.u64("the tensor count")?;
        let kv_count = cur.count("the metadata count", MIN_KV_BYTES)?;
        let (entries, by_key) = read_entries(&mut cur, kv_count)?;
        let alignment = alignment(bytes, &entries, &by_key)?;
        cur.check_count("the tensor count", tensor_count_at, tensor_count, MIN_TENSOR_BYTES)?;
        let mut tensors = Vec::new();
        for _ in 0..tensor_count {
            tensors.push(read_tensor(&mut cur, alignment)?);
        }
        let data_start = (cur.at as u64).next_multiple_of(alignment);
        check_names(&tensors)?;
        Ok(Index { version, alignment, data_start, entries, by_key, tensors })
    }
}

fn header(cur: &mut Cursor<'_>) -> Result<u32, GgufError> {
    let magic: [u8; 4] = cur.array("the magic number")?;
    match &magic {
        b"GGUF" => {}
        b"FUGG" => return Err(GgufError::BigEndian),
        _ => return Err(GgufError::Magic { got: magic }),
    }
    let version = cur.u32("the version")?;
    match version {
        2 | 3 => Ok(version),
        // A small number in the other byte order.
        v if v != 0 && v & 0xffff == 0 => Err(GgufError::BigEndian),
        got => Err(GgufError::Version { got }),
    }
}

type Entries = (Vec<Entry>, HashMap<String, usize>);

fn read_entries(cur: &mut Cursor<'_>, count: u64) -> Result<Entries, GgufError> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut by_key = HashMap::new();
    for i in 0..count {
        let offset = cur.at as u64;
        let key = cur.name("a metadata key")?;
        let type_at = cur.at as u64;
        let id = cur.u32("a metadata type")?;
        let ty = ValueType::from_id(id).ok_or_else(|| GgufError::ValueType {
            name: key.clone(),
            offset: type_at,
            got: id,
        })?;
        let start = cur.at;
        cur.skip_value(&key, ty, 0)?;
        if by_key.insert(key.clone(), i as usize).is_some() {
            return Err(GgufError::DuplicateKey { name: key, offset });
        }
        entries.push(Entry { key, ty, at: start..cur.at });
    }
    Ok((entries, by_key))
}

fn alignment(bytes: &[u8], entries: &[Entry], by_key: &HashMap<String, usize>) -> Result<u64, GgufError> {
    let name = "general.alignment";
    let Some(entry) = by_key.get(name).and_then(|&i| entries.get(i)) else {
        return Ok(DEFAULT_ALIGNMENT.into());
    };
    match entry.value(bytes) {
        Some(Value::U32(a)) if a.is_power_of_two() => Ok(a.into()),
        Some(Value::U32(got)) => Err(GgufError::Alignment { got }),
        _ => Err(GgufError::WrongType { name: name.into(), expected: "u32", got: entry.ty }),
    }
}

fn read_tensor(cur: &mut Cursor<'_>, alignment: u64) -> Result<TensorInfo, GgufError> {
    let name = cur.name("a tensor name")?;
    let dim_count = cur.u32("a dimension count")?;
    if !(1..=4).contains(&dim_count) {
        return Err(GgufError::Dims { name, got: dim_count });
    }
    let mut dims = Vec::new();
    for _ in 0..dim_count {
        dims.push(cur.u64("a dimension")?);
    }
    let id = cur.u32("a tensor type")?;
    let ty = DType::from_ggml_id(id).map_or(GgmlType::Unknown(id), GgmlType::Known);
    let offset = cur.u64("a tensor offset")?;
    let Some(size) = checked_bytes(ty, &dims) else {
        return Err(GgufError::Shape { name, ty: ty.to_string(), dims });
    };
    if !offset.is_multiple_of(alignment) {
        return Err(GgufError::Misaligned { name, got: offset, alignment });
    }
    Ok(TensorInfo { name, ty, dims, offset, file_offset: 0, bytes: size, part: 0 })
}

/// Bytes of a tensor: outer `None` for an impossible shape, inner `None` for an unknown type.
fn checked_bytes(ty: GgmlType, dims: &[u64]) -> Option<Option<u64>> {
    let elems = dims.iter().try_fold(1u64, |n, &d| n.checked_mul(d))?;
    i64::try_from(elems).ok()?;
    let GgmlType::Known(dtype) = ty else { return Some(None) };
    let (row, rows) = dims.split_first()?;
    let row_bytes = dtype.row_bytes(*row)?;
    let rows = rows.iter().try_fold(1u64, |n, &d| n.checked_mul(d))?;
    row_bytes.checked_mul(rows).map(Some)
}

fn check_names(tensors: &[TensorInfo]) -> Result<(), GgufError> {
    let mut seen = std::collections::HashSet::new();
    match tensors.iter().find(|t| !seen.insert(t.name.as_str())) {
        Some(twice) => Err(GgufError::DuplicateTensor { name: twice.name.clone() }),
        None => Ok(()),
    }
}

/// Checks that all tensors are inside the file without sharing bytes, and sets their positions. A tensor of unknown
/// type has no known end, so only its start is checked.
fn check_places(tensors: &mut [TensorInfo], data_start: u64, available: u64) -> Result<(), GgufError> {
    for t in tensors.iter_mut() {
        let start = data_start.checked_add(t.offset);
        let end = start.and_then(|s| s.checked_add(t.bytes.unwrap_or(0)));
        match (start, end) {
            (Some(start), Some(end)) if end <= available => t.file_offset = start,
            _ => {
                let (start, end) = (start.unwrap_or(u64::MAX), end.unwrap_or(u64::MAX));
                return Err(GgufError::TensorBounds { name: t.name.clone(), start, end, available });
            }
        }
    }
    let mut order: Vec<&TensorInfo> = tensors.iter().collect();
    order.sort_by_key(|t| (t.offset, t.bytes));
    for pair in order.windows(2) {
        let [a, b] = pair else { continue };
        if a.offset + a.bytes.unwrap_or(0) > b.offset {
            let (first, second) = (a.name.clone(), b.name.clone());
            return Err(GgufError::Overlap { first, second, offset: b.offset });
        }
    }
    Ok(())
}

/// A position in the file. Every read is bounds-checked.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn left(&self) -> u64 {
        (self.bytes.len() - self.at) as u64
    }

    fn take(&mut self, what: &'static str, n: u64) -> Result<&'a [u8], GgufError> {
        let taken = usize::try_from(n).ok().and_then(|len| self.bytes[self.at..].get(..len));
        let truncated =
            || GgufError::Truncated { what, offset: self.at as u64, needed: n, available: self.bytes.len() as u64 };
        let taken = taken.ok_or_else(truncated)?;
        self.at += taken.len();
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], GgufError> {
        let taken = self.take(what, N as u64)?;
        Ok(taken.try_into().expect("take returns the length asked for"))
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, GgufError> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &'static str) -> Result<u64, GgufError> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// Reads a count of items of at least `least` bytes each, which must fit into the rest of the file.
    fn count(&mut self, what: &'static str, least: u64) -> Result<u64, GgufError> {
        let offset = self.at as u64;
        let got = self.u64(what)?;
        self.check_count(what, offset, got, least)?;
        Ok(got)
    }

    fn check_count(&self, what: &'static str, offset: u64, got: u64, least: u64) -> Result<(), GgufError> {
        let most = self.left() / least;
        if got > most {
            return Err(GgufError::Count { what, offset, got, most });
        }
        Ok(())
    }

    /// Reads the bytes of a text, which need not be UTF-8.
    fn text(&mut self, what: &'static str) -> Result<&'a [u8], GgufError> {
        let len = self.u64(what)?;
        self.take(what, len)
    }

    /// Reads a key or a tensor name. Bytes that are not UTF-8 are replaced: nothing looks up such a name, and tools can
    /// still show the rest of the file.
    fn name(&mut self, what: &'static str) -> Result<String, GgufError> {
        Ok(String::from_utf8_lossy(self.text(what)?).into_owned())
    }

    /// Checks and skips a value.
    fn skip_value(&mut self, key: &str, ty: ValueType, depth: u32) -> Result<(), GgufError> {
        match ty {
            ValueType::Str => self.text("a metadata string").map(drop),
            ValueType::Array => self.skip_array(key, depth),
            ValueType::Bool => self.skip_bools(1),
            _ => self.take("a metadata value", ty.fixed_bytes().unwrap_or(0) as u64).map(drop),
        }
    }

    fn skip_array(&mut self, key: &str, depth: u32) -> Result<(), GgufError> {
        let offset = self.at as u64;
        if depth >= MAX_DEPTH {
            return Err(GgufError::Depth { offset, most: MAX_DEPTH });
        }
        let id = self.u32("an array's element type")?;
        let elem =
            ValueType::from_id(id).ok_or_else(|| GgufError::ValueType { name: key.to_owned(), offset, got: id })?;
        // Minimum size of an element: a length for texts, type and length for arrays.
        let least = elem.fixed_bytes().map_or(if elem == ValueType::Array { 12 } else { 8 }, |n| n as u64);
        let len = self.count("an array's length", least)?;
        match elem {
            ValueType::Bool => self.skip_bools(len),
            ValueType::Str | ValueType::Array => (0..len).try_for_each(|_| self.skip_value(key, elem, depth + 1)),
            _ => self.take("an array", len * least).map(drop),
        }
    }

    fn skip_bools(&mut self, len: u64) -> Result<(), GgufError> {
        let offset = self.at as u64;
        let bytes = self.take("a boolean", len)?;
        match bytes.iter().position(|&b| b > 1) {
            Some(i) => Err(GgufError::Bool { offset: offset + i as u64, got: bytes[i] }),
            None => Ok(()),
        }
    }
}
