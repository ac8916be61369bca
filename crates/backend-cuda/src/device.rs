//! The CUDA device.

use crate::burst::{self, CudaBurst};
use crate::driver::Driver;
use crate::driver::cache::Cache;
use crate::driver::cuda::{self, Cuda};
use crate::error::CudaError;
use crate::executable::CudaExecutable;
use crate::format::NORM_ROWS;
use crate::images::KernelImages;
use crate::lower::COLUMNS;
use crate::probe::Probe;
use crate::resident::{GraphsNeed, Resident};
use crate::states::{HEADS, StatesMap};
use crate::weights::WeightsMap;
use aio_backend::{Burst, Counters, Device, DeviceError, Executable, LoadOptions, Tally, WeightSet, WeightSource};
use aio_ir::{DType, Group, Op, PAGE_POSITIONS};
use aio_plan::{KindName, KindSupport, Layout, Limits, Plan, PlanFamily, PoolSizes, Target};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// A GPU that can be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// Its name.
    pub name: String,
    /// The name of its [`Target`], for example `cuda-sm90`.
    pub target: String,
    /// Multiprocessors.
    pub multiprocessors: u32,
}

/// Options for opening a GPU.
#[derive(Clone, Debug, Default)]
pub struct CudaOptions {
    /// The cache folder for compiled kernels; `None` compiles them at each start.
    pub cache: Option<PathBuf>,
    /// Folders that may contain CUDA's headers for compiling kernels, best first.
    pub includes: Vec<PathBuf>,
    /// Whether each kernel of a step starts only after the previous one has finished. Otherwise, where GPU and driver
    /// support it (compute capability 9.0, CUDA 12.3), it starts earlier and prefetches its first weights. Results are
    /// the same; meant for comparisons and race checkers.
    pub serial: bool,
    /// The share of each multiprocessor's L1 memory that kernels request as shared memory, in percent (0..=100); `None`
    /// leaves the choice to the driver, per kernel.
    pub carveout: Option<u32>,
}

/// A GPU, or an emulated one. See the crate's front page.
#[derive(Clone)]
pub struct CudaDevice {
    driver: Arc<dyn Driver>,
    tally: Arc<Tally>,
}

impl fmt::Debug for CudaDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CudaDevice").field(self.driver.properties()).finish()
    }
}

impl CudaDevice {
    pub(crate) fn on(driver: Arc<dyn Driver>) -> CudaDevice {
        CudaDevice { driver, tally: Arc::default() }
    }

    /// Opens the first GPU. Kernels that were not built in are compiled, once per cache folder.
    ///
    /// # Errors
    /// [`DeviceError::Unavailable`] with the reason: no driver, no GPU, a GPU that is too old, no compiler for its
    /// kernels.
    pub fn open(images: &KernelImages, options: &CudaOptions) -> Result<CudaDevice, DeviceError> {
        let cache = Cache { folder: options.cache.clone(), includes: options.includes.clone() };
        let driver = Cuda::open(images, &cache, !options.serial, options.carveout).map_err(|e| e.unavailable())?;
        Ok(CudaDevice::on(Arc::new(driver)))
    }

    /// The GPU that [`CudaDevice::open`] would use, without opening it.
    ///
    /// # Errors
    /// [`DeviceError::Unavailable`] with the reason if there is none. Does not check whether kernels are available.
    pub fn probe() -> Result<Gpu, DeviceError> {
        let properties = cuda::probe().map_err(|e| e.unavailable())?;
        let target = properties.target();
        Ok(Gpu { name: properties.name, target, multiprocessors: properties.multiprocessors })
    }

    /// Compiles all kernels for an architecture (ten times major plus minor) into the cache, like [`CudaDevice::open`].
    /// Needs no GPU. Returns the number of bytes of machine code.
    ///
    /// # Errors
    /// [`CudaError::NoCompiler`], [`CudaError::OldCompiler`], [`CudaError::NoHeaders`], [`CudaError::Compile`].
    pub fn compile(images: &KernelImages, architecture: u32, options: &CudaOptions) -> Result<usize, CudaError> {
        let cache = Cache { folder: options.cache.clone(), includes: options.includes.clone() };
        let cubins = crate::driver::compile(images, architecture, &cache)?;
        Ok(cubins.iter().map(Vec::len).sum())
    }

    /// Like [`CudaDevice::compile`], for the burst kernel whose tasks run `kernels`, named as in
    /// `kernels/cuda/README.md`.
    ///
    /// # Errors
    /// See [`CudaDevice::compile`].
    pub fn compile_burst(
        images: &KernelImages,
        architecture: u32,
        kernels: &[String],
        options: &CudaOptions,
    ) -> Result<usize, CudaError> {
        let cache = Cache { folder: options.cache.clone(), includes: options.includes.clone() };
        crate::driver::compile_burst(images, architecture, &cache, kernels).map(|cubin| cubin.len())
    }

    /// The kernels under emulation, for tests. `library` is built from `kernels/cuda/emulate.cpp`.
    ///
    /// # Errors
    /// [`DeviceError::Unavailable`] if it is not such a library.
    #[cfg(feature = "emulation")]
    pub fn emulated(
        library: &std::path::Path,
        options: crate::driver::emulation::EmulationOptions,
    ) -> Result<CudaDevice, DeviceError> {
        let driver = crate::driver::emulation::Emulation::open(library, options).map_err(|e| e.unavailable())?;
        Ok(CudaDevice::on(Arc::new(driver)))
    }

    /// Measures the GPU's peak rates, with a buffer of at least `bytes` for reads and copies.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`], [`DeviceError::Failed`].
    pub fn measure(&self, bytes: u64) -> Result<Probe, DeviceError> {
        Probe::new(&self.driver, bytes)
    }

    /// The memory that the captured graphs of a family need, with a pool of `pages` pages. Loads nothing.
    ///
    /// # Errors
    /// The errors of loading a plan, mainly [`DeviceError::Unsupported`].
    pub fn graphs(&self, family: &PlanFamily, pages: u32) -> Result<GraphsNeed, DeviceError> {
        let (weights, states) = (WeightsMap::new(family)?, StatesMap::new(family, PoolSizes::pages(pages))?);
        GraphsNeed::of(self.driver.as_ref(), family, &weights, &states)
    }

    /// Names of the kernels that bursts of a plan run on this device, for [`CudaDevice::compile_burst`]. Loads nothing.
    ///
    /// # Errors
    /// The errors of loading a plan, mainly [`DeviceError::Unsupported`].
    pub fn burst_kernels(&self, family: &PlanFamily, plan: &Plan) -> Result<Vec<String>, DeviceError> {
        burst::kernels(self.driver.properties(), family, plan)
    }

    /// Waits for all started work. After a kernel fault (invalid address, trap) the driver rejects everything until the
    /// process ends; this distinguishes that from the failure of a single step.
    ///
    /// # Errors
    /// [`DeviceError::Failed`].
    pub fn synchronize(&self) -> Result<(), DeviceError> {
        Ok(self.driver.synchronize()?)
    }

    /// The GPU's name.
    pub fn gpu(&self) -> &str {
        &self.driver.properties().name
    }

    /// Multiprocessors of the GPU.
    pub fn multiprocessors(&self) -> u32 {
        self.driver.properties().multiprocessors
    }
}

/// Limits of a kind's kernels.
fn limits(kind: KindName) -> Limits {
    let pages = Limits { head: Some(HEADS), page: &[PAGE_POSITIONS as u32], ..Limits::default() };
    match kind {
        KindName::Attend | KindName::Op(Op::Attend) => Limits { group: Some(COLUMNS), ..pages },
        KindName::Qkv | KindName::Op(Op::PageWrite) => pages,
        _ => Limits::default(),
    }
}

impl Device for CudaDevice {
    fn target(&self) -> Target {
        let floats: Vec<DType> = DType::ALL.iter().copied().filter(|t| t.is_float()).collect();
        let has_kernel = |op: &&Op| **op != Op::Quantize && op.spec().group != Group::Slots;
        let single = Op::ALL.iter().filter(has_kernel).map(|&op| KindName::Op(op));
        let support = |kind: KindName| {
            // Only products, look-ups and ops that decode can read block formats.
            let takes_blocks =
                !matches!(kind, KindName::Op(op) if !matches!(op, Op::Matmul | Op::Embed | Op::Dequantize));
            let weights = if takes_blocks { floats.clone() } else { Vec::new() };
            KindSupport::new(kind, &weights, Layout::Packed).within(limits(kind))
        };
        let name = self.driver.properties().target();
        let fused = KindName::FUSED.iter().copied().filter(|kind| *kind != KindName::Experts);
        let kinds = fused.chain(single).map(support).collect();
        // Grids and kernels depend on the plan, and small steps skip the launches that prepare rows.
        Target { alignment: 256, step_rows: &[NORM_ROWS], ..Target::new(name, kinds) }
    }

    fn counters(&self) -> Counters {
        // A step's lists are allocated when its plan is loaded, so it allocates nothing.
        self.tally.read()
    }

    fn available_bytes(&self) -> Option<u64> {
        self.driver.available_bytes()
    }

    fn scratch_bytes(&self, family: &PlanFamily, pools: PoolSizes) -> u64 {
        let (Ok(weights), Ok(states)) = (WeightsMap::new(family), StatesMap::new(family, pools)) else { return 0 };
        GraphsNeed::of(self.driver.as_ref(), family, &weights, &states).map_or(0, |need| need.bytes())
    }

    fn upload(
        &self,
        family: &PlanFamily,
        source: &dyn WeightSource,
        pools: PoolSizes,
    ) -> Result<WeightSet, DeviceError> {
        Ok(WeightSet::new(Resident::new(&self.driver, family, source, pools)?))
    }

    fn load(
        &self,
        family: &PlanFamily,
        plan: &Plan,
        weights: &WeightSet,
        options: &LoadOptions,
    ) -> Result<Box<dyn Executable>, DeviceError> {
        let (driver, tally) = (Arc::clone(&self.driver), Arc::clone(&self.tally));
        let resident = weights.get::<Resident>()?;
        Ok(Box::new(CudaExecutable::new(driver, tally, resident, family, plan, options.submission)?))
    }

    fn load_burst(&self, family: &PlanFamily, plan: &Plan, weights: &WeightSet) -> Result<Box<dyn Burst>, DeviceError> {
        let (driver, tally) = (Arc::clone(&self.driver), Arc::clone(&self.tally));
        Ok(Box::new(CudaBurst::new(driver, tally, weights.get::<Resident>()?, family, plan)?))
    }

    fn copy_pages(&self, weights: &WeightSet, pages: &[(u32, u32)]) -> Result<(), DeviceError> {
        weights.get::<Resident>()?.copy_pages(self.driver.as_ref(), pages)
    }

    fn download_state(&self, weights: &WeightSet, state: usize) -> Result<Vec<u8>, DeviceError> {
        weights.get::<Resident>()?.download_state(state)
    }
}
