//! Errors of reading and writing artefacts. Each variant says what is wrong, so that the command line can say what to
//! do.

use super::hash::Hash;
use crate::PlanError;
use aio_mapped::MapError;
use std::io;
use std::path::PathBuf;

/// Version of the format. A reader accepts only this one.
pub const FORMAT_VERSION: u32 = 2;

/// What is wrong with an artefact, or with writing one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArtefactError {
    /// The file cannot be opened or read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The file cannot be mapped.
    #[error(transparent)]
    Map(#[from] MapError),
    /// The file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The file does not start with the magic bytes.
    #[error("not a compiled artefact: it begins with {got:02x?}")]
    Magic {
        /// The first bytes.
        got: [u8; 8],
    },
    /// The artefact has a different format version.
    #[error("the artefact has format version {got}, this aio reads {FORMAT_VERSION}; compile the model again")]
    Version {
        /// The version found.
        got: u32,
    },
    /// The artefact was written on a machine with the other byte order.
    #[error("the artefact was written on a machine with another byte order; compile the model on this one")]
    ByteOrder,
    /// The file is shorter or longer than its header says.
    #[error("the artefact has {got} bytes, but its parts take {expected}")]
    Length {
        /// Expected size in bytes.
        expected: u64,
        /// Actual size in bytes.
        got: u64,
    },
    /// The header or its section table is invalid.
    #[error("the artefact is damaged: {reason}")]
    Header {
        /// The rule that is broken.
        reason: &'static str,
    },
    /// A section does not match its checksum.
    #[error("the artefact is damaged: the checksum of its section `{name}` differs")]
    Section {
        /// The section's name.
        name: &'static str,
    },
    /// A chunk of the weights does not match its checksum.
    #[error("the artefact is damaged: the checksum of chunk {chunk} of {chunks} of its weights differs")]
    Chunk {
        /// Index of the chunk, from 0.
        chunk: usize,
        /// Number of chunks.
        chunks: usize,
    },
    /// The plans cannot be decoded.
    #[error("the artefact's plans cannot be read: {reason}")]
    Plans {
        /// Why decoding failed.
        reason: String,
    },
    /// The plans break a rule of the verifier.
    #[error("the artefact's plans are not valid: {0}")]
    Rule(PlanError),
    /// The weights are packed for another kind of device.
    #[error("the artefact's weights are packed as `{found}`, this device takes `{expected}`")]
    Form {
        /// Form of the artefact's weights.
        found: String,
        /// Form that the device takes.
        expected: String,
    },
    /// The artefact was made by another version of the compiler or packer.
    #[error("the artefact was made by another version of aio (compiler {}, this one is {}); compile the model again", found.short(), expected.short())]
    Stale {
        /// Compiler hash in the artefact.
        found: Hash,
        /// Compiler hash of this program.
        expected: Hash,
    },
}
