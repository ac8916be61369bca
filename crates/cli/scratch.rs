//! Temporary folders for downloads, and clean-up of folders and files left by processes that died. Used by `pull` and
//! the cache.
//!
//! A live process holds a lock on a file in its folder, so a folder whose lock is free is abandoned. Partial files are
//! locked themselves. Process ids would not work: two containers may use the same ones.

use anyhow::{Context, Result, bail};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Prefix of these folders, followed by a random number.
const PREFIX: &str = ".pull-";
/// The file to lock.
const LOCK: &str = "lock";
/// Anything without a lock is left alone until it is this old, since it may be about to be locked.
const GRACE: Duration = Duration::from_secs(3600);
/// Maximum attempts: another process may remove a new folder before it is locked.
const ATTEMPTS: usize = 100;

/// A folder that is removed on drop.
pub(crate) struct Scratch {
    path: PathBuf,
    /// Holds the lock while it is open.
    _lock: File,
}

impl Scratch {
    /// Creates a folder next to the models.
    pub(crate) fn new(folder: &Path) -> Result<Scratch> {
        for _ in 0..ATTEMPTS {
            let path = folder.join(format!("{PREFIX}{:016x}", aio::mapped::unique()));
            let fail = || format!("cannot create {}", path.display());
            fs::create_dir(&path).with_context(fail)?;
            let lock = File::create_new(path.join(LOCK)).with_context(fail)?;
            // On file systems without locks no one can hold one; the folder's age decides there.
            let taken = matches!(lock.try_lock(), Err(TryLockError::WouldBlock));
            // Until it was locked it looked abandoned, so another process may have removed it.
            if !taken && aio::mapped::is_at(&lock, &path.join(LOCK)).with_context(fail)? {
                return Ok(Scratch { path, _lock: lock });
            }
        }
        bail!("cannot create a folder in {}: another process keeps removing it", folder.display())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Failure is harmless: the folder is in the cache and its name shows what it is.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes what interrupted downloads and writers left: folders of pulls, and hidden partial files. Keeps the visible
/// `.part` of `aio pull URL`, because the same command resumes from it.
pub(crate) fn clean(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        // A left-over that cannot be removed only takes space.
        if name.starts_with(PREFIX) && path.is_dir() {
            if let Some(_lock) = left(&path.join(LOCK), &path) {
                let _ = fs::remove_dir_all(&path);
            }
        } else if is_partial(&name)
            && let Some(_lock) = left(&path, &path)
        {
            let _ = fs::remove_file(&path);
        }
    }
}

/// `Some` if `whole` is abandoned; `lock` is its lock file. Holding the value keeps other processes from using it.
fn left(lock: &Path, whole: &Path) -> Option<Option<File>> {
    match File::open(lock).map(|file| (file.try_lock(), file)) {
        Ok((Ok(()), file)) => Some(Some(file)),
        Ok((Err(TryLockError::WouldBlock), _)) => None,
        // File systems without locks, and files we may not open: their age decides.
        Ok((Err(TryLockError::Error(_)), _)) | Err(_) => is_old(whole).then_some(None),
    }
}

fn is_old(path: &Path) -> bool {
    let age = fs::metadata(path).and_then(|m| m.modified()).ok().and_then(|t| SystemTime::now().duration_since(t).ok());
    age.is_some_and(|age| age > GRACE)
}

/// Whether a name is a hidden partial file's, as in `.model.gguf.0123456789abcdef.part`.
fn is_partial(name: &str) -> bool {
    let number = || name.strip_prefix('.')?.strip_suffix(".part")?.rsplit_once('.').map(|(_, number)| number);
    number().is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_files_are_known_by_their_names() {
        assert!(is_partial(".model.gguf.123.part") && is_partial(".model.gguf.0123456789abcdef.part"));
        for name in ["model.gguf.part", ".model.part", ".123.part.x", ".a.x.part", ".a..part", ""] {
            assert!(!is_partial(name), "{name}");
        }
    }

    #[test]
    fn two_downloads_have_a_folder_each_and_only_left_overs_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let [one, two] = [(); 2].map(|()| Scratch::new(folder.path()).expect("a folder"));
        assert_ne!(one.path(), two.path());
        let left = folder.path().join(".pull-1");
        fs::create_dir(&left).expect("a folder");
        fs::write(left.join(LOCK), "").expect("a file");
        // The id of this very process, whose lock is free.
        let part = folder.path().join(format!(".m.gguf.{}.part", std::process::id()));
        fs::write(&part, "").expect("a file");
        let held = aio::mapped::PartFile::create(&folder.path().join("n.gguf")).expect("a partial file");
        clean(folder.path());
        assert!(one.path().is_dir() && two.path().is_dir() && !left.exists() && !part.exists());
        held.finish().expect("it is still there");
    }
}
