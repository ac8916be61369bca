//! .npy files, NumPy's tensor format. The reader is our own because only a few element types in C order are needed.
//!
//! `format` converts between bytes and tensors; this file does the I/O. Called by `graph run`.

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

/// Writes a file atomically: it appears complete or not at all.
pub(crate) fn write(path: &Path, npy: &Npy) -> Result<()> {
    let bytes = to_bytes(npy).with_context(|| format!("cannot make {}", path.display()))?;
    aio::mapped::write_whole(path, &bytes).with_context(|| format!("cannot write {}", path.display()))
}
