//! Identity of a model file: a hash of its content, and the file state that shows, without reading it, that the content
//! is unchanged. Used by `compile` and by the cache.

use crate::signals;
use aio::backend::threads::work_together;
use aio::plan::artefact::Hash;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bytes hashed at a time; threads take pieces in turn.
const PIECE: u64 = 8 << 20;
/// A file changed more recently than this may change again without a new timestamp.
const SETTLED: Duration = Duration::from_millis(100);
/// The same for file systems that store timestamps in whole seconds.
const SETTLED_COARSE: Duration = Duration::from_secs(3);

/// The state of a file. An equal state means equal content, since every write changes a timestamp.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileState {
    pub path: PathBuf,
    bytes: u64,
    /// Modification time in nanoseconds since 1970.
    modified: i128,
    /// Time of the last change of any kind, in the same unit. Unlike `modified`, it cannot be set by a program.
    changed: i128,
    device: u64,
    inode: u64,
}

impl FileState {
    /// The state of the file at a path.
    pub(crate) fn of(path: &Path) -> std::io::Result<FileState> {
        let meta = std::fs::metadata(path)?;
        let modified = meta.modified()?.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as i128);
        let (device, inode, changed) = system_state(&meta);
        Ok(FileState { path: path.to_path_buf(), bytes: meta.len(), modified, changed, device, inode })
    }

    /// Whether two states, possibly from different paths, belong to the same file with the same content.
    pub(crate) fn is_same_file(&self, other: &FileState) -> bool {
        FileState { path: PathBuf::new(), ..self.clone() } == FileState { path: PathBuf::new(), ..other.clone() }
    }

    /// Whether the last change is old enough that a later one would show.
    pub(crate) fn is_settled(&self) -> bool {
        self.is_settled_at(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as i128)
    }

    /// [`FileState::is_settled`] at a given time. A time in the future was set by hand or a wrong clock; later changes
    /// differ.
    fn is_settled_at(&self, now: i128) -> bool {
        let past = [self.modified, self.changed].into_iter().filter(|&time| time <= now).max();
        let wait = |last: i128| if last % 1_000_000_000 == 0 { SETTLED_COARSE } else { SETTLED };
        past.is_none_or(|last| now - last >= wait(last).as_nanos() as i128)
    }
}

/// Device, inode and time of the last change of any kind.
#[cfg(unix)]
fn system_state(meta: &std::fs::Metadata) -> (u64, u64, i128) {
    use std::os::unix::fs::MetadataExt;
    (meta.dev(), meta.ino(), i128::from(meta.ctime()) * 1_000_000_000 + i128::from(meta.ctime_nsec()))
}

#[cfg(not(unix))]
fn system_state(_: &std::fs::Metadata) -> (u64, u64, i128) {
    (0, 0, 0)
}

/// Hash of the whole content of the files, in order; their names do not matter.
pub(crate) fn hash_files(paths: &[PathBuf], progress: &(dyn Fn(u64) + Sync)) -> Result<Hash> {
    let mut texts = Vec::new();
    for path in paths {
        let bytes = std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.len();
        texts.push(bytes.to_string());
        texts.extend(hash_pieces(path, bytes, progress)?.iter().map(Hash::to_string));
    }
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    Ok(Hash::of_texts(&texts))
}

/// Hash of each piece of a file, computed on all cores.
fn hash_pieces(path: &Path, bytes: u64, progress: &(dyn Fn(u64) + Sync)) -> Result<Vec<Hash>> {
    let count = bytes.div_ceil(PIECE);
    let hashes = Mutex::new(vec![Hash([0; 32]); count as usize]);
    let next = AtomicU64::new(0);
    let pieces = || -> Result<()> {
        let mut buffer = Vec::new();
        loop {
            let piece = next.fetch_add(1, Ordering::Relaxed);
            if piece >= count {
                return Ok(());
            }
            if signals::interrupted() {
                bail!("interrupted");
            }
            read_piece(path, piece, &mut buffer).with_context(|| format!("cannot read {}", path.display()))?;
            hashes.lock().unwrap_or_else(PoisonError::into_inner)[piece as usize] = Hash::of(&buffer);
            progress(buffer.len() as u64);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).min(count as usize);
    let failure = Mutex::new(None);
    work_together(threads, || {
        if let Err(error) = pieces() {
            failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    });
    if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    Ok(hashes.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn read_piece(path: &Path, piece: u64, buffer: &mut Vec<u8>) -> std::io::Result<()> {
    use std::io::{Seek, SeekFrom};
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(piece * PIECE))?;
    buffer.clear();
    file.take(PIECE).read_to_end(buffer).map(drop)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn content_decides_and_names_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mut bytes = vec![1; PIECE as usize + 5];
        std::fs::write(path("a"), &bytes).unwrap();
        std::fs::write(path("b"), &bytes).unwrap();
        let hash = |name: &str| hash_files(&[path(name)], &|_| ()).unwrap();
        assert_eq!(hash("a"), hash("b"));
        bytes[PIECE as usize + 4] = 2;
        std::fs::write(path("b"), &bytes).unwrap();
        assert_ne!(hash("a"), hash("b"));
        assert_ne!(
            hash_files(&[path("a"), path("b")], &|_| ()).unwrap(),
            hash_files(&[path("b"), path("a")], &|_| ()).unwrap()
        );
        assert!(hash_files(&[path("c")], &|_| ()).is_err());
    }

    #[test]
    fn a_write_changes_the_state() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "x").unwrap();
        let state = FileState::of(&path).unwrap();
        assert_eq!(FileState::of(&path).unwrap(), state);
        // A different length, since timestamps may be as coarse as seconds.
        std::fs::write(&path, "longer").unwrap();
        assert_ne!(FileState::of(&path).unwrap(), state);
    }

    #[test]
    fn a_file_is_settled_some_time_after_its_last_change() {
        const MS: i128 = 1_000_000;
        let (path, now) = (PathBuf::new(), 1_000_000 * MS);
        let settled = |modified: i128, changed: i128| {
            FileState { path: path.clone(), bytes: 1, modified, changed, device: 1, inode: 1 }.is_settled_at(now)
        };
        assert!(!settled(now - 99 * MS, 1) && settled(now - 101 * MS, 1));
        assert!(!settled(1, now - 99 * MS) && settled(1, now - 101 * MS));
        // Whole seconds.
        assert!(!settled(now - 2000 * MS, 1) && settled(now - 3000 * MS, 1));
        // A modification time in the future is ignored; the change time decides.
        assert!(settled(now + 1, now - 101 * MS) && !settled(now + 1, now - 99 * MS) && settled(now + 1, now + 1));
    }
}
