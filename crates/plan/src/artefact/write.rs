//! Writing an artefact: beside its place, then renamed, so that it is whole or not there at all.

use super::header::{CHUNK_BYTES, HEADER_BYTES, Hash, Header, SECTIONS, Section, WEIGHTS, places, to_bytes};
use super::{ArtefactError, wire};
use crate::PlanFamily;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// What goes into an artefact.
#[derive(Clone, Copy, Debug)]
pub struct Contents<'a> {
    /// What it says of itself.
    pub header: &'a Header,
    /// The section `meta`.
    pub meta: &'a [u8],
    /// The plans.
    pub family: &'a PlanFamily,
    /// The device's packed region.
    pub weights: &'a [u8],
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Bytes of each section, in the order of the file, with its name.
    pub sections: [(&'static str, u64); 4],
    /// Bytes of the file.
    pub bytes: u64,
}

/// Writes an artefact. `progress` is told the bytes after each chunk and may end the writing.
///
/// # Errors
/// [`ArtefactError::Write`]; no file is left behind then.
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
    let mut out = Part::create(path).map_err(fail)?;
    let mut put = |bytes: &[u8]| out.file.write_all(bytes);
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
    out.rename_to(path).map_err(fail)?;
    Ok(Written { sections: std::array::from_fn(|i| (SECTIONS[i], sizes[i])), bytes: end })
}

fn chunks(bytes: &[u8]) -> std::slice::Chunks<'_, u8> {
    bytes.chunks(CHUNK_BYTES as usize)
}

/// A file beside its place; removed unless it is renamed.
struct Part {
    file: File,
    path: Option<PathBuf>,
}

impl Part {
    fn create(path: &Path) -> io::Result<Part> {
        let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        // A rename would put a file in the place of a device or a pipe.
        if fs::metadata(path).is_ok_and(|m| !m.is_file()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it exists and is no regular file"));
        }
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.part", std::process::id()));
        let beside = path.with_file_name(hidden);
        Ok(Part { file: File::create(&beside)?, path: Some(beside) })
    }

    fn rename_to(mut self, path: &Path) -> io::Result<()> {
        if let Some(beside) = self.path.take()
            && let Err(e) = fs::rename(&beside, path)
        {
            self.path = Some(beside);
            return Err(e);
        }
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(path) = self.path.take() {
            // Nothing better can be done about a left-over that cannot be removed.
            let _ = fs::remove_file(path);
        }
    }
}
