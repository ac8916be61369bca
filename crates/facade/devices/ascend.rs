//! The registry entry for an Ascend NPU: a real one through CANN's libraries, or the simulated one in this process.

use super::entry::{DeviceEntry, Found, Opened};
use super::options::{self, DeviceOptions, OptionForm, OptionSpec};
use aio_backend::{Device, DeviceError};
use aio_backend_ascend::{AclLibrary, AscendDevice, AscendError, AscendOptions, Lengths};
use std::path::Path;
use std::sync::Arc;

/// Chips and hosts that the simulated Ascend models.
const CHIPS: &[&str] = &["910B1", "910B2", "910B3", "910B4"];
const HOSTS: &[&str] = &["native", "torch-eager"];
const OPTIONS: &[OptionSpec] = &[
    OptionSpec { name: options::ACL_LIB, form: OptionForm::Path },
    OptionSpec { name: options::LENGTHS, form: OptionForm::Word(&["auto", "bucket", "patch"]) },
    OptionSpec { name: options::WEIGHTS, form: OptionForm::Word(&["f16", "groups"]) },
    OptionSpec { name: options::CHIP, form: OptionForm::Word(CHIPS) },
    OptionSpec { name: options::HOST, form: OptionForm::Word(HOSTS) },
];

pub(super) struct AscendEntry;

fn unavailable(e: AscendError) -> DeviceError {
    DeviceError::Unavailable { device: "ascend".to_owned(), reason: e.to_string() }
}

/// The path of a real library, if one is named.
fn path(options: &DeviceOptions) -> Option<&Path> {
    options.folders(options::ACL_LIB).first().map(|p| p.as_path())
}

/// Opens the simulator, or a real library.
fn library(path: Option<&Path>) -> Result<AclLibrary, DeviceError> {
    match path {
        Some(path) => AclLibrary::open(Some(path)),
        None => AclLibrary::simulated(),
    }
    .map_err(unavailable)
}

/// The row of a library's NPU.
fn row(device: &AscendDevice) -> Found {
    let kind = if device.is_simulated() { "simulated: times are modelled" } else { device.origin() };
    Found { target: device.target().name, chip: format!("{} ({kind})", device.chip()), threads: 1 }
}

impl DeviceEntry for AscendEntry {
    fn name(&self) -> &'static str {
        "ascend"
    }

    fn summary(&self) -> &'static str {
        "An Ascend NPU, simulated unless --acl-lib names CANN's libraries"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn list(&self, options: &DeviceOptions) -> Result<Vec<Found>, DeviceError> {
        let mut all = Vec::new();
        match AclLibrary::open(path(options))
            .map_err(unavailable)
            .and_then(|real| AscendDevice::open(real, AscendOptions::default()))
        {
            Ok(device) => all.push(row(&device)),
            Err(DeviceError::Unavailable { reason, .. }) => {
                all.push(Found { target: "ascend".to_owned(), chip: reason, threads: 0 });
            }
            Err(e) => return Err(e),
        }
        all.push(row(&AscendDevice::open(library(None)?, AscendOptions::default())?));
        Ok(all)
    }

    fn open(&self, options: &DeviceOptions) -> Result<Opened, DeviceError> {
        let lengths = match options.word(options::LENGTHS) {
            Some("bucket") => Some(Lengths::Bucket),
            Some("patch") => Some(Lengths::Patch),
            _ => None,
        };
        let groups = options.word(options::WEIGHTS) == Some("groups");
        let default = AscendOptions::default();
        let known = |option, all: &[&'static str], default| {
            options.word(option).and_then(|word| all.iter().copied().find(|known| *known == word)).unwrap_or(default)
        };
        let (chip, host) = (known(options::CHIP, CHIPS, default.chip), known(options::HOST, HOSTS, default.host));
        let device =
            AscendDevice::open(library(path(options))?, AscendOptions { lengths, groups, chip, host, ..default })?;
        let chip = row(&device).chip;
        Ok(Opened { device: Arc::new(device), chip, threads: 1, hardware: None })
    }
}
