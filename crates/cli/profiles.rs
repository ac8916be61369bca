//! Profiles of this machine's devices: where they are stored, how they are read and shown.

use crate::args::DeviceArg;
use crate::{devices, folders, input, machine, output};
use aio::devices::{DeviceEntry, Found};
use aio::orchestrator::{Ceilings, DeviceProfile};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// The folder of this machine's profiles.
pub(crate) fn folder() -> Result<PathBuf> {
    folders::inside("devices")
}

/// Path of this machine's profile with a given name.
fn profile_path(name: &str) -> Result<PathBuf> {
    let host: String = machine::host().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    Ok(folder()?.join(format!("{host}-{name}.toml")))
}

/// Path of this machine's profile of a device with a number of threads; `None` if the device is not measured.
pub(crate) fn path_of(entry: &dyn DeviceEntry, target: &str, threads: u32) -> Result<Option<PathBuf>> {
    entry.profile_name(target, threads).map(|name| profile_path(&name)).transpose()
}

/// Reads a profile from a file.
pub(crate) fn read(path: &Path) -> Result<DeviceProfile> {
    // Reading a pipe without a writer would block.
    if std::fs::metadata(path).is_ok_and(|m| !m.is_file()) {
        bail!("{} is not a regular file", path.display());
    }
    let text = input::text(path, input::TEMPLATE)?;
    DeviceProfile::from_toml(&text).with_context(|| format!("{}", path.display()))
}

/// The device's limits according to its profile, if one can be read; `threads` 0 means one per core.
pub(crate) fn ceilings(device: DeviceArg, target: &str, threads: u32) -> Option<Ceilings> {
    of_target(device, target, threads)?.ceilings()
}

/// The device's profile, if one can be read; `threads` 0 means one per core.
pub(crate) fn of_target(device: DeviceArg, target: &str, threads: u32) -> Option<DeviceProfile> {
    let cores = || std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    let entry = devices::entry(device).ok()?;
    let path = path_of(entry, target, if threads == 0 { cores() } else { threads }).ok()??;
    // A damaged profile only means that more must be learned; `aio device show` reports the fault.
    read(&path).ok()
}

/// Path of a device's profile, if it exists.
pub(crate) fn profile(entry: &dyn DeviceEntry, found: &Found) -> Profile {
    match path_of(entry, &found.target, found.threads) {
        Ok(None) => Profile::NotKept,
        Ok(Some(path)) if path.is_file() => Profile::At(path),
        Ok(Some(_)) => Profile::Missing,
        Err(e) => Profile::NoFolder(output::describe(&e)),
    }
}

/// A row of `aio device list`.
pub(crate) struct Listed {
    pub name: String,
    /// The chip's name, or why the device is unavailable.
    pub what: String,
    /// Threads or multiprocessors; 0 if the device is unavailable.
    pub threads: u32,
    pub profile: Profile,
}

/// Where a device's figures are stored.
pub(crate) enum Profile {
    At(PathBuf),
    /// Not measured yet; `aio device calibrate` would create it.
    Missing,
    /// Profiles of this device are not used.
    NotKept,
    /// There is no folder for profiles, for this reason.
    NoFolder(String),
}

impl Listed {
    pub(crate) fn markdown(&self) -> String {
        let profile = match &self.profile {
            Profile::At(path) => path.display().to_string(),
            Profile::Missing => "none; `aio device calibrate` makes one".to_owned(),
            Profile::NotKept => String::new(),
            Profile::NoFolder(reason) => format!("none: {reason}"),
        };
        format!("| {} | {} | {} | {profile} |\n", self.name, self.what, self.threads)
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        let profile = match &self.profile {
            Profile::At(path) => Some(path),
            Profile::Missing | Profile::NotKept | Profile::NoFolder(_) => None,
        };
        serde_json::json!({ "device": self.name, "what": self.what, "threads": self.threads, "profile": profile })
    }
}
