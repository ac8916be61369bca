//! Files that are whole or not there: written beside their place, then renamed. Used by everything that writes a file.

use std::collections::hash_map::RandomState;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Symbolic links that lead on to one another at most; as many as Linux follows.
const MAX_LINKS: usize = 40;
/// Names that are tried for a partial file.
const ATTEMPTS: u32 = 100;
/// Bytes of a file's name at most, on the file systems that there are.
const MAX_NAME: usize = 255;

/// A file under way to its place. It is hidden beside it as `.NAME.RANDOM.part` (of a long name the beginning), locked
/// while it is written, and removed unless [`PartFile::finish`] names it. A left-over is one whose lock is free; process
/// ids say nothing, since those of two containers may be equal.
///
/// A symbolic link stays: what it leads to is replaced.
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
    /// Where it is; none once it has its name.
    beside: Option<PathBuf>,
    place: PathBuf,
}

impl PartFile {
    /// Begins a file that is to be at `path`.
    ///
    /// # Errors
    /// Those of creating a file; [`io::ErrorKind::InvalidInput`] if the path has no file name, leads in a circle, or names
    /// a folder, a device or a pipe, which a rename would replace.
    pub fn create(path: &Path) -> io::Result<PartFile> {
        let place = behind_links(path)?;
        let name = place.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        // Of the path as it was given: some links of the system lead to pipes that have no place.
        if fs::metadata(path).is_ok_and(|m| !m.is_file()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it exists and is not a regular file"));
        }
        let (file, beside) = (0..ATTEMPTS)
            .find_map(|_| begin(&place.with_file_name(hidden(name))).transpose())
            .unwrap_or_else(|| Err(io::Error::from(io::ErrorKind::AlreadyExists)))?;
        Ok(PartFile { file, beside: Some(beside), place })
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// Those of writing to the disk and of renaming; the file is then removed.
    pub fn finish(mut self) -> io::Result<()> {
        // Or a power cut might leave the name without the bytes.
        self.file.sync_data()?;
        if let Some(beside) = &self.beside {
            fs::rename(beside, &self.place)?;
        }
        self.beside = None;
        Ok(())
    }
}

/// A hidden name beside a file that no other writer has; of a name that leaves no room for it, the beginning.
fn hidden(name: &OsStr) -> OsString {
    let end = format!(".{:016x}.part", unique());
    let room = MAX_NAME - 1 - end.len();
    let mut hidden = OsString::from(".");
    if name.len() <= room {
        hidden.push(name);
    } else {
        // A character whose bytes do not all fit, or are no text, is replaced by at most three bytes each.
        let text = name.to_string_lossy();
        let cut = text.char_indices().map(|(i, c)| i + c.len_utf8()).take_while(|&end| end <= room).last().unwrap_or(0);
        hidden.push(&text[..cut]);
    }
    hidden.push(end);
    hidden
}

/// A number that no other writer has, of this process or another: the hash keys of each map are random.
pub fn unique() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Whether the file at a path is this open one: another may have got its name, or it may be gone.
///
/// # Errors
/// Those of asking the system about the open file.
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

/// A new locked file; `None` if there is one of that name.
fn begin(path: &Path) -> io::Result<Option<(File, PathBuf)>> {
    let file = match File::create_new(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
        Err(error) => return Err(error),
    };
    // Tells others that it is no left-over. File systems without locks have none to be held either.
    let _ = file.lock();
    // Before it was locked it looked like one, and may be gone.
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
            // Nothing better can be done about a left-over that cannot be removed.
            let _ = fs::remove_file(path);
        }
    }
}

/// Writes a file at once, as a [`PartFile`].
///
/// # Errors
/// As [`PartFile::create`] and [`PartFile::finish`], and those of writing; no file is left behind.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut part = PartFile::create(path)?;
    part.write_all(bytes)?;
    part.finish()
}

/// The path that symbolic links at this path lead to; it need not exist.
fn behind_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&path) {
            // An absolute target replaces the folder.
            Ok(to) => path = path.parent().unwrap_or(Path::new("")).join(to),
            // No link, or nothing there.
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
