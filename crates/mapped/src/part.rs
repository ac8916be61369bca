//! Files that are either complete or missing: written under a temporary name, then renamed. All of aio writes files
//! this way.

use std::collections::hash_map::RandomState;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Maximum length of a chain of symbolic links, as in Linux.
const MAX_LINKS: usize = 40;
/// Number of names tried for a partial file.
const ATTEMPTS: u32 = 100;
/// Maximum length of a file name in bytes on common file systems.
const MAX_NAME: usize = 255;

/// A file being written. Until [`PartFile::finish`] renames it, it is a hidden file in the same folder,
/// `.NAME.RANDOM.part` (a long name is cut). It is locked while it is written, and removed if it is not finished. A
/// left-over is recognised by its free lock, since process ids of two containers may be equal.
///
/// A symbolic link is kept, and its target is replaced.
///
/// ```
/// # use std::io::Write;
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("out");
/// let mut part = aio_mapped::PartFile::create(&path)?;
/// part.write_all(b"all of it")?;
/// assert!(!path.exists());
/// part.finish()?;
/// assert_eq!(std::fs::read(&path)?, b"all of it");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct PartFile {
    file: File,
    /// The temporary path; `None` after the rename.
    beside: Option<PathBuf>,
    place: PathBuf,
}

impl PartFile {
    /// Starts a file that will be placed at `path`.
    ///
    /// # Errors
    /// Errors of creating a file; [`io::ErrorKind::InvalidInput`] if the path has no file name, is a circular link, or
    /// names a folder, a device or a pipe, which a rename would replace.
    pub fn create(path: &Path) -> io::Result<PartFile> {
        let place = behind_links(path)?;
        let name = place.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        // Checks the path as given: some system links lead to pipes that have no path.
        if fs::metadata(path).is_ok_and(|m| !m.is_file()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it exists and is not a regular file"));
        }
        let (file, beside) = (0..ATTEMPTS)
            .find_map(|_| begin(&place.with_file_name(hidden(name))).transpose())
            .unwrap_or_else(|| Err(io::Error::from(io::ErrorKind::AlreadyExists)))?;
        Ok(PartFile { file, beside: Some(beside), place })
    }

    /// Renames the file to its final name.
    ///
    /// # Errors
    /// Errors of writing to the disk and of renaming. The file is removed then.
    pub fn finish(mut self) -> io::Result<()> {
        // Otherwise a power failure might leave the name without the bytes.
        self.file.sync_data()?;
        if let Some(beside) = &self.beside {
            fs::rename(beside, &self.place)?;
        }
        self.beside = None;
        Ok(())
    }
}

/// A unique hidden name for a file in the same folder. The start of a name that is too long is kept.
fn hidden(name: &OsStr) -> OsString {
    let end = format!(".{:016x}.part", unique());
    let room = MAX_NAME - 1 - end.len();
    let mut hidden = OsString::from(".");
    if name.len() <= room {
        hidden.push(name);
    } else {
        // Bytes that are not valid text are replaced by at most three bytes each.
        let text = name.to_string_lossy();
        let cut = text.char_indices().map(|(i, c)| i + c.len_utf8()).take_while(|&end| end <= room).last().unwrap_or(0);
        hidden.push(&text[..cut]);
    }
    hidden.push(end);
    hidden
}

/// A number unique across writers of this process and others, because the hash keys of each map are random.
pub fn unique() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Whether the path still names this open file. It may have been removed, or another file may have its name.
///
/// # Errors
/// Errors of querying the open file.
#[cfg(unix)]
pub fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let open = file.metadata()?;
    Ok(fs::symlink_metadata(path).is_ok_and(|there| (there.dev(), there.ino()) == (open.dev(), open.ino())))
}

/// Whether there is a file at a path.
///
/// # Errors
/// None.
#[cfg(not(unix))]
pub fn is_at(_: &File, path: &Path) -> io::Result<bool> {
    Ok(path.exists())
}

/// Creates a locked file; `None` if the name is taken.
fn begin(path: &Path) -> io::Result<Option<(File, PathBuf)>> {
    let file = match File::create_new(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
        Err(error) => return Err(error),
    };
    // The lock marks the file as in use. On file systems without locks no other process can hold one either.
    let _ = file.lock();
    // Before it was locked it looked like a left-over, and may have been removed.
    Ok(is_at(&file, path)?.then(|| (file, path.to_path_buf())))
}

impl Write for PartFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if let Some(path) = self.beside.take() {
            // A left-over that cannot be removed stays.
            let _ = fs::remove_file(path);
        }
    }
}

/// Writes a complete file through a [`PartFile`].
///
/// # Errors
/// The errors of [`PartFile::create`], [`PartFile::finish`] and of writing; no file remains then.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut part = PartFile::create(path)?;
    part.write_all(bytes)?;
    part.finish()
}

/// Resolves symbolic links at this path. The target need not exist.
fn behind_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&path) {
            // An absolute target replaces the folder.
            Ok(to) => path = path.parent().unwrap_or(Path::new("")).join(to),
            // Not a link, or nothing there.
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a symbolic link that leads in a circle"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finished_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "old").unwrap();
        let mut part = PartFile::create(&path).unwrap();
        part.write_all(b"new").unwrap();
        drop(part);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(PartFile::create(folder.path()).is_err(), "a folder is not replaced");
    }

    #[test]
    fn two_writers_have_a_file_each() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let (mut one, mut two) = (PartFile::create(&path).unwrap(), PartFile::create(&path).unwrap());
        one.write_all(b"one, longer").unwrap();
        two.write_all(b"two").unwrap();
        one.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one, longer");
        two.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn left_overs_do_not_keep_a_file_from_being_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        for attempt in 0..150 {
            fs::write(folder.path().join(format!(".a.{attempt}.{}.part", std::process::id())), "left").unwrap();
            std::mem::forget(PartFile::create(&path).unwrap());
        }
        write_whole(&path, b"whole").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
    }

    #[test]
    fn names_of_any_length_are_written() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["n".repeat(MAX_NAME), "é".repeat(MAX_NAME / 2), "n".repeat(240), "世".repeat(MAX_NAME / 3)] {
            write_whole(&folder.path().join(&name), name.as_bytes()).unwrap();
            assert_eq!(fs::read(folder.path().join(&name)).unwrap(), name.as_bytes());
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4);
    }

    #[test]
    fn a_file_of_the_same_name_is_not_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let file = File::create(&path).unwrap();
        assert!(is_at(&file, &path).unwrap());
        if cfg!(unix) {
            fs::remove_file(&path).unwrap();
            assert!(!is_at(&file, &path).unwrap());
            File::create(&path).unwrap();
            assert!(!is_at(&file, &path).unwrap());
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_and_what_they_lead_to_is_replaced() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("deep")).unwrap();
        fs::write(path("deep/file"), "old").unwrap();
        symlink("deep/file", path("link")).unwrap();
        symlink(path("link"), path("far")).unwrap();
        write_whole(&path("far"), b"new").unwrap();
        assert_eq!(fs::read(path("deep/file")).unwrap(), b"new");
        assert!(path("far").is_symlink() && path("link").is_symlink());
        symlink("deep/none", path("dangling")).unwrap();
        write_whole(&path("dangling"), b"made").unwrap();
        assert_eq!(fs::read(path("deep/none")).unwrap(), b"made");
        symlink("circle", path("circle")).unwrap();
        assert!(write_whole(&path("circle"), b"x").is_err());
    }
}
