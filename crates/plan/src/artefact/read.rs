//! Reads an artefact: everything except the weights on opening, the weights chunk by chunk or as a map.

use super::hash::Hash;
use super::header::{CHUNK_BYTES, HEADER_BYTES, Header, MAGIC, SECTIONS, Section, WEIGHTS, from_bytes};
use super::{ArtefactError, wire};
use crate::PlanFamily;
use aio_mapped::Map;
use std::fs::File;
use std::io::{self, Read};
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};

/// Bytes read at a time: small enough that the checksum finds them still in the L2 cache.
const PIECE_BYTES: usize = 256 << 10;

/// Whether a file starts with the artefact magic; `false` also for a file that cannot be read.
pub fn is_artefact(path: &Path) -> bool {
    let mut first = [0; MAGIC.len()];
    // Opening a pipe would block until there is a writer.
    path.is_file() && File::open(path).and_then(|mut f| f.read_exact(&mut first)).is_ok() && first == MAGIC
}

/// An open artefact. Header, meta, plans and chunk table are in memory and checked; the weights stay in the file.
#[derive(Debug)]
pub struct Artefact {
    header: Header,
    meta: Vec<u8>,
    plans: Vec<u8>,
    weights: WeightFile,
}

impl Artefact {
    /// Opens a file and checks everything except the weights.
    ///
    /// # Errors
    /// [`ArtefactError`] if the file cannot be read or is damaged.
    pub fn open(path: &Path) -> Result<Artefact, ArtefactError> {
        let fail: Fail<'_> = &|source| ArtefactError::Read { path: path.to_path_buf(), source };
        if !std::fs::metadata(path).map_err(fail)?.is_file() {
            return Err(fail(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")));
        }
        let file = File::open(path).map_err(fail)?;
        let file_bytes = file.metadata().map_err(fail)?.len();
        let mut first = [0; HEADER_BYTES];
        let there = file_bytes.min(HEADER_BYTES as u64) as usize;
        read_at(&file, &mut first[..there], 0).map_err(fail)?;
        if there < HEADER_BYTES && (there < MAGIC.len() || first[..MAGIC.len()] == MAGIC) {
            return Err(ArtefactError::Length { expected: HEADER_BYTES as u64, got: file_bytes });
        }
        let (header, sections) = from_bytes(&first, file_bytes)?;
        let read = |place: usize| read_section(&file, &sections, place, fail);
        let (meta, plans, chunks) = (read(0)?, read(1)?, read(2)?);
        check_gap(&file, &sections, WEIGHTS, fail)?;
        let crcs: Vec<u32> = chunks.as_chunks::<4>().0.iter().map(|c| u32::from_le_bytes(*c)).collect();
        let Section { offset, bytes, .. } = sections[WEIGHTS];
        if chunks.len() as u64 != 4 * bytes.div_ceil(CHUNK_BYTES) {
            return Err(ArtefactError::Header { reason: "its chunk table does not fit its weights" });
        }
        let weights = WeightFile { file, path: path.to_path_buf(), offset, bytes, crcs };
        Ok(Artefact { header, meta, plans, weights })
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The section `meta`.
    pub fn meta(&self) -> &[u8] {
        &self.meta
    }

    /// Takes the section `meta`, leaving it empty.
    pub fn take_meta(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.meta)
    }

    /// Decodes and verifies the plans.
    ///
    /// # Errors
    /// [`ArtefactError::Plans`], [`ArtefactError::Rule`].
    pub fn family(&self) -> Result<PlanFamily, ArtefactError> {
        wire::decode(&self.plans)
    }

    /// The packed weights.
    pub fn weights(&self) -> &WeightFile {
        &self.weights
    }

    /// Size of the file in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.weights.offset + self.weights.bytes
    }

    /// Checks that this program can use the artefact: the weights have the device's form and the same sources made it.
    ///
    /// # Errors
    /// [`ArtefactError::Form`], [`ArtefactError::Stale`].
    pub fn check_made_for(&self, form: &str, compiler: Hash) -> Result<(), ArtefactError> {
        if self.header.form != form {
            return Err(ArtefactError::Form { found: self.header.form.clone(), expected: form.to_owned() });
        }
        if self.header.compiler != compiler {
            return Err(ArtefactError::Stale { found: self.header.compiler, expected: compiler });
        }
        Ok(())
    }
}

type Fail<'a> = &'a dyn Fn(io::Error) -> ArtefactError;

/// Reads a section, and checks it and the gap before it.
fn read_section(file: &File, sections: &[Section; 4], place: usize, fail: Fail<'_>) -> Result<Vec<u8>, ArtefactError> {
    check_gap(file, sections, place, fail)?;
    let section = &sections[place];
    let mut bytes = vec![0; section.bytes as usize];
    read_at(file, &mut bytes, section.offset).map_err(fail)?;
    if Hash::of(&bytes) == section.hash { Ok(bytes) } else { Err(ArtefactError::Section { name: SECTIONS[place] }) }
}

/// Checks that the gap between a section and its predecessor is zeros.
fn check_gap(file: &File, sections: &[Section; 4], place: usize, fail: Fail<'_>) -> Result<(), ArtefactError> {
    let start = place.checked_sub(1).map_or(HEADER_BYTES as u64, |before| sections[before].end());
    let mut gap = vec![0; (sections[place].offset - start) as usize];
    read_at(file, &mut gap, start).map_err(fail)?;
    let clean = gap.iter().all(|&b| b == 0);
    if clean { Ok(()) } else { Err(ArtefactError::Header { reason: "there is something between its sections" }) }
}

/// The packed weights of an artefact, still in the file.
#[derive(Debug)]
pub struct WeightFile {
    file: File,
    path: PathBuf,
    offset: u64,
    bytes: u64,
    crcs: Vec<u32>,
}

impl WeightFile {
    /// Size of all weights in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Number of chunks.
    pub fn chunks(&self) -> usize {
        self.crcs.len()
    }

    /// Byte range of a chunk within the weights.
    pub fn chunk(&self, chunk: usize) -> Range<u64> {
        let start = (chunk as u64 * CHUNK_BYTES).min(self.bytes);
        start..(start + CHUNK_BYTES).min(self.bytes)
    }

    /// Reads a chunk into `out`, which must have the chunk's length, and checks it. Threads may call this concurrently.
    ///
    /// # Errors
    /// [`ArtefactError::Read`], [`ArtefactError::Chunk`].
    ///
    /// # Panics
    /// If there is no such chunk.
    pub fn read_chunk(&self, chunk: usize, out: &mut [u8]) -> Result<(), ArtefactError> {
        let mut at = self.offset + self.chunk(chunk).start;
        let mut crc = crc32fast::Hasher::new();
        for piece in out.chunks_mut(PIECE_BYTES) {
            let read = read_at(&self.file, piece, at);
            read.map_err(|source| ArtefactError::Read { path: self.path.clone(), source })?;
            crc.update(piece);
            at += piece.len() as u64;
        }
        if crc.finalize() == self.crcs[chunk] {
            Ok(())
        } else {
            Err(ArtefactError::Chunk { chunk, chunks: self.chunks() })
        }
    }

    /// Maps the weights without checking them.
    ///
    /// # Errors
    /// [`ArtefactError::Map`].
    pub fn map(&self) -> Result<MappedWeights, ArtefactError> {
        let map = Map::of_file(&self.file, &self.path)?;
        let (start, bytes) = (self.offset as usize, self.bytes as usize);
        if map.len() < start + bytes {
            let (expected, got) = (self.offset + self.bytes, map.len() as u64);
            return Err(ArtefactError::Length { expected, got });
        }
        Ok(MappedWeights { map, range: start..start + bytes })
    }
}

/// Memory-mapped weights, starting at a page. Dereferences to their bytes.
#[derive(Debug)]
pub struct MappedWeights {
    map: Map,
    range: Range<usize>,
}

impl Deref for MappedWeights {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map[self.range.clone()]
    }
}

/// Fills `out` from `offset` without moving the file's shared cursor.
fn read_at(file: &File, out: &mut [u8], offset: u64) -> io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::read_exact_at(file, out, offset);
    #[cfg(windows)]
    {
        let mut done = 0;
        while done < out.len() {
            match std::os::windows::fs::FileExt::seek_read(file, &mut out[done..], offset + done as u64)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => done += read,
            }
        }
        Ok(())
    }
}
