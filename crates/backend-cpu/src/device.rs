//! The CPU as a device.

use crate::engine::Engine;
use crate::executable::{Bound, CpuExecutable};
use crate::isa::{Isa, IsaLevel};
use crate::kernels::Kernels;
use crate::pool::Pool;
use crate::record::Record;
use crate::resident::Resident;
use crate::tasks::{Chooser, HEAD_MULTIPLE};
use crate::weights::{pack_all, take_all};
use aio_backend::{
    Counters, Device, DeviceError, Executable, ImageAccess, ImageForm, KernelChoice, LoadOptions, Tally, Trace,
    WeightImage, WeightSet, WeightSource,
};
use aio_ir::{DType, Dims, Group, Op, PAGE_POSITIONS};
use aio_plan::artefact::WeightFile;
use aio_plan::{HeadSizes, KindName, KindSupport, Layout, Limits, Plan, PlanFamily, PoolSizes, Target};
use std::sync::Arc;

/// The form of packed weights, the same for all instruction sets; see [`crate::format`].
pub const IMAGE_FORM: ImageForm = ImageForm { name: "cpu-rows16", sources: crate::SOURCE_HASH };

/// Options of the CPU device.
#[derive(Clone, Copy, Debug)]
pub struct CpuOptions {
    /// Threads, including the caller's; 0 for one per core, or fewer if the system cannot start that many.
    pub threads: usize,
    /// The instruction-set level to use; `None` for the best available.
    pub isa: Option<IsaLevel>,
    /// Bind threads to cores.
    pub pin: bool,
}

/// More threads than any machine's cores; a larger number is a mistake.
pub const MAX_THREADS: usize = 1024;

impl Default for CpuOptions {
    fn default() -> CpuOptions {
        CpuOptions { threads: 0, isa: None, pin: true }
    }
}

/// The CPU as a device. See the crate documentation.
#[derive(Clone, Debug)]
pub struct CpuDevice {
    pub(crate) engine: Arc<Engine>,
    /// Whether the options named the instruction set.
    forced: bool,
}

impl CpuDevice {
    /// Detects the instruction set and starts the threads.
    ///
    /// # Errors
    /// [`DeviceError::Unavailable`] if the machine lacks the requested level or threads cannot be started.
    pub fn new(options: CpuOptions) -> Result<CpuDevice, DeviceError> {
        let unavailable = |reason: String| DeviceError::Unavailable { device: "cpu".to_owned(), reason };
        let isa = match options.isa {
            None => Isa::detect(),
            Some(level) => Isa::at(level).ok_or_else(|| unavailable(format!("this machine lacks {}", level.name())))?,
        };
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let pool = match options.threads {
            0 => Pool::up_to(cores.min(MAX_THREADS), options.pin),
            threads if threads > MAX_THREADS => {
                return Err(unavailable(format!("{threads} threads are more than {MAX_THREADS}")));
            }
            threads => Pool::new(threads, options.pin),
        };
        let pool = pool.map_err(|e| unavailable(format!("cannot start threads: {e}")))?;
        let kernels = Kernels::new(isa);
        let engine = Engine { kernels, pool, tally: Tally::default(), record: Record::default() };
        Ok(CpuDevice { engine: Arc::new(engine), forced: options.isa.is_some() })
    }

    /// The instruction-set level in use.
    pub fn isa(&self) -> IsaLevel {
        self.engine.kernels.isa().level()
    }

    /// Why that level is in use, in words.
    fn why_isa(&self) -> String {
        let (used, best) = (self.isa(), Isa::detect().level());
        match self.forced {
            false => "the widest instruction set that this machine has".to_owned(),
            true if used == best => "instruction set asked for; it is the widest that this machine has".to_owned(),
            true => format!("instruction set asked for; this machine also has {best}"),
        }
    }

    /// Threads in use, including the caller's.
    pub fn threads(&self) -> usize {
        self.engine.pool.threads()
    }
}

/// Limits of a kind's kernels. Single ops take heads of any size.
fn limits(kind: KindName) -> Limits {
    let head = HeadSizes { multiple_of: HEAD_MULTIPLE, max: u32::MAX };
    let page = &[PAGE_POSITIONS as u32];
    match kind {
        KindName::Qkv | KindName::Attend => Limits { head: Some(head), page, ..Limits::default() },
        KindName::Op(Op::Attend | Op::PageWrite) => Limits { page, ..Limits::default() },
        _ => Limits::default(),
    }
}

impl Device for CpuDevice {
    fn target(&self) -> Target {
        let kernels = &self.engine.kernels;
        let weights: Vec<DType> = DType::ALL.iter().copied().filter(|&t| kernels.supports(t)).collect();
        let single = Op::ALL.iter().filter(|op| op.spec().group != Group::Slots).map(|&op| KindName::Op(op));
        let support = |kind| KindSupport::new(kind, &weights, Layout::Packed).within(limits(kind));
        let kinds = KindName::FUSED.iter().copied().chain(single).map(support).collect();
        Target::new(format!("cpu-{}", self.isa().name()), kinds)
    }

    fn counters(&self) -> Counters {
        self.engine.tally.read()
    }

    fn scratch_bytes(&self, family: &PlanFamily, pools: PoolSizes) -> u64 {
        // Weights that cannot be packed are rejected at upload, with the reason.
        let Ok(shapes) = Resident::shapes(family, pools) else { return 0 };
        let need = |plan| Bound::new(family, plan, &shapes, self.threads()).map_or(0, |b| b.bytes as u64);
        family.plans.iter().map(need).max().unwrap_or(0)
    }

    fn upload(
        &self,
        family: &PlanFamily,
        source: &dyn WeightSource,
        pools: PoolSizes,
    ) -> Result<WeightSet, DeviceError> {
        let packed = pack_all(&self.engine.pool, family, source)?;
        Ok(WeightSet::new(Resident::new(family, packed, pools)?))
    }

    fn image_form(&self) -> Option<ImageForm> {
        Some(IMAGE_FORM)
    }

    fn image(&self, weights: &WeightSet) -> Result<WeightImage, DeviceError> {
        let region = weights.get::<Resident>()?.region.clone();
        let region = region.ok_or_else(|| DeviceError::NoImage { device: self.target().name })?;
        Ok(WeightImage::new(region))
    }

    fn upload_image(
        &self,
        family: &PlanFamily,
        image: &WeightFile,
        access: ImageAccess,
        pools: PoolSizes,
    ) -> Result<WeightSet, DeviceError> {
        let packed = take_all(&self.engine.pool, family, image, access)?;
        Ok(WeightSet::new(Resident::new(family, packed, pools)?))
    }

    fn load(
        &self,
        family: &PlanFamily,
        plan: &Plan,
        weights: &WeightSet,
        options: &LoadOptions,
    ) -> Result<Box<dyn Executable>, DeviceError> {
        let resident = weights.get::<Resident>()?;
        Ok(Box::new(CpuExecutable::new(Arc::clone(&self.engine), family, plan, resident, options.submission)?))
    }

    fn kernels(&self, family: &PlanFamily, plan: &Plan, dims: &Dims) -> Vec<Option<KernelChoice>> {
        let isa = self.why_isa();
        let chooser = Chooser { kernels: &self.engine.kernels, isa: &isa, family, plan, dims };
        plan.tasks.iter().map(|task| Some(chooser.of(task))).collect()
    }

    fn trace(&self) -> Result<(), DeviceError> {
        self.engine.pool.recorder().start();
        Ok(())
    }

    fn take_trace(&self) -> Result<Trace, DeviceError> {
        Ok(Trace::Timeline(self.engine.record.take(self.engine.pool.threads())))
    }

    fn copy_pages(&self, weights: &WeightSet, pages: &[(u32, u32)]) -> Result<(), DeviceError> {
        weights.get::<Resident>()?.copy_pages(pages)
    }

    fn download_state(&self, weights: &WeightSet, state: usize) -> Result<Vec<u8>, DeviceError> {
        weights.get::<Resident>()?.download_state(state)
    }
}
