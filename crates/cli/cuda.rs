//! CUDA for the command line: where compiled kernels are kept, where CUDA's headers may lie, the row of `aio device list`, and
//! the profile of a GPU.

use crate::args::KernelsArgs;
use crate::profiles::{self, Listed, Profile};
use crate::{folders, input, machine, output};
use aio::backend::{Device, DeviceError};
use aio::cuda::{CudaDevice, CudaOptions};
use aio::orchestrator::{Costs, DeviceProfile, Figure, Peak, ReadLevel};
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

/// The first GPU.
pub(crate) fn device() -> Result<CudaDevice> {
    // Without a cache folder kernels are compiled at each start.
    let cache = folders::inside("cuda").ok();
    // For race checkers and comparisons: `kernels/cuda/README.md`, "Launch".
    let serial = std::env::var_os("AIO_CUDA_SERIAL").is_some_and(|v| v == "1");
    let options = CudaOptions { cache, includes: includes(), serial, carveout: carveout()? };
    Ok(CudaDevice::open(&aio::kernel_images(), &options)?)
}

/// The share of shared memory that kernels ask for, in percent: for comparisons too.
fn carveout() -> Result<Option<u32>> {
    let Some(text) = std::env::var_os("AIO_CUDA_CARVEOUT") else { return Ok(None) };
    let text = text.to_string_lossy();
    match text.parse() {
        Ok(percent) if percent <= 100 => Ok(Some(percent)),
        _ => bail!("AIO_CUDA_CARVEOUT is `{text}`, expected a percentage from 0 to 100"),
    }
}

/// The row of `aio device list`: the GPU, or the reason why there is none.
pub(crate) fn listed() -> Result<Listed> {
    Ok(match CudaDevice::probe() {
        Ok(gpu) => Listed {
            threads: gpu.multiprocessors as usize,
            profile: profiles::profile(&gpu.target, 0)?,
            name: gpu.target,
            what: gpu.name,
        },
        Err(e) => Listed { name: "cuda".to_owned(), what: e.to_string(), threads: 0, profile: Profile::NotKept },
    })
}

/// Compiles all kernels for some architectures.
pub(crate) fn kernels(args: &KernelsArgs) -> Result<()> {
    let folder = match &args.out {
        Some(folder) => folder.clone(),
        None => folders::inside("cuda")?,
    };
    let options = CudaOptions { cache: Some(folder.clone()), includes: includes(), ..CudaOptions::default() };
    let bursts = match &args.bursts {
        Some(path) => input::text(path, input::TEMPLATE)?,
        None => String::new(),
    };
    for &architecture in &args.arch {
        let bytes = CudaDevice::compile(&aio::kernel_images(), architecture, &options)?;
        output::print_now(&format!("sm_{architecture}: {bytes} bytes\n"))?;
        for (i, line) in bursts.lines().enumerate() {
            let kernels: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            let bytes = CudaDevice::compile_burst(&aio::kernel_images(), architecture, &kernels, &options)?;
            output::print_now(&format!("sm_{architecture}, bursts {}: {bytes} bytes\n", i + 1))?;
        }
    }
    note!("in {}", folder.display());
    Ok(())
}

/// Bytes of the largest buffer that bandwidth is measured with: far more than a cache of the device.
const BUFFER_BYTES: u64 = 1 << 30;
/// Rounds of products for a peak.
const ROUNDS: u64 = 20_000;

/// Measures the first GPU. Its threads are its multiprocessors; a barrier is the edge between two kernels of a graph.
pub(crate) fn profile(reps: u32) -> Result<DeviceProfile> {
    let gpu = device()?;
    let free = gpu.available_bytes().unwrap_or(BUFFER_BYTES);
    let probe = gpu.measure(BUFFER_BYTES.min(free / 2))?;
    let threads = gpu.multiprocessors();
    let (bytes, gigabytes) = (probe.bytes(), probe.bytes() as f64 / 1e9);
    let level = |level: &str, seconds: &dyn Fn() -> Result<f64, DeviceError>| -> Result<ReadLevel> {
        let gb_s = sampled(reps, &|| Ok(gigabytes / seconds()?))?;
        Ok(ReadLevel { level: level.to_owned(), bytes, threads, gb_s })
    };
    let peak = |kind: &str, macs: &dyn Fn() -> Result<f64, DeviceError>| -> Result<Peak> {
        Ok(Peak { kind: kind.to_owned(), threads, gmac_s: sampled(reps, &|| Ok(macs()? / 1e9))? })
    };
    let micros = |seconds: &dyn Fn() -> Result<f64, DeviceError>| sampled(reps, &|| Ok(1e6 * seconds()?));
    Ok(DeviceProfile {
        version: DeviceProfile::VERSION,
        host: machine::host(),
        date: machine::today(),
        device: gpu.target().name,
        processor: gpu.gpu().to_owned(),
        threads,
        commit: aio::COMMIT.to_owned(),
        costs: Costs {
            submission_us: micros(&|| probe.submission_seconds())?,
            barrier_us: micros(&|| probe.edge_seconds())?,
            wake_us: micros(&|| probe.launch_seconds())?,
        },
        reads: vec![level("memory", &|| probe.read_seconds())?, level("copy", &|| probe.copy_seconds())?],
        peaks: vec![peak("int8", &|| probe.int8_macs(ROUNDS))?, peak("bf16", &|| probe.bf16_macs(ROUNDS))?],
    })
}

/// The figure of some samples of a device that may fail.
fn sampled(reps: u32, sample: &dyn Fn() -> Result<f64, DeviceError>) -> Result<Figure> {
    let mut failed = None;
    let figure = profiles::figure(reps, || match sample() {
        Ok(value) => value,
        Err(e) => {
            failed = Some(e);
            f64::NAN
        }
    });
    match failed {
        Some(e) => Err(e.into()),
        None => figure,
    }
}

/// Folders that may have `cuda_fp16.h`: the toolkit that the environment names, then the usual places, then wheels.
fn includes() -> Vec<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let named = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(set).map(|f| f.join("include"));
    let usual = ["/usr/local/cuda/include", "/usr/include"].into_iter().map(PathBuf::from);
    // A wheel's libraries lie in `nvidia/cuda_nvrtc/lib`, the headers beside them.
    let paths = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let beside = |folder: PathBuf| folder.ancestors().nth(2).map(|n| n.join("cuda_runtime/include"));
    let wheels: Vec<_> = std::env::split_paths(&paths).filter(|p| p != Path::new("")).filter_map(beside).collect();
    named.chain(usual).chain(wheels).collect()
}
