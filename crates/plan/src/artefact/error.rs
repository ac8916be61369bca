//! Why an artefact cannot be used. Each says what is wrong, so that the command line can say what to do.

use super::hash::Hash;
use crate::PlanError;
use aio_mapped::MapError;
use std::io;
use std::path::PathBuf;

/// The version of the format; a reader takes no other.
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
        /// The system's answer.
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
        /// The system's answer.
        source: io::Error,
    },
    /// The file is something else.
    #[error("not a compiled artefact: it begins with {got:02x?}")]
    Magic {
        /// The first bytes.
        got: [u8; 8],
    },
    /// Another version of the format.
    #[error("the artefact has format version {got}, this aio reads {FORMAT_VERSION}; compile the model again")]
    Version {
        /// The version found.
        got: u32,
    },
    /// Written on a machine with the other byte order.
    #[error("the artefact was written on a machine with another byte order; compile the model on this one")]
    ByteOrder,
    /// The file is shorter or longer than its header says.
    #[error("the artefact has {got} bytes, but its parts take {expected}")]
    Length {
        /// Bytes it should have.
        expected: u64,
        /// Bytes it has.
        got: u64,
    },
    /// The header or what it says of the sections.
    #[error("the artefact is damaged: {reason}")]
    Header {
        /// What does not hold.
        reason: &'static str,
    },
    /// A section's checksum does not fit its bytes.
    #[error("the artefact is damaged: the checksum of its section `{name}` differs")]
    Section {
        /// The section.
        name: &'static str,
    },
    /// A chunk of the weights.
    #[error("the artefact is damaged: the checksum of chunk {chunk} of {chunks} of its weights differs")]
    Chunk {
        /// The chunk, from 0.
        chunk: usize,
        /// How many there are.
        chunks: usize,
    },
    /// The plans are no plans.
    #[error("the artefact's plans cannot be read: {reason}")]
    Plans {
        /// Where reading ended.
        reason: String,
    },
    /// The plans break a rule.
    #[error("the artefact's plans are not valid: {0}")]
    Rule(PlanError),
    /// Packed for another kind of device.
    #[error("the artefact's weights are packed as `{found}`, this device takes `{expected}`")]
    Form {
        /// The artefact's form.
        found: String,
        /// The device's.
        expected: String,
    },
    /// Made by another compiler or packer.
    #[error("the artefact was made by another version of aio (compiler {}, this one is {}); compile the model again", found.short(), expected.short())]
    Stale {
        /// The artefact's compiler hash.
        found: Hash,
        /// This program's.
        expected: Hash,
    },
}
