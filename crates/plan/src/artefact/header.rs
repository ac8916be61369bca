//! The fixed header of an artefact: its fields, their offsets, and the checks of the section table.

use super::error::{ArtefactError, FORMAT_VERSION};
use super::hash::Hash;

/// First bytes of every artefact. As with PNG's signature, a transfer in text mode damages them.
pub const MAGIC: [u8; 8] = *b"\x89AIO\r\n\x1a\n";
/// Bytes of the weights covered by one checksum.
pub const CHUNK_BYTES: u64 = 1 << 20;

/// Size of the header in bytes.
pub(super) const HEADER_BYTES: usize = 512;
/// Size limits in bytes of the sections before the weights, which are read whole: a vocabulary and a tensor table;
/// plans at a few hundred bytes a task; four bytes per MiB of weights.
const MAX_SECTION_BYTES: [u64; WEIGHTS] = [256 << 20, 64 << 20, 64 << 20];
/// Alignment of the weights: a page, so that they can be mapped.
pub(super) const WEIGHTS_ALIGNMENT: u64 = 4096;
/// Alignment of the other sections.
pub(super) const ALIGNMENT: u64 = 64;
/// The sections in file order.
pub(super) const SECTIONS: [&str; 4] = ["meta", "plans", "chunks", "weights"];
/// Index of the weights in [`SECTIONS`].
pub(super) const WEIGHTS: usize = 3;

const BYTE_ORDER: u32 = 0x0a0b_0c0d;
const TARGET: std::ops::Range<usize> = 88..152;
const FORM: std::ops::Range<usize> = 152..184;
const TABLE: usize = 184;
const ENTRY_BYTES: usize = 56;
const KEY: usize = TABLE + SECTIONS.len() * ENTRY_BYTES;
const CHECKSUM: usize = HEADER_BYTES - 32;

/// Stored in the header when there is no key.
const NO_KEY: Hash = Hash([0; 32]);

/// The metadata in an artefact's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The target its plans were compiled for, such as `cpu-avx512-vnni`. Informative only: `form`
    /// decides.
    pub target: String,
    /// The form of its weights: the device's name for its layout.
    pub form: String,
    /// Hash of the model's content.
    pub model: Hash,
    /// Hash of the sources of the compiler that made it.
    pub compiler: Hash,
    /// The name of its cache entry, so that one entry is not taken for another; `None` outside a cache.
    pub key: Option<Hash>,
}

/// Position and hash of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Section {
    pub offset: u64,
    pub bytes: u64,
    /// Hash of its bytes; zeros for the weights.
    pub hash: Hash,
}

impl Section {
    pub(super) fn end(&self) -> u64 {
        self.offset + self.bytes
    }
}

/// Offsets of sections of the given sizes after the header.
pub(super) fn places(bytes: [u64; 4]) -> [u64; 4] {
    let mut end = HEADER_BYTES as u64;
    std::array::from_fn(|i| {
        let start = end.next_multiple_of(if i == WEIGHTS { WEIGHTS_ALIGNMENT } else { ALIGNMENT });
        end = start + bytes[i];
        start
    })
}

/// Encodes the header. Names that are too long are cut.
pub(super) fn to_bytes(header: &Header, sections: &[Section; 4]) -> [u8; HEADER_BYTES] {
    let mut out = [0; HEADER_BYTES];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &MAGIC);
    put(8, &FORMAT_VERSION.to_le_bytes());
    put(12, &BYTE_ORDER.to_ne_bytes());
    put(16, &(SECTIONS.len() as u32).to_le_bytes());
    put(24, &header.model.0);
    put(56, &header.compiler.0);
    put(KEY, &header.key.unwrap_or(NO_KEY).0);
    put(TARGET.start, cut(&header.target, TARGET.len()));
    put(FORM.start, cut(&header.form, FORM.len()));
    for (i, s) in sections.iter().enumerate() {
        let at = TABLE + i * ENTRY_BYTES;
        put(at, &(i as u32 + 1).to_le_bytes());
        put(at + 8, &s.offset.to_le_bytes());
        put(at + 16, &s.bytes.to_le_bytes());
        put(at + 24, &s.hash.0);
    }
    let checksum = Hash::of(&out[..CHECKSUM]);
    out[CHECKSUM..].copy_from_slice(&checksum.0);
    out
}

/// The longest prefix of `text` of at most `most` bytes.
fn cut(text: &str, most: usize) -> &[u8] {
    &text.as_bytes()[..text.floor_char_boundary(most)]
}

/// Decodes the header of a file of `file_bytes` bytes.
///
/// # Errors
/// [`ArtefactError`]: magic, version, byte order, checksum and section offsets are checked in this order.
pub(super) fn from_bytes(bytes: &[u8; HEADER_BYTES], file_bytes: u64) -> Result<(Header, [Section; 4]), ArtefactError> {
    let magic: [u8; 8] = array(bytes, 0);
    if magic != MAGIC {
        return Err(ArtefactError::Magic { got: magic });
    }
    match u32::from_le_bytes(array(bytes, 8)) {
        FORMAT_VERSION => {}
        got => return Err(ArtefactError::Version { got }),
    }
    if u32::from_ne_bytes(array(bytes, 12)) == BYTE_ORDER.swap_bytes() {
        return Err(ArtefactError::ByteOrder);
    }
    if Hash::of(&bytes[..CHECKSUM]).0 != array::<32>(bytes, CHECKSUM) {
        return Err(ArtefactError::Header { reason: "the checksum of its header differs" });
    }
    let number = |at: usize| u64::from_le_bytes(array(bytes, at));
    let sections: [Section; 4] = std::array::from_fn(|i| {
        let at = TABLE + i * ENTRY_BYTES;
        Section { offset: number(at + 8), bytes: number(at + 16), hash: Hash(array(bytes, at + 24)) }
    });
    check_places(&sections, file_bytes)?;
    let text = |range: std::ops::Range<usize>| {
        let text = std::str::from_utf8(&bytes[range]).map(|t| t.trim_end_matches('\0').to_owned());
        text.map_err(|_| ArtefactError::Header { reason: "a name in its header is not UTF-8" })
    };
    let (target, form) = (text(TARGET)?, text(FORM)?);
    let key = Some(Hash(array(bytes, KEY))).filter(|key| *key != NO_KEY);
    let (model, compiler) = (Hash(array(bytes, 24)), Hash(array(bytes, 56)));
    Ok((Header { target, form, model, compiler, key }, sections))
}

/// Checks that sections lie exactly where a writer puts them, and that the file ends with the last one.
fn check_places(sections: &[Section; 4], file_bytes: u64) -> Result<(), ArtefactError> {
    let sizes = sections.map(|s| s.bytes);
    let total = sizes.iter().try_fold(0u64, |n, &b| n.checked_add(b)).filter(|&n| n < 1 << 60);
    // Sections that are read whole are bounded, so that a sparse file cannot make the reader allocate any amount of
    // memory.
    let small = sizes.iter().zip(MAX_SECTION_BYTES).all(|(&bytes, most)| bytes <= most);
    if total.is_none() || !small || places(sizes) != sections.map(|s| s.offset) {
        return Err(ArtefactError::Header { reason: "its sections are not where they belong" });
    }
    let expected = sections[WEIGHTS].end();
    if expected == file_bytes { Ok(()) } else { Err(ArtefactError::Length { expected, got: file_bytes }) }
}

fn array<const N: usize>(bytes: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the header has all its fields")
}
