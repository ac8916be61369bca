//! Everything that can be wrong with a GGUF file, one variant per fault.
//!
//! Offsets are in bytes from the start of the file, so that a hex dump shows the place. Tests
//! match variants; the wording is free to improve. Made by the reader and the writer.

use std::io;
use std::path::PathBuf;

use aio_mapped::MapError;

use super::ggml_type::GgmlType;
use super::value::ValueType;

/// What is wrong with a GGUF file or with a use of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// A fault, with the file it was found in.
    #[error("{}: {source}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// The fault.
        source: Box<GgufError>,
    },
    /// The file cannot be opened or mapped, or changed since.
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
    /// A version other than 2 and 3.
    #[error("GGUF version {got} is not supported (2 and 3 are)")]
    Version {
        /// The version found.
        got: u32,
    },
    /// The file ends inside the named part.
    #[error("the file ends at byte {available}, but {what} at byte {offset} needs {needed} bytes")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Where it starts.
        offset: u64,
        /// Its bytes.
        needed: u64,
        /// The file's bytes.
        available: u64,
    },
    /// A count that the file is too small to hold.
    #[error("{what} at byte {offset} says {got} entries, but the file has room for at most {most}")]
    Count {
        /// What is counted.
        what: &'static str,
        /// Where the count lies.
        offset: u64,
        /// The count found.
        got: u64,
        /// What fits into the rest of the file.
        most: u64,
    },
    /// A text that is needed and is not UTF-8.
    #[error("metadata key {name:?} is a string that is not UTF-8")]
    Utf8 {
        /// The key.
        name: String,
    },
    /// A metadata type number that the format does not have.
    #[error("metadata key {name:?} at byte {offset} has the unknown value type {got}")]
    ValueType {
        /// The key.
        name: String,
        /// Where the number lies.
        offset: u64,
        /// The number.
        got: u32,
    },
    /// A boolean byte other than 0 and 1.
    #[error("the boolean at byte {offset} is {got}, neither 0 nor 1")]
    Bool {
        /// Where it lies.
        offset: u64,
        /// Its value.
        got: u8,
    },
    /// Arrays inside arrays inside arrays.
    #[error("the array at byte {offset} is nested deeper than {most} levels")]
    Depth {
        /// Where it lies.
        offset: u64,
        /// The levels allowed.
        most: u32,
    },
    /// Two metadata entries with one key.
    #[error("metadata key {name:?} occurs twice, again at byte {offset}")]
    DuplicateKey {
        /// The key.
        name: String,
        /// Where its second entry starts.
        offset: u64,
    },
    /// Two tensors with one name.
    #[error("tensor {name:?} occurs twice")]
    DuplicateTensor {
        /// The tensor.
        name: String,
    },
    /// `general.alignment` is no power of two.
    #[error("general.alignment is {got}, not a power of two")]
    Alignment {
        /// The value found.
        got: u32,
    },
    /// More dimensions than the format allows.
    #[error("tensor {name:?} has {got} dimensions; 1 to 4 are allowed")]
    Dims {
        /// The tensor.
        name: String,
        /// The number found.
        got: u32,
    },
    /// A tensor whose size overflows or whose rows are no whole number of blocks.
    #[error("tensor {name:?} of type {ty} cannot have the dimensions {dims:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// Its type.
        ty: String,
        /// Its dimensions, innermost first.
        dims: Vec<u64>,
    },
    /// A tensor offset that is no multiple of the alignment.
    #[error("tensor {name:?} starts at data offset {got}, which is not a multiple of {alignment}")]
    Misaligned {
        /// The tensor.
        name: String,
        /// The offset found.
        got: u64,
        /// The file's alignment.
        alignment: u64,
    },
    /// Two tensors that share bytes.
    #[error("tensors {first:?} and {second:?} overlap at data offset {offset}")]
    Overlap {
        /// The tensor that starts first.
        first: String,
        /// The tensor that starts inside it.
        second: String,
        /// Where the second starts.
        offset: u64,
    },
    /// A tensor that reaches behind the end of the file.
    #[error("tensor {name:?} needs bytes {start}..{end}, but the file has {available}")]
    TensorBounds {
        /// The tensor.
        name: String,
        /// Its first byte in the file.
        start: u64,
        /// The byte behind its last.
        end: u64,
        /// The file's bytes.
        available: u64,
    },
    /// A metadata key that is needed and missing.
    #[error("metadata key {name:?} is missing")]
    MissingKey {
        /// The key.
        name: String,
    },
    /// A metadata value of another type than needed.
    #[error("metadata key {name:?} is of type {got}, but {expected} is needed")]
    WrongType {
        /// The key.
        name: String,
        /// What was asked for.
        expected: &'static str,
        /// What the file has.
        got: ValueType,
    },
    /// A metadata integer outside the range needed.
    #[error("metadata key {name:?} is {got}, which does not fit into {expected}")]
    Range {
        /// The key.
        name: String,
        /// What was asked for.
        expected: &'static str,
        /// The value found.
        got: String,
    },
    /// A tensor that is needed and missing.
    #[error("tensor {name:?} is missing")]
    MissingTensor {
        /// The tensor.
        name: String,
    },
    /// A tensor of a type that aio does not read.
    #[error("tensor {name:?} has type {ty}, which is not supported (supported: {})", super::ggml_type::supported())]
    UnsupportedType {
        /// The tensor.
        name: String,
        /// Its type.
        ty: GgmlType,
    },
    /// A file that says it is part of a split but is not named like one.
    #[error("the file is one of {count} parts, but its name does not end in \"-NNNNN-of-{count:05}.gguf\"")]
    SplitName {
        /// How many parts the file's metadata name.
        count: u32,
    },
    /// A part whose `split.no` or `split.count` contradict its name.
    #[error("part {part} says {key} {got}, but its name says {expected}")]
    SplitPart {
        /// The part, counted from 1.
        part: u32,
        /// The metadata key.
        key: &'static str,
        /// What the name says.
        expected: u32,
        /// What the metadata say.
        got: u32,
    },
    /// Parts that together hold another number of tensors than the first one promises.
    #[error("the parts hold {got} tensors, but split.tensors.count is {expected}")]
    SplitTensors {
        /// The number promised.
        expected: u64,
        /// The number found.
        got: u64,
    },
    /// A key of a later part that the first part lacks, or has with another value.
    #[error("part {part} has the metadata key {key:?}, which the first part {}", if *missing { "lacks" } else { "has with another value" })]
    SplitKey {
        /// The part, from 1.
        part: u32,
        /// The key.
        key: String,
        /// Whether the first part has no such key.
        missing: bool,
    },
    /// Writing failed.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The data source of a tensor gave another number of bytes than its shape needs.
    #[error("tensor {name:?}: {got} bytes were written, {expected} are needed")]
    TensorBytes {
        /// The tensor.
        name: String,
        /// Bytes its shape needs.
        expected: u64,
        /// Bytes written.
        got: u64,
    },
}
