//! How the command line opens devices: options from flags, the environment and the cache folder.
//!
//! Called by every subcommand that opens a device.

use crate::args::{AscendArgs, DeviceArg, GraphRunArgs, IsaArg, ModelArgs};
use crate::folders;
use crate::registry::registry;
use aio::devices::{DeviceEntry, DeviceOptions, Hardware, Opened, RegistryError, options};
use anyhow::{Result, bail};
use clap::ValueEnum;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Flags that only some devices take.
#[derive(Clone, Copy, Default)]
pub(crate) struct DeviceFlags<'a> {
    /// Highest instruction set.
    pub isa: Option<IsaArg>,
    /// Number of threads.
    pub threads: Option<u32>,
    /// See [`AscendArgs`].
    pub ascend: Option<&'a AscendArgs>,
}

impl<'a> From<&'a ModelArgs> for DeviceFlags<'a> {
    fn from(args: &'a ModelArgs) -> DeviceFlags<'a> {
        DeviceFlags { isa: args.isa, threads: args.threads, ascend: Some(&args.ascend) }
    }
}

impl<'a> From<&'a GraphRunArgs> for DeviceFlags<'a> {
    fn from(args: &'a GraphRunArgs) -> DeviceFlags<'a> {
        DeviceFlags { isa: args.isa, threads: args.threads, ascend: Some(&args.ascend) }
    }
}

/// The registry entry of a device.
pub(crate) fn entry(device: DeviceArg) -> Result<&'static dyn DeviceEntry, RegistryError> {
    registry().find(device.name())
}

/// Opens a device; `threads` 0 means one per core.
pub(crate) fn open(device: DeviceArg, flags: DeviceFlags<'_>) -> Result<Opened> {
    let options = asked(flags);
    let entry = fitting(device, &options)?;
    Ok(registry().open(device.name(), &provided(entry, options)?)?)
}

/// The measuring interface of an open device.
pub(crate) fn measured(device: DeviceArg, opened: &Opened) -> Result<&Arc<dyn Hardware>> {
    let Some(hardware) = &opened.hardware else {
        let (none, name) = (RegistryError::NotMeasured { device: device.name() }, device.name());
        let tables = if name == "ascend" { ", `aio device model` what the simulated Ascend models" } else { "" };
        bail!("{none}; `aio run --device {name}` prints the rates of a run{tables}");
    };
    Ok(hardware)
}

/// The options that the flags set, which the device must take.
pub(crate) fn options(device: DeviceArg, flags: DeviceFlags<'_>) -> Result<DeviceOptions> {
    let asked = asked(flags);
    fitting(device, &asked)?;
    Ok(asked)
}

/// The options that the flags set, if the device takes them, and otherwise none.
pub(crate) fn known_options(entry: &dyn DeviceEntry, flags: DeviceFlags<'_>) -> DeviceOptions {
    let asked = asked(flags);
    if registry().check(entry.name(), &asked).is_ok() { asked } else { DeviceOptions::new() }
}

/// Rejects flags that the device does not take.
pub(crate) fn check(device: DeviceArg, flags: DeviceFlags<'_>) -> Result<()> {
    fitting(device, &asked(flags)).map(|_| ())
}

/// The entry of a device, if it takes these options. They come from flags, so an error names the flag.
fn fitting(device: DeviceArg, options: &DeviceOptions) -> Result<&'static dyn DeviceEntry> {
    match registry().check(device.name(), options) {
        Err(RegistryError::UnknownOption { device, option, .. }) => {
            bail!("--{option} does not apply to --device {device}")
        }
        Err(RegistryError::OptionValue { option, expected, .. }) => bail!("--{option} takes {expected}"),
        checked => Ok(checked?),
    }
}

/// The options that the flags set.
fn asked(flags: DeviceFlags<'_>) -> DeviceOptions {
    let mut asked = DeviceOptions::new();
    if let Some(value) = flags.isa.and_then(|isa| isa.to_possible_value()) {
        asked = asked.with(options::ISA, value.get_name());
    }
    if let Some(threads) = flags.threads {
        asked = asked.with(options::THREADS, threads);
    }
    let Some(ascend) = flags.ascend else { return asked };
    if let Some(path) = &ascend.acl_lib {
        asked = asked.with(options::ACL_LIB, path.clone());
    }
    let words = [
        (options::LENGTHS, &ascend.lengths),
        (options::WEIGHTS, &ascend.npu_weights),
        (options::CHIP, &ascend.chip),
        (options::HOST, &ascend.host),
    ];
    for (name, word) in words {
        if let Some(word) = word {
            asked = asked.with(name, word.as_str());
        }
    }
    asked
}

/// Adds what the machine and the environment provide for the device's options.
fn provided(entry: &dyn DeviceEntry, mut all: DeviceOptions) -> Result<DeviceOptions> {
    for option in entry.options() {
        all = match option.name {
            // Without a cache folder, kernels are compiled at each start.
            options::KERNEL_CACHE => match folders::inside(entry.name()) {
                Ok(folder) => all.with(option.name, folder),
                Err(_) => all,
            },
            options::HEADERS => all.with(option.name, headers()),
            // For race checkers and comparisons: `kernels/cuda/README.md`, "Launch".
            options::SERIAL => all.with(option.name, std::env::var_os("AIO_CUDA_SERIAL").is_some_and(|v| v == "1")),
            options::CARVEOUT => match carveout()? {
                Some(percent) => all.with(option.name, percent),
                None => all,
            },
            _ => all,
        };
    }
    Ok(all)
}

/// The share of shared memory that kernels request, in percent; also for comparisons.
fn carveout() -> Result<Option<u32>> {
    let Some(text) = std::env::var_os("AIO_CUDA_CARVEOUT") else { return Ok(None) };
    let text = text.to_string_lossy();
    match text.parse() {
        Ok(percent) if percent <= 100 => Ok(Some(percent)),
        _ => bail!("AIO_CUDA_CARVEOUT is `{text}`, expected a percentage from 0 to 100"),
    }
}

/// Folders that may contain `cuda_fp16.h`: the toolkit named by the environment, then the usual places, then wheels.
pub(crate) fn headers() -> Vec<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let named = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(set).map(|f| f.join("include"));
    let usual = ["/usr/local/cuda/include", "/usr/include"].into_iter().map(PathBuf::from);
    // A wheel's libraries are in `nvidia/cuda_nvrtc/lib`, with the headers next to them.
    let paths = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let beside = |folder: PathBuf| folder.ancestors().nth(2).map(|n| n.join("cuda_runtime/include"));
    let wheels: Vec<_> = std::env::split_paths(&paths).filter(|p| p != Path::new("")).filter_map(beside).collect();
    named.chain(usual).chain(wheels).collect()
}
