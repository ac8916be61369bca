//! Profiles of this machine's devices: where they lie, what they say, how their figures are taken.

use crate::args::DeviceArg;
use crate::{devices, folders, input, machine};
use aio::devices::{DeviceEntry, Found};
use aio::orchestrator::{Ceilings, DeviceProfile};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// Where this machine's profiles lie.
pub(crate) fn folder() -> Result<PathBuf> {
    folders::inside("devices")
}

/// This machine's profile under a name.
fn profile_path(name: &str) -> Result<PathBuf> {
    let host: String = machine::host().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    Ok(folder()?.join(format!("{host}-{name}.toml")))
}

/// This machine's profile of a device with a number of threads; `None` where nothing is measured.
pub(crate) fn path_of(entry: &dyn DeviceEntry, target: &str, threads: u32) -> Result<Option<PathBuf>> {
    entry.profile_name(target, threads).map(|name| profile_path(&name)).transpose()
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
pub(crate) fn ceilings(device: DeviceArg, target: &str, threads: u32) -> Option<Ceilings> {
    let cores = || std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    let entry = devices::entry(device).ok()?;
    let path = path_of(entry, target, if threads == 0 { cores() } else { threads }).ok()??;
    // A damaged profile only means that more has to be learnt; `aio device show` says what is wrong with it.
    read(&path).ok()?.ceilings()
}

/// Where the profile of a device is, if there is one.
pub(crate) fn profile(entry: &dyn DeviceEntry, found: &Found) -> Result<Profile> {
    Ok(match path_of(entry, &found.target, found.threads)? {
        None => Profile::NotKept,
        Some(path) if path.is_file() => Profile::At(path),
        Some(_) => Profile::Missing,
    })
}

/// A row of `aio device list`.
pub(crate) struct Listed {
    pub name: String,
    /// The device's own name, or why there is none.
    pub what: String,
    /// Threads or multiprocessors; 0 if there is no such device.
    pub threads: u32,
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
