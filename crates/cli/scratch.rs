//! Folders for the time of a download, and what is left of those, and of files, whose process is gone. Used by `pull` and
//! the cache.
//!
//! A process holds a lock on a file in its folder while it lives, so a folder whose lock is free belongs to nobody: that
//! holds for a process that was killed, whatever else has its number now. Partial files are locked themselves.

use anyhow::{Context, Result};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What such folders are called, before the process's number.
const PREFIX: &str = ".pull-";
/// The file that is locked.
const LOCK: &str = "lock";
/// What has no lock, or cannot have one, is left alone while it is younger: it may be about to get one.
const GRACE: Duration = Duration::from_secs(3600);

/// A folder that goes when it is no longer used, whatever happens.
pub(crate) struct Scratch {
    path: PathBuf,
    /// Locked as long as it is open.
    _lock: File,
}

impl Scratch {
    /// A folder beside the models.
    pub(crate) fn new(folder: &Path) -> Result<Scratch> {
        let path = folder.join(format!("{PREFIX}{}", std::process::id()));
        let fail = || format!("cannot create {}", path.display());
        fs::create_dir_all(&path).with_context(fail)?;
        let lock = File::create(path.join(LOCK)).with_context(fail)?;
        // File systems without locks have none to be held either; the age of the folder then tells.
        let _ = lock.try_lock();
        Ok(Scratch { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing to do about a folder that will not go: it is in the cache and its name says what it is.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes what downloads and writers left that did not live to do it: folders of pulls, and hidden partial files.
/// The visible `.part` of `aio pull URL` stays, for the same command goes on from there.
pub(crate) fn clean(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        // A left-over that will not go does no harm but take room.
        if name.starts_with(PREFIX) && path.is_dir() && is_nobodys(&path) {
            let _ = fs::remove_dir_all(&path);
        } else if owner(&name).is_some_and(|pid| !alive(pid)) && is_left(&path) {
            let _ = fs::remove_file(&path);
        }
    }
}

fn is_nobodys(folder: &Path) -> bool {
    match File::options().write(true).open(folder.join(LOCK)) {
        Ok(lock) => lock.try_lock().is_ok(),
        Err(_) => is_old(folder),
    }
}

/// Whether nobody writes a partial file any more.
fn is_left(path: &Path) -> bool {
    match File::open(path).map(|file| file.try_lock()) {
        Ok(Ok(())) => true,
        Ok(Err(TryLockError::WouldBlock)) => false,
        // File systems without locks, and files that we may not open: their age tells.
        Ok(Err(TryLockError::Error(_))) | Err(_) => is_old(path),
    }
}

fn is_old(path: &Path) -> bool {
    let age = fs::metadata(path).and_then(|m| m.modified()).ok().and_then(|t| SystemTime::now().duration_since(t).ok());
    age.is_some_and(|age| age > GRACE)
}

/// The process that a hidden partial file belongs to, as in `.model.gguf.123.part`.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix('.')?.strip_suffix(".part")?.rsplit_once('.')?.1.parse().ok()
}

/// Whether a process is there, as far as the system tells.
fn alive(pid: u32) -> bool {
    Path::new("/proc/self").exists() && Path::new("/proc").join(pid.to_string()).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_files_name_their_process() {
        assert_eq!(owner(".model.gguf.123.part"), Some(123));
        for name in ["model.gguf.part", ".model.part", ".123.part.x", ".a.b.part", ""] {
            assert_eq!(owner(name), None, "{name}");
        }
        assert!(alive(std::process::id()) && !alive(u32::MAX));
    }
}
