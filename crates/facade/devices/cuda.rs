//! The registry's entry of the first NVIDIA GPU, the kernels that come with it, and what measures it.

use super::entry::{DeviceEntry, Found, KernelRequest, Opened};
use super::error::RegistryError;
use super::measure::{Figures, Hardware, Macs, Meter, Sampler};
use super::options::{self, DeviceOptions, OptionForm, OptionSpec};
use aio_backend::{Device, DeviceError};
use aio_backend_cuda::{CudaDevice, CudaOptions, KernelImages, Probe};
use aio_orchestrator::{Costs, Peak, ReadLevel};
use std::sync::Arc;

/// The CUDA kernels that come with aio: all sources, and machine code where a toolkit was there when this was built.
pub fn kernel_images() -> KernelImages {
    KernelImages { sources: images::SOURCES, cubins: images::CUBINS }
}

/// `SOURCES` and `CUBINS`, written by the build script out of `kernels/cuda`.
mod images {
    use aio_backend_cuda::{Cubin, Source};
    include!(concat!(env!("OUT_DIR"), "/cuda_kernels.rs"));
}

const OPTIONS: &[OptionSpec] = &[
    OptionSpec { name: options::KERNEL_CACHE, form: OptionForm::Folder },
    OptionSpec { name: options::HEADERS, form: OptionForm::Folders },
    OptionSpec { name: options::SERIAL, form: OptionForm::Flag },
    OptionSpec { name: options::CARVEOUT, form: OptionForm::Count(100) },
];

pub(super) struct CudaEntry;

fn cuda_options(options: &DeviceOptions) -> CudaOptions {
    CudaOptions {
        cache: options.folders(options::KERNEL_CACHE).first().cloned(),
        includes: options.folders(options::HEADERS).to_vec(),
        serial: options.flag(options::SERIAL),
        carveout: options.count(options::CARVEOUT).map(|percent| percent as u32),
    }
}

impl DeviceEntry for CudaEntry {
    fn name(&self) -> &'static str {
        "cuda"
    }

    fn summary(&self) -> &'static str {
        "The first NVIDIA GPU"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn list(&self) -> Result<Vec<Found>, DeviceError> {
        let gpu = CudaDevice::probe()?;
        Ok(vec![Found { target: gpu.target, chip: gpu.name, threads: gpu.multiprocessors }])
    }

    fn open(&self, options: &DeviceOptions) -> Result<Opened, DeviceError> {
        let device = CudaDevice::open(&kernel_images(), &cuda_options(options))?;
        let (chip, threads) = (device.gpu().to_owned(), device.multiprocessors());
        let hardware = CudaHardware { device: device.clone() };
        Ok(Opened { device: Arc::new(device), chip, threads, hardware: Some(Arc::new(hardware)) })
    }

    /// A GPU runs on all that it has.
    fn profile_name(&self, target: &str, _: u32) -> Option<String> {
        Some(target.to_owned())
    }

    fn compile_kernels(&self, request: &KernelRequest<'_>, options: &DeviceOptions) -> Result<usize, RegistryError> {
        let (images, options) = (kernel_images(), cuda_options(options));
        let compiled = match request.burst {
            None => CudaDevice::compile(&images, request.architecture, &options),
            Some(kernels) => CudaDevice::compile_burst(&images, request.architecture, kernels, &options),
        };
        compiled.map_err(|e| RegistryError::Kernels { reason: e.to_string() })
    }
}

/// Rounds of products for a peak: about a millisecond.
const ROUNDS: u64 = 20_000;
/// Bytes of the largest buffer that bandwidth is measured with: far more than a cache of the device.
const BUFFER_BYTES: u64 = 1 << 30;

struct CudaHardware {
    device: CudaDevice,
}

struct CudaMeter(Probe);

impl Meter for CudaMeter {
    fn bytes(&self) -> u64 {
        self.0.bytes()
    }

    fn read_seconds(&self) -> Result<f64, DeviceError> {
        self.0.read_seconds()
    }

    fn copy_seconds(&self) -> Result<Option<f64>, DeviceError> {
        Ok(Some(self.0.copy_seconds()?))
    }

    fn macs(&self) -> Result<Macs, DeviceError> {
        Ok(Macs { int8: self.0.int8_macs(ROUNDS)?, plain: self.0.bf16_macs(ROUNDS)? / 2.0 })
    }
}

impl Hardware for CudaHardware {
    fn meter(&self, bytes: u64) -> Result<Box<dyn Meter>, DeviceError> {
        Ok(Box::new(CudaMeter(self.device.measure(bytes)?)))
    }

    /// Threads are multiprocessors; a barrier is the edge between two kernels of a graph.
    fn figures(&self, sampler: &Sampler<'_>) -> Result<Figures, RegistryError> {
        let free = self.device.available_bytes().unwrap_or(BUFFER_BYTES);
        let probe = self.device.measure(BUFFER_BYTES.min(free / 2))?;
        let threads = self.device.multiprocessors();
        let (bytes, gigabytes) = (probe.bytes(), probe.bytes() as f64 / 1e9);
        let level = |level: &str, seconds: &dyn Fn() -> Result<f64, DeviceError>| -> Result<ReadLevel, RegistryError> {
            let gb_s = sampler.figure(|| Ok(gigabytes / seconds()?))?;
            Ok(ReadLevel { level: level.to_owned(), bytes, threads, gb_s })
        };
        let peak = |kind: &str, macs: &dyn Fn() -> Result<f64, DeviceError>| -> Result<Peak, RegistryError> {
            Ok(Peak { kind: kind.to_owned(), threads, gmac_s: sampler.figure(|| Ok(macs()? / 1e9))? })
        };
        let micros = |seconds: &dyn Fn() -> Result<f64, DeviceError>| sampler.figure(|| Ok(1e6 * seconds()?));
        Ok(Figures {
            costs: Costs {
                submission_us: micros(&|| probe.submission_seconds())?,
                barrier_us: micros(&|| probe.edge_seconds())?,
                wake_us: micros(&|| probe.launch_seconds())?,
            },
            reads: vec![level("memory", &|| probe.read_seconds())?, level("copy", &|| probe.copy_seconds())?],
            peaks: vec![peak("int8", &|| probe.int8_macs(ROUNDS))?, peak("bf16", &|| probe.bf16_macs(ROUNDS))?],
        })
    }
}
