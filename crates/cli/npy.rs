//! .npy files: tensors as NumPy keeps them. An own reader, since a few element types in C order are all it takes.
//!
//! `format` turns bytes into a tensor and back; here are the files. Called by `graph run`.

mod format;

use crate::input;
use anyhow::{Context, Result};
use format::{parse, to_bytes};
use std::path::Path;

pub(crate) use format::{Npy, has};

/// Reads a file.
pub(crate) fn read(path: &Path) -> Result<Npy> {
    let bytes = input::bytes(path, aio::engine::available_bytes().unwrap_or(u64::MAX))?;
    parse(bytes).with_context(|| format!("cannot use {}", path.display()))
}

/// Writes a file; it appears whole or not at all.
pub(crate) fn write(path: &Path, npy: &Npy) -> Result<()> {
    let bytes = to_bytes(npy).with_context(|| format!("cannot make {}", path.display()))?;
    aio::mapped::write_whole(path, &bytes).with_context(|| format!("cannot write {}", path.display()))
}
