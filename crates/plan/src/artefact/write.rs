//! Writes an artefact to a temporary file and renames it, so that it is either complete or missing.

use super::hash::Hash;
use super::header::{CHUNK_BYTES, HEADER_BYTES, Header, SECTIONS, Section, WEIGHTS, places, to_bytes};
use super::{ArtefactError, wire};
use crate::PlanFamily;
use aio_mapped::PartFile;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;

/// The contents of an artefact.
#[derive(Clone, Copy, Debug)]
pub struct Contents<'a> {
    /// The header.
    pub header: &'a Header,
    /// The section `meta`.
    pub meta: &'a [u8],
    /// The plans.
    pub family: &'a PlanFamily,
    /// The packed weights in the device's form.
    pub weights: &'a [u8],
}

/// Sizes of a written artefact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Name and size in bytes of each section, in file order.
    pub sections: [(&'static str, u64); 4],
    /// Size of the file in bytes.
    pub bytes: u64,
}

/// Writes an artefact. `progress` gets the number of bytes after each chunk and may stop the writing.
///
/// # Errors
/// [`ArtefactError::Write`]; no file remains then.
pub fn write(
    path: &Path,
    contents: &Contents<'_>,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Written, ArtefactError> {
    let fail = |source| ArtefactError::Write { path: path.to_path_buf(), source };
    let plans = wire::encode(contents.family);
    let chunks: Vec<u8> = chunks(contents.weights).flat_map(|c| crc32fast::hash(c).to_le_bytes()).collect();
    let parts = [contents.meta, &plans, &chunks, contents.weights];
    let sizes = parts.map(|p| p.len() as u64);
    let offsets = places(sizes);
    let sections: [Section; 4] = std::array::from_fn(|i| {
        let hash = if i == WEIGHTS { Hash([0; 32]) } else { Hash::of(parts[i]) };
        Section { offset: offsets[i], bytes: sizes[i], hash }
    });
    let mut out = PartFile::create(path).map_err(fail)?;
    let mut put = |bytes: &[u8]| out.write_all(bytes);
    let mut end = HEADER_BYTES as u64;
    put(&to_bytes(contents.header, &sections)).map_err(fail)?;
    for (part, section) in parts.iter().zip(&sections) {
        put(&vec![0; (section.offset - end) as usize]).map_err(fail)?;
        end = section.end();
        for chunk in self::chunks(part) {
            put(chunk).map_err(fail)?;
            if progress(chunk.len() as u64).is_break() {
                return Err(fail(io::Error::new(io::ErrorKind::Interrupted, "interrupted")));
            }
        }
    }
    out.finish().map_err(fail)?;
    Ok(Written { sections: std::array::from_fn(|i| (SECTIONS[i], sizes[i])), bytes: end })
}

fn chunks(bytes: &[u8]) -> std::slice::Chunks<'_, u8> {
    bytes.chunks(CHUNK_BYTES as usize)
}
