//! `aio pull URL`: downloads any file, and resumes where it stopped. Data goes to a `.part` file next to the
//! destination, which gets the final name only if the checksum matches, so a file with that name is complete.

use crate::folders;
use crate::output;
use crate::stream::Stream;
use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a server may take to accept a connection and to start its response.
const PATIENCE: Duration = Duration::from_secs(30);
/// Disk space in bytes that a download leaves free.
const KEPT_FREE: u64 = 16 << 20;
/// Bytes between checks of the free disk space.
const ROOM_EVERY: u64 = 64 << 20;
/// Bytes hashed at a time.
const PIECE: usize = 1 << 18;

/// Where a file is downloaded from.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub url: &'a str,
    /// How long the body may go with next to no data.
    pub patience: Duration,
}

impl std::fmt::Display for Source<'_> {
    /// The URL without parts that may be secret: the user name and password, and everything after the path.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (plain, hidden) = match self.url.split_once(['?', '#']) {
            Some((plain, _)) => (plain, "?..."),
            None => (self.url, ""),
        };
        let (scheme, rest) = plain.split_once("://").unwrap_or(("", plain));
        let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        let sign = if scheme.is_empty() { "" } else { "://" };
        write!(f, "{scheme}{sign}{host}{path}{hidden}")
    }
}

/// Fetches a file and returns its path.
pub(crate) fn file(source: Source<'_>, sha256: &str, output: Option<&Path>, force: bool) -> Result<PathBuf> {
    let path = match output {
        // A symbolic link stays; the file it points to is replaced.
        Some(path) if path.is_symlink() => {
            path.canonicalize().with_context(|| format!("cannot follow {}", path.display()))?
        }
        Some(path) => path.to_path_buf(),
        None => default_path(source)?,
    };
    match path.metadata() {
        Ok(meta) if meta.is_dir() => bail!("{} is a folder", path.display()),
        Ok(meta) if !meta.is_file() => bail!("{} exists and is not a regular file", path.display()),
        _ => {}
    }
    if !force && let Some(found) = existing(&path)? {
        if found == sha256 {
            return Ok(path);
        }
        bail!("{} exists with SHA-256 {found}, not {sha256}; --force replaces it", path.display());
    }
    let mut part = Part::open(&path)?;
    let digest = match part.download(source)? {
        Download::Whole(digest) => digest,
        // The partial file is complete or longer than the server's file. Only the checksum can tell.
        Download::NothingMore(digest) if digest == sha256 => digest,
        Download::NothingMore(_) => {
            part.restart()?;
            part.download(source)?.digest()
        }
    };
    part.finish(&path, source, &digest, sha256)?;
    Ok(path)
}

/// The last part of the URL, in the cache folder.
fn default_path(source: Source<'_>) -> Result<PathBuf> {
    let address = source.url.split(['?', '#']).next().unwrap_or(source.url);
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let name = rest.split_once('/').map(|(_, path)| path.rsplit('/').next().unwrap_or("")).unwrap_or("");
    let plain = !name.starts_with('.') && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-+".contains(c));
    if name.is_empty() || !plain {
        bail!("{source} does not end in a file name; name the file with -o");
    }
    let folder = folders::inside("models")?;
    folders::create(&folder)?;
    Ok(folder.join(name))
}

/// Checksum of the file at the destination, if it exists.
fn existing(path: &Path) -> Result<Option<String>> {
    if !path.exists() {
        return Ok(None);
    }
    let mut hash = Sha256::new();
    let read = File::open(path).and_then(|mut file| hash_rest(&mut file, &mut hash, "checking"));
    read.with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Some(hex(hash)))
}

/// Hashes a file from its current position and returns the number of bytes read.
fn hash_rest(file: &mut File, hash: &mut Sha256, message: &'static str) -> io::Result<u64> {
    let bar = output::bar(file.metadata()?.len(), message);
    let mut buffer = vec![0; PIECE];
    let mut bytes = 0;
    loop {
        if crate::signals::interrupted() {
            return Err(io::Error::other("interrupted"));
        }
        let read = file.read(&mut buffer)?;
        if read == 0 {
            bar.finish_and_clear();
            return Ok(bytes);
        }
        hash.update(&buffer[..read]);
        bytes += read as u64;
        bar.inc(read as u64);
    }
}

/// How a download ended, with the checksum of the partial file.
enum Download {
    /// The server sent everything that was missing.
    Whole(String),
    /// The server has nothing beyond the bytes already present.
    NothingMore(String),
}

impl Download {
    fn digest(self) -> String {
        match self {
            Download::Whole(d) | Download::NothingMore(d) => d,
        }
    }
}

/// Opens a partial file, whose name others can guess. Accepts a new file, or a regular file of this user without other
/// hard links. Does not follow symbolic links.
fn open_own(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = options.open(path)?;
    let meta = file.metadata()?;
    #[cfg(unix)]
    let own = {
        use std::os::unix::fs::MetadataExt;
        meta.uid() == rustix::process::geteuid().as_raw() && meta.nlink() == 1
    };
    #[cfg(not(unix))]
    let own = true;
    if meta.is_file() && own {
        Ok(file)
    } else {
        Err(io::Error::other("it is not a regular file that you own; remove it"))
    }
}

/// The partial file.
struct Part {
    path: PathBuf,
    file: File,
    /// Number of bytes so far, and their running checksum.
    have: u64,
    hash: Sha256,
}

impl Part {
    /// Opens what an earlier run left, or an empty file. Only one process at a time can hold it.
    fn open(destination: &Path) -> Result<Part> {
        let path = output::beside(destination, "", ".part");
        let fail = || format!("cannot write {}", path.display());
        let mut file = open_own(&path).with_context(fail)?;
        if let Err(fs::TryLockError::WouldBlock) = file.try_lock() {
            bail!("another aio is fetching {}", path.display());
        }
        let mut hash = Sha256::new();
        let have = hash_rest(&mut file, &mut hash, "checking the partial file").with_context(fail)?;
        Ok(Part { path, file, have, hash })
    }

    /// Discards all bytes.
    fn restart(&mut self) -> Result<()> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.rewind());
        emptied.with_context(|| format!("cannot write {}", self.path.display()))?;
        (self.have, self.hash) = (0, Sha256::new());
        Ok(())
    }

    /// Downloads what is missing.
    fn download(&mut self, source: Source<'_>) -> Result<Download> {
        let response = match request(source.url, self.have) {
            Ok(response) => response,
            Err(e) => return Err(self.keep(e.context(format!("cannot fetch {source}")))),
        };
        match response.status().as_u16() {
            206 if self.have > 0 && starts_at(&response, self.have) => {}
            200 => self.restart()?,
            416 if self.have > 0 => return Ok(Download::NothingMore(hex(self.hash.clone()))),
            status => {
                return Err(
                    self.keep(anyhow::anyhow!("cannot fetch {source}: the server answered with status {status}"))
                );
            }
        }
        let whole = whole_size(&response);
        let body = response.into_body();
        let total = body.content_length().map(|left| self.have.saturating_add(left));
        if let (Some(whole), Some(total)) = (whole, total)
            && whole != total
        {
            self.remove();
            bail!("{source} gives two sizes, {whole} and {total} bytes; the partial file was removed");
        }
        let total = total.or(whole);
        self.check_room(source, total.unwrap_or(self.have).saturating_sub(self.have))?;
        let bar = output::bar(total.unwrap_or(0), "fetching");
        bar.set_position(self.have);
        let stream = Stream::new(body.into_reader(), source.patience);
        let copied = self.copy(source, stream.context("cannot start a thread")?, total, &bar);
        bar.finish_and_clear();
        copied?;
        Ok(Download::Whole(hex(self.hash.clone())))
    }

    fn copy(&mut self, source: Source<'_>, mut body: Stream, total: Option<u64>, bar: &ProgressBar) -> Result<()> {
        loop {
            let piece = match body.next() {
                Ok(piece) if piece.is_empty() && total.is_none_or(|t| self.have >= t) => return Ok(()),
                Ok(piece) if piece.is_empty() => return Err(self.broken(source, total, "it ended early")),
                Ok(piece) => piece,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {
                    return Err(self.keep(anyhow::anyhow!("interrupted while fetching {source}")));
                }
                Err(e) => return Err(self.broken(source, total, &e.to_string())),
            };
            if total.is_some_and(|t| self.have.saturating_add(piece.len() as u64) > t) {
                self.remove();
                bail!("{source} sent more than the announced {} bytes", total.unwrap_or(0));
            }
            let at = self.have / ROOM_EVERY;
            if at != (self.have + piece.len() as u64) / ROOM_EVERY {
                self.check_room(source, piece.len() as u64)?;
            }
            if let Err(e) = self.file.write_all(&piece) {
                self.remove();
                return Err(e).with_context(|| format!("cannot write {}", self.path.display()));
            }
            self.hash.update(&piece);
            self.have += piece.len() as u64;
            bar.inc(piece.len() as u64);
        }
    }

    /// Checks that `bytes` more fit on the disk. If the system does not report free space, the write itself decides.
    fn check_room(&self, source: Source<'_>, bytes: u64) -> Result<()> {
        let Some(free) = free_bytes(&self.file) else { return Ok(()) };
        if bytes.saturating_add(KEPT_FREE) <= free {
            return Ok(());
        }
        let disk = self.path.display();
        let error = format!(
            "{source} needs {bytes} more bytes and {KEPT_FREE} to spare, but the disk of {disk} has {free} free"
        );
        Err(self.keep(anyhow::anyhow!(error)))
    }

    fn broken(&self, source: Source<'_>, total: Option<u64>, why: &str) -> anyhow::Error {
        let total = total.map_or_else(|| "an unknown number of".to_owned(), |t| t.to_string());
        self.keep(anyhow::anyhow!("the connection to {source} broke after {} of {total} bytes: {why}", self.have))
    }

    /// Adds to an error that the next try resumes; removes the file if it is empty.
    fn keep(&self, error: anyhow::Error) -> anyhow::Error {
        if self.have == 0 {
            self.remove();
            return error;
        }
        let kept = format!("{} is kept, and the same command resumes it", self.path.display());
        anyhow::anyhow!("{error:#}; {kept}")
    }

    fn remove(&self) {
        // On the way to an error, which matters more than a file that cannot be removed.
        let _ = fs::remove_file(&self.path);
    }

    /// Renames the file to its final name if the checksum matches; otherwise removes it.
    fn finish(self, path: &Path, source: Source<'_>, digest: &str, wanted: &str) -> Result<()> {
        if digest != wanted {
            self.remove();
            bail!("the file from {source} has SHA-256 {digest}, expected {wanted}; it was removed");
        }
        let named = self.file.sync_all().and_then(|()| fs::rename(&self.path, path));
        if named.is_err() {
            self.remove();
        }
        named.with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Free bytes on a file's file system.
#[cfg(unix)]
fn free_bytes(file: &File) -> Option<u64> {
    let stat = rustix::fs::fstatvfs(file).ok()?;
    stat.f_bavail.checked_mul(stat.f_frsize)
}

#[cfg(not(unix))]
fn free_bytes(_: &File) -> Option<u64> {
    None
}

/// The whole file's size, from a partial response.
fn whole_size(response: &ureq::http::Response<ureq::Body>) -> Option<u64> {
    if response.status().as_u16() != 206 {
        return None;
    }
    let range = response.headers().get("content-range").and_then(|v| v.to_str().ok())?;
    range.rsplit_once('/').and_then(|(_, all)| all.parse().ok())
}

/// Requests a file starting at byte `from`.
fn request(url: &str, from: u64) -> Result<ureq::http::Response<ureq::Body>> {
    let scheme = url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    if !scheme.is_some_and(|s| s == "http" || s == "https") {
        bail!("only http:// and https:// addresses are fetched");
    }
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        .build();
    let mut request = ureq::Agent::new_with_config(config).get(url);
    if from > 0 {
        request = request.header("Range", format!("bytes={from}-"));
    }
    Ok(request.call()?)
}

/// Whether a partial response starts at the requested byte.
fn starts_at(response: &ureq::http::Response<ureq::Body>, from: u64) -> bool {
    let range = response.headers().get("content-range").and_then(|v| v.to_str().ok());
    range.is_some_and(|r| r.starts_with(&format!("bytes {from}-")))
}

/// A finished checksum in hexadecimal.
pub(crate) fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_secrets() {
        for (url, shown) in [
            ("https://example.org/a/b.gguf", "https://example.org/a/b.gguf"),
            ("https://me:secret@example.org/b", "https://example.org/b"),
            ("https://token@example.org", "https://example.org"),
            ("https://me:se@cret@example.org/b?key=secret#x", "https://example.org/b?..."),
            ("not a url", "not a url"),
        ] {
            assert_eq!(Source { url, patience: PATIENCE }.to_string(), shown);
        }
    }
}
