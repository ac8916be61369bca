//! Hashes the sources that decide what lies in an artefact, so that a stale one is known by its header.
//!
//! Each crate hashes its own, so that it works for packages published one by one; the engine puts the hashes together.
//! The same sources give the same hash on any machine. Only the list differs between the crates that have this file.

use std::path::{Path, PathBuf};

/// Files and folders that count.
const SOURCES: &[&str] = &["src"];

fn main() {
    let mut files = Vec::new();
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
        collect(Path::new(source), &mut files);
    }
    files.sort();
    assert!(!files.is_empty(), "the sources are there");
    let mut hasher = blake3::Hasher::new();
    for (name, path) in files {
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        // A checkout may have other line ends.
        let text = text.replace("\r\n", "\n");
        for part in [name, text] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
    }
    println!("cargo::rustc-env=AIO_SOURCE_HASH={}", hasher.finalize().to_hex());
}

/// All source files of a folder, or a file, with their names in the same form everywhere.
fn collect(path: &Path, files: &mut Vec<(String, PathBuf)>) {
    if path.is_dir() {
        let entries = std::fs::read_dir(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        entries.flatten().for_each(|e| collect(&e.path(), files));
    } else if path.extension().is_some_and(|e| e == "rs") {
        let parts: Vec<_> = path.components().map(|c| c.as_os_str().to_string_lossy().into_owned()).collect();
        files.push((parts.join("/"), path.to_path_buf()));
    }
}
