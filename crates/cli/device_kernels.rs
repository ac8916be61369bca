//! `aio device kernels`: compiles a device's kernels ahead of time, also for other machines.

use crate::args::DeviceKernelsArgs;
use crate::devices::headers;
use crate::registry::registry;
use crate::{folders, input, output};
use aio::devices::{DeviceOptions, KernelRequest, options};
use anyhow::Result;

/// The device whose kernels are compiled.
const DEVICE: &str = "cuda";

pub(crate) fn main(args: &DeviceKernelsArgs) -> Result<()> {
    let folder = match &args.out {
        Some(folder) => folder.clone(),
        None => folders::inside(DEVICE)?,
    };
    let options = DeviceOptions::new().with(options::KERNEL_CACHE, folder.clone()).with(options::HEADERS, headers());
    let entry = registry().check(DEVICE, &options)?;
    let bursts = match &args.bursts {
        Some(path) => input::text(path, input::TEMPLATE)?,
        None => String::new(),
    };
    for &architecture in &args.arch {
        let bytes = entry.compile_kernels(&KernelRequest { architecture, burst: None }, &options)?;
        output::print_now(&format!("sm_{architecture}: {bytes} bytes\n"))?;
        for (i, line) in bursts.lines().enumerate() {
            let kernels: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            let request = KernelRequest { architecture, burst: Some(&kernels) };
            let bytes = entry.compile_kernels(&request, &options)?;
            output::print_now(&format!("sm_{architecture}, bursts {}: {bytes} bytes\n", i + 1))?;
        }
    }
    note!("in {}", folder.display());
    Ok(())
}
