//! Files: read-only memory maps, and new files that are either complete or missing.
//!
//! Model files and plan artefacts are read in place, so that opening an 8 GB model costs no copy. [`Map`] holds such a
//! map together with the file's [`Identity`] at the time of opening; [`Map::check_unchanged`] compares it later. This
//! is the only crate of aio that maps files. Used by `aio-model` (GGUF files) and `aio-plan` (artefacts). All of aio
//! writes files with [`PartFile`].
//!
//! If another process **truncates** a mapped file, the operating system raises `SIGBUS` at the next read past its new
//! end. This crate installs no signal handler, because a library must not own process-wide state. A program that wants
//! a message instead of a crash installs a handler itself.
//!
//! ```
//! let file = tempfile::NamedTempFile::new()?;
//! std::fs::write(file.path(), b"weights")?;
//! let map = aio_mapped::Map::open(file.path())?;
//! assert_eq!(&map[..], b"weights");
//! map.check_unchanged()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod part;

pub use part::{PartFile, is_at, unique, write_whole};

use std::fs::{File, Metadata};
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use memmap2::Mmap;

/// An error of a mapped file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// The file cannot be opened or its metadata cannot be read.
    #[error("cannot open {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The path names a folder, a pipe or something else that cannot be mapped.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The file has no bytes.
    #[error("{} is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The system refused to map the file.
    #[error("cannot map {}: {source}", path.display())]
    Map {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The file at this path is no longer the one that was opened.
    #[error("{} changed while it was in use: {what} was {was}, now {now}", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// Which part of the identity differs: `size`, `modification time` or `inode`.
        what: &'static str,
        /// Its value at open.
        was: String,
        /// Its value now.
        now: String,
    },
}

/// Distinguishes versions of a file without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Size in bytes.
    pub bytes: u64,
    /// Time of the last modification, if the file system records it.
    pub modified: Option<SystemTime>,
    /// Inode number; 0 on systems that have none.
    pub inode: u64,
}

impl Identity {
    fn of(meta: &Metadata) -> Identity {
        Identity { bytes: meta.len(), modified: meta.modified().ok(), inode: inode(meta) }
    }
}

#[cfg(unix)]
fn inode(meta: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(meta)
}

#[cfg(not(unix))]
fn inode(_meta: &Metadata) -> u64 {
    0
}

/// A whole file, mapped read-only. Dereferences to its bytes.
///
/// See the crate documentation for the effect of a truncation by another process.
#[derive(Debug)]
pub struct Map {
    path: PathBuf,
    identity: Identity,
    bytes: Mmap,
}

impl Map {
    /// Maps the file at `path`.
    ///
    /// # Errors
    /// [`MapError`] if it is missing, empty, not a regular file, or cannot be mapped.
    pub fn open(path: impl AsRef<Path>) -> Result<Map, MapError> {
        let path = path.as_ref().to_path_buf();
        let fail = |source| MapError::Open { path: path.clone(), source };
        // Checked first, because opening a pipe without a writer would block.
        if !std::fs::metadata(&path).map_err(fail)?.is_file() {
            return Err(MapError::NotAFile { path });
        }
        Map::of_file(&File::open(&path).map_err(fail)?, &path)
    }

    /// Maps an open file. `path` is the path it was opened with.
    ///
    /// # Errors
    /// See [`Map::open`].
    pub fn of_file(file: &File, path: &Path) -> Result<Map, MapError> {
        let path = path.to_path_buf();
        let meta = file.metadata().map_err(|source| MapError::Open { path: path.clone(), source })?;
        if !meta.is_file() {
            return Err(MapError::NotAFile { path });
        }
        if meta.len() == 0 {
            return Err(MapError::Empty { path });
        }
        let bytes = map_read_only(file).map_err(|source| MapError::Map { path: path.clone(), source })?;
        // Later reads rely on the map's length, so the identity records it.
        let identity = Identity { bytes: bytes.len() as u64, ..Identity::of(&meta) };
        Ok(Map { path, identity, bytes })
    }

    /// The path the map was opened with.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's identity at open.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Compares the file now at the path with the one that was opened.
    ///
    /// # Errors
    /// [`MapError::Changed`] names the first part that differs; [`MapError::Open`] if the file is gone.
    pub fn check_unchanged(&self) -> Result<(), MapError> {
        let meta =
            std::fs::metadata(&self.path).map_err(|source| MapError::Open { path: self.path.clone(), source })?;
        let (was, now) = (self.identity, Identity::of(&meta));
        let changed =
            |what, was: String, now: String| Err(MapError::Changed { path: self.path.clone(), what, was, now });
        if was.bytes != now.bytes {
            return changed("size", format!("{} bytes", was.bytes), format!("{} bytes", now.bytes));
        }
        if was.inode != now.inode {
            return changed("inode", was.inode.to_string(), now.inode.to_string());
        }
        if was.modified != now.modified {
            return changed("modification time", unix_time(was.modified), unix_time(now.modified));
        }
        Ok(())
    }

    /// Tells the system that the bytes will be read in order. Only a hint.
    pub fn advise_sequential(&self) {
        #[cfg(unix)]
        // If the system refuses the hint, only speed is lost.
        let _ = self.bytes.advise(memmap2::Advice::Sequential);
    }

    /// Tells the system that the bytes will be needed soon. Only a hint.
    pub fn advise_willneed(&self) {
        #[cfg(unix)]
        // As above.
        let _ = self.bytes.advise(memmap2::Advice::WillNeed);
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

fn map_read_only(file: &File) -> io::Result<Mmap> {
    // SAFETY: the map is private to `Map`, read-only, and outlives every slice borrowed from it. Another process may
    // still change the file. Changed bytes are read as some `u8`, all of which are valid. Every reader checks what it
    // parses and must not rely on two reads of a byte agreeing. A truncation raises SIGBUS, which ends the process
    // instead of returning wrong memory (see the crate documentation).
    unsafe { Mmap::map(file) }
}

fn unix_time(time: Option<SystemTime>) -> String {
    match time.and_then(|t| t.duration_since(SystemTime::UNIX_EPOCH).ok()) {
        Some(d) => format!("{}.{:09} s", d.as_secs(), d.subsec_nanos()),
        None => "unknown".to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]
mod tests {
    use super::*;
    use std::time::Duration;

    fn file_with(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, bytes).unwrap();
        (dir, path)
    }

    #[test]
    fn maps_bytes_and_sees_no_change() {
        let (_dir, path) = file_with(b"abc");
        let map = Map::open(&path).unwrap();
        assert_eq!(&map[..], b"abc");
        assert_eq!(map.identity().bytes, 3);
        map.advise_sequential();
        map.advise_willneed();
        map.check_unchanged().unwrap();
    }

    #[test]
    fn refuses_what_cannot_be_mapped() {
        let (dir, path) = file_with(b"");
        assert!(matches!(Map::open(&path), Err(MapError::Empty { .. })));
        assert!(matches!(Map::open(dir.path()), Err(MapError::NotAFile { .. })));
        assert!(matches!(Map::open(dir.path().join("none")), Err(MapError::Open { .. })));
    }

    #[test]
    fn names_the_part_that_changed() {
        let (dir, path) = file_with(b"abc");
        let map = Map::open(&path).unwrap();
        let what = |m: &Map| match m.check_unchanged() {
            Err(MapError::Changed { what, .. }) => what,
            other => panic!("unexpected {other:?}"),
        };
        let modified = map.identity().modified.unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(modified + Duration::from_secs(1)).unwrap();
        assert_eq!(what(&map), "modification time");
        std::fs::write(&path, b"abcd").unwrap();
        assert_eq!(what(&map), "size");
        let other = dir.path().join("g");
        std::fs::write(&other, b"xyz").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_eq!(what(&map), "inode");
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(map.check_unchanged(), Err(MapError::Open { .. })));
    }
}
