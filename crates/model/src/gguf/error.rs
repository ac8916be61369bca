//! Errors of GGUF files, one variant per fault.
//!
//! Offsets are in bytes from the start of the file, as in a hex dump. Tests match variants, so the wording can change
//! freely. Raised by the reader and the writer.

use std::io;
use std::path::PathBuf;

use aio_mapped::MapError;

use super::ggml_type::GgmlType;
use super::value::ValueType;

/// An error in a GGUF file or in its use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// An error, with the file it was found in.
    #[error("{}: {source}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// The error.
        source: Box<GgufError>,
    },
    /// The file cannot be opened or mapped, or has changed.
    #[error(transparent)]
    Map(#[from] MapError),
    /// The first four bytes are not `GGUF`.
    #[error("not a GGUF file: it begins with {got:02x?}, not with \"GGUF\"")]
    Magic {
        /// The bytes found.
        got: [u8; 4],
    },
    /// The file is written for big-endian machines.
    #[error("the file is big-endian; only little-endian GGUF is read")]
    BigEndian,
    /// A version other than 2 or 3.
    #[error("GGUF version {got} is not supported (2 and 3 are)")]
    Version {
        /// The version found.
        got: u32,
    },
    /// The file ends within the named part.
    #[error("the file ends at byte {available}, but {what} at byte {offset} needs {needed} bytes")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Where it starts.
        offset: u64,
        /// Its size in bytes.
        needed: u64,
        /// The file's size in bytes.
        available: u64,
    },
    /// A count larger than the file has room for.
    #[error("{what} at byte {offset} says {got} entries, but the file has room for at most {most}")]
    Count {
        /// What is counted.
        what: &'static str,
        /// Offset of the count.
        offset: u64,
        /// The count found.
        got: u64,
        /// The maximum that fits into the rest of the file.
        most: u64,
    },
    /// A required text is not UTF-8.
    #[error("metadata key {name:?} is a string that is not UTF-8")]
    Utf8 {
        /// The key.
        name: String,
    },
    /// Unknown metadata value type.
    #[error("metadata key {name:?} at byte {offset} has the unknown value type {got}")]
    ValueType {
        /// The key.
        name: String,
        /// Offset of the type number.
        offset: u64,
        /// The type number.
        got: u32,
    },
    /// A boolean byte other than 0 or 1.
    #[error("the boolean at byte {offset} is {got}, neither 0 nor 1")]
    Bool {
        /// Its offset.
        offset: u64,
        /// Its value.
        got: u8,
    },
    /// Arrays are nested too deeply.
    #[error("the array at byte {offset} is nested deeper than {most} levels")]
    Depth {
        /// Offset of the array.
        offset: u64,
        /// Maximum nesting.
        most: u32,
    },
    /// A metadata key occurs twice.
    #[error("metadata key {name:?} occurs twice, again at byte {offset}")]
    DuplicateKey {
        /// The key.
        name: String,
        /// Offset of its second entry.
        offset: u64,
    },
    /// A tensor name occurs twice.
    #[error("tensor {name:?} occurs twice")]
    DuplicateTensor {
        /// The tensor.
        name: String,
    },
    /// `general.alignment` is not a power of two.
    #[error("general.alignment is {got}, not a power of two")]
    Alignment {
        /// The value found.
        got: u32,
    },
    /// A tensor has more dimensions than the format allows.
    #[error("tensor {name:?} has {got} dimensions; 1 to 4 are allowed")]
    Dims {
        /// The tensor.
        name: String,
        /// The number found.
        got: u32,
    },
    /// A tensor's size overflows, or its rows are not whole blocks.
    #[error("tensor {name:?} of type {ty} cannot have the dimensions {dims:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// Its type.
        ty: String,
        /// Its dimensions, innermost first.
        dims: Vec<u64>,
    },
    /// A tensor offset is not a multiple of the alignment.
    #[error("tensor {name:?} starts at data offset {got}, which is not a multiple of {alignment}")]
    Misaligned {
        /// The tensor.
        name: String,
        /// The offset found.
        got: u64,
        /// The file's alignment.
        alignment: u64,
    },
    /// Two tensors share bytes.
    #[error("tensors {first:?} and {second:?} overlap at data offset {offset}")]
    Overlap {
        /// The tensor that starts first.
        first: String,
        /// The tensor that starts inside it.
        second: String,
        /// Offset at which the second starts.
        offset: u64,
    },
    /// A tensor's data extends past the end of the file.
    #[error("tensor {name:?} needs bytes {start}..{end}, but the file has {available}")]
    TensorBounds {
        /// The tensor.
        name: String,
        /// Its first byte in the file.
        start: u64,
        /// End of its data (exclusive).
        end: u64,
        /// The file's size in bytes.
        available: u64,
    },
    /// A required metadata key is missing.
    #[error("metadata key {name:?} is missing")]
    MissingKey {
        /// The key.
        name: String,
    },
    /// A metadata value has the wrong type.
    #[error("metadata key {name:?} is of type {got}, but {expected} is needed")]
    WrongType {
        /// The key.
        name: String,
        /// The requested type.
        expected: &'static str,
        /// The type in the file.
        got: ValueType,
    },
    /// A metadata integer is out of range.
    #[error("metadata key {name:?} is {got}, which does not fit into {expected}")]
    Range {
        /// The key.
        name: String,
        /// The requested type.
        expected: &'static str,
        /// The value found.
        got: String,
    },
    /// A required tensor is missing.
    #[error("tensor {name:?} is missing")]
    MissingTensor {
        /// The tensor.
        name: String,
    },
    /// A tensor has a type that aio does not read.
    #[error("tensor {name:?} has type {ty}, which is not supported (supported: {})", super::ggml_type::supported())]
    UnsupportedType {
        /// The tensor.
        name: String,
        /// Its type.
        ty: GgmlType,
    },
    /// A file that claims to be part of a split model has no such name.
    #[error("the file is one of {count} parts, but its name does not end in \"-NNNNN-of-{count:05}.gguf\"")]
    SplitName {
        /// Number of parts according to the metadata.
        count: u32,
    },
    /// A part's `split.no` or `split.count` contradicts its name.
    #[error("part {part} says {key} {got}, but its name says {expected}")]
    SplitPart {
        /// The part, counted from 1.
        part: u32,
        /// The metadata key.
        key: &'static str,
        /// The value according to the name.
        expected: u32,
        /// The value according to the metadata.
        got: u32,
    },
    /// The parts do not contain the number of tensors that the first one declares.
    #[error("the parts hold {got} tensors, but split.tensors.count is {expected}")]
    SplitTensors {
        /// The number declared.
        expected: u64,
        /// The number found.
        got: u64,
    },
    /// A later part has a key that the first part lacks or has with another value.
    #[error("part {part} has the metadata key {key:?}, which the first part {}", if *missing { "lacks" } else { "has with another value" })]
    SplitKey {
        /// The part, from 1.
        part: u32,
        /// The key.
        key: String,
        /// Whether the first part lacks the key.
        missing: bool,
    },
    /// Writing failed.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// A tensor's data source wrote a number of bytes that does not match its shape.
    #[error("tensor {name:?}: {got} bytes were written, {expected} are needed")]
    TensorBytes {
        /// The tensor.
        name: String,
        /// Bytes required by its shape.
        expected: u64,
        /// Bytes written.
        got: u64,
    },
}
