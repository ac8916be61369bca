//! Artefacts: a model's plans and packed weights in one file, ready to be read into memory or mapped.
//!
//! ```text
//! header, 512 bytes   magic, version, byte order, section table, model and compiler hash, target, form; blake3 of it
//! meta                what engine and tokenizer need of the model: the head of a GGUF file, without its data
//! plans               the plan family, postcard
//! chunks              a CRC-32 for each MiB of the weights
//! weights             the device's own packed region, byte for byte, at a multiple of 4096 bytes
//! ```
//!
//! Numbers are little-endian; the byte-order mark tells how the weights were written. The section table has a blake3
//! hash of each section except the weights, which the chunk checksums cover. Gaps are zeros and are checked too, so
//! every flipped byte is found. The same family and weights give the same bytes. `aio compile` and the cache write
//! artefacts, the engine reads them; nothing here depends on a device.

mod error;
mod hash;
mod header;
mod read;
pub(crate) mod wire;
mod write;

pub use error::{ArtefactError, FORMAT_VERSION};
pub use hash::Hash;
pub use header::{CHUNK_BYTES, Header, MAGIC};
pub use read::{Artefact, MappedWeights, WeightFile, is_artefact};
pub use wire::{decode, encode};
pub use write::{Contents, Written, write};
