//! Profiles of this machine's devices: where they lie, what they say, how their figures are taken.

use crate::{folders, input, machine, signals};
use aio::orchestrator::{Ceilings, DeviceProfile, Figure};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// Where this machine's profiles lie.
pub(crate) fn folder() -> Result<PathBuf> {
    folders::inside("devices")
}

/// This machine's profile of a device with a number of threads.
pub(crate) fn profile_path(device: &str, threads: usize) -> Result<PathBuf> {
    let host: String = machine::host().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    // A GPU runs on all that it has.
    let threads = if device.starts_with("cpu") { format!("-{threads}") } else { String::new() };
    Ok(folder()?.join(format!("{host}-{device}{threads}.toml")))
}

/// A profile from its file.
pub(crate) fn read(path: &Path) -> Result<DeviceProfile> {
    // A pipe without a writer would be waited for.
    if std::fs::metadata(path).is_ok_and(|m| !m.is_file()) {
        bail!("{} is not a regular file", path.display());
    }
    let text = input::text(path, input::TEMPLATE)?;
    DeviceProfile::from_toml(&text).with_context(|| format!("{}", path.display()))
}

/// What the profile says that this device reaches, if there is one that can be read; `threads` 0 means one a core.
pub(crate) fn ceilings(device: &str, threads: usize) -> Option<Ceilings> {
    let cores = || std::thread::available_parallelism().map_or(1, |n| n.get());
    let path = profile_path(device, if threads == 0 { cores() } else { threads }).ok()?;
    // A damaged profile only means that more has to be learnt; `aio device show` says what is wrong with it.
    read(&path).ok()?.ceilings()
}

/// Where the profile of a device is, if there is one.
pub(crate) fn profile(device: &str, threads: usize) -> Result<Profile> {
    let path = profile_path(device, threads)?;
    Ok(if path.is_file() { Profile::At(path) } else { Profile::Missing })
}

/// A row of `aio device list`.
pub(crate) struct Listed {
    pub name: String,
    /// The device's own name, or why there is none.
    pub what: String,
    /// Threads or multiprocessors; 0 if there is no such device.
    pub threads: usize,
    pub profile: Profile,
}

/// Where the figures of a device are kept.
pub(crate) enum Profile {
    At(PathBuf),
    /// `aio device calibrate` would make one.
    Missing,
    /// Nothing reads one of this device.
    NotKept,
}

impl Listed {
    pub(crate) fn markdown(&self) -> String {
        let profile = match &self.profile {
            Profile::At(path) => path.display().to_string(),
            Profile::Missing => "none; `aio device calibrate` makes one".to_owned(),
            Profile::NotKept => String::new(),
        };
        format!("| {} | {} | {} | {profile} |\n", self.name, self.what, self.threads)
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        let profile = match &self.profile {
            Profile::At(path) => Some(path),
            Profile::Missing | Profile::NotKept => None,
        };
        serde_json::json!({ "device": self.name, "what": self.what, "threads": self.threads, "profile": profile })
    }
}

/// The figure of some samples, after one that does not count.
pub(crate) fn figure(reps: u32, mut sample: impl FnMut() -> f64) -> Result<Figure> {
    sample();
    let mut samples = Vec::new();
    for _ in 0..reps {
        if signals::interrupted() {
            bail!("interrupted");
        }
        samples.push(sample());
    }
    Figure::of(&samples).context("a measurement took no time")
}
