//! The Ascend device.

use crate::acl::{self, AclLibrary, Queue, Runtime};
use crate::budget::{Budget, MOST};
use crate::chips;
use crate::error::{AscendError, DEVICE};
use crate::executable::AscendExecutable;
use crate::lower::has_operator;
use crate::options::AscendOptions;
use crate::resident::{Collected, Resident};
use crate::states::{GROUP, HEADS, PAGES, StatesMap};
use crate::walk::Walk;
use aio_backend::{Counters, Device, DeviceError, Executable, LoadOptions, Tally, Trace, WeightSet, WeightSource};
use aio_ir::{DType, Dims, Op};
use aio_plan::{Ceilings, KindName, KindSupport, Layout, Limits, Plan, PlanFamily, PoolSizes, Target};
use std::fmt;
use std::sync::Arc;

/// An NPU, or the simulated Ascend. See the crate's front page.
#[derive(Clone)]
pub struct AscendDevice {
    queue: Arc<Queue>,
    budget: Arc<Budget>,
    tally: Arc<Tally>,
    options: AscendOptions,
    chip: String,
    /// Last, so that the device has gone when others of another kind may come.
    _walk: Option<Arc<Walk>>,
}

impl fmt::Debug for AscendDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AscendDevice").field("chip", &self.chip).field("options", &self.options).finish()
    }
}

impl AscendDevice {
    /// Opens an NPU.
    ///
    /// # Errors
    /// [`DeviceError::Unavailable`] with the reason.
    pub fn open(library: AclLibrary, options: AscendOptions) -> Result<AscendDevice, DeviceError> {
        let runtime = Runtime::open(library, options.number).map_err(AscendError::unavailable)?;
        let walk = if runtime.is_simulated() { Some(Arc::new(Walk::take(options.dry)?)) } else { None };
        let execute = if options.dry { "0" } else { "1" };
        for (key, value) in [("execute", execute), ("device", options.chip), ("host", options.host)] {
            match runtime.control("walking without computing", key, value) {
                Err(AscendError::NotSimulated { .. }) if !options.dry => {}
                set => set.map_err(AscendError::unavailable)?,
            }
        }
        let chip = runtime.chip();
        let queue = Arc::new(Queue::new(runtime).map_err(AscendError::unavailable)?);
        Ok(AscendDevice { queue, budget: Budget::shared(), tally: Arc::default(), options, chip, _walk: walk })
    }

    /// The number of NPUs that a library finds.
    ///
    /// # Errors
    /// [`DeviceError::Unavailable`] with the reason if there is none.
    pub fn count(library: &AclLibrary) -> Result<u32, DeviceError> {
        acl::devices(library).map_err(AscendError::unavailable)
    }

    /// The chip's name, such as `Ascend910B2`.
    pub fn chip(&self) -> &str {
        &self.chip
    }

    /// Whether it is the simulated Ascend, whose times are modelled.
    pub fn is_simulated(&self) -> bool {
        self.queue.runtime.is_simulated()
    }

    /// Where its library comes from.
    pub fn origin(&self) -> &str {
        self.queue.runtime.library().origin()
    }

    /// Chooses what the simulated Ascend models: `device` is a chip, such as `910B3`, `host` is `native` or `torch-eager`.
    ///
    /// # Errors
    /// See [`AscendDevice::control`].
    pub fn model(&mut self, key: &str, value: &str) -> Result<(), AscendError> {
        self.control(key, value)?;
        self.chip = self.queue.runtime.chip();
        Ok(())
    }

    /// Sets a property of the simulated Ascend, such as `device` or `fail_malloc`.
    ///
    /// # Errors
    /// [`AscendError::NotSimulated`], [`AscendError::Call`] if there is no such property or value.
    pub fn control(&self, key: &str, value: &str) -> Result<(), AscendError> {
        self.queue.runtime.control("a property of the simulator", key, value)
    }

    /// The simulated Ascend's report as JSON: profiles, clock, counters, live handles, and each constant with its range
    /// and source.
    ///
    /// # Errors
    /// [`AscendError::NotSimulated`].
    pub fn report(&self) -> Result<String, AscendError> {
        self.queue.runtime.report()
    }
}

/// Limits of a kind's operators.
fn limits(kind: KindName) -> Limits {
    let pages = Limits { head: Some(HEADS), page: PAGES, ..Limits::default() };
    match kind {
        KindName::Attend | KindName::Op(Op::Attend) => Limits { group: Some(GROUP), ..pages },
        KindName::Qkv | KindName::Op(Op::PageWrite) => pages,
        _ => Limits::default(),
    }
}

impl Device for AscendDevice {
    fn target(&self) -> Target {
        let floats: Vec<DType> = DType::ALL.iter().copied().filter(|t| t.is_float()).collect();
        let single = Op::ALL.iter().copied().filter(|op| has_operator(*op)).map(KindName::Op);
        let support = |kind: KindName| {
            let blocks = !matches!(kind, KindName::Op(op) if !matches!(op, Op::Matmul | Op::Embed | Op::Dequantize));
            let weights = if blocks { floats.clone() } else { Vec::new() };
            KindSupport::new(kind, &weights, Layout::Packed).within(limits(kind))
        };
        let fused = KindName::FUSED.iter().copied().filter(|kind| *kind != KindName::Experts);
        let kinds = fused.chain(single).map(support).collect();
        let name = format!("{DEVICE}-{}", self.chip.trim_start_matches("Ascend").to_lowercase());
        Target { alignment: 512, activations: DType::F16, plans: Some(MOST as u32), ..Target::new(name, kinds) }
    }

    fn counters(&self) -> Counters {
        self.tally.read()
    }

    fn available_bytes(&self) -> Option<u64> {
        self.queue.runtime.free_bytes()
    }

    fn memory_name(&self) -> String {
        let name = self.target().name;
        if self.is_simulated() { format!("{name}, a modelled chip") } else { name }
    }

    fn ceilings(&self) -> Option<Ceilings> {
        chips::ceilings(&self.chip)
    }

    fn scratch_bytes(&self, family: &PlanFamily, pools: PoolSizes) -> u64 {
        let Ok(states) = StatesMap::new(family, pools) else { return 0 };
        let rotates = self.queue.runtime.rotates();
        let collected = Collected::of(family, &states, &self.options, rotates);
        let Ok(Collected { weights, scratch, .. }) = collected else { return 0 };
        // Halves take more than the file's types; the caller has counted the latter.
        let file: u64 = family.weights.iter().filter_map(|w| w.ty.bytes(&Dims::default())).sum();
        let dims = family.state_bounds(pools);
        let counted: u64 = family.states.iter().filter_map(|s| s.ty.bytes(&dims)).sum();
        (weights.bytes() as u64).saturating_sub(file) + (states.bytes as u64).saturating_sub(counted) + scratch
    }

    fn upload(
        &self,
        family: &PlanFamily,
        source: &dyn WeightSource,
        pools: PoolSizes,
    ) -> Result<WeightSet, DeviceError> {
        Ok(WeightSet::new(Resident::new(&self.queue, family, source, pools, &self.options)?))
    }

    fn load(
        &self,
        family: &PlanFamily,
        plan: &Plan,
        weights: &WeightSet,
        options: &LoadOptions,
    ) -> Result<Box<dyn Executable>, DeviceError> {
        let parts = (Arc::clone(&self.queue), Arc::clone(&self.budget), Arc::clone(&self.tally));
        let resident = weights.get::<Resident>()?;
        let submission = (options.submission, self.options.graphs);
        Ok(Box::new(AscendExecutable::new(parts, resident, family, plan, submission)?))
    }

    fn trace(&self) -> Result<(), DeviceError> {
        match self.queue.runtime.control("a trace", "trace", "1") {
            Err(AscendError::NotSimulated { .. }) => Err(DeviceError::NoTrace { device: self.target().name }),
            started => Ok(started?),
        }
    }

    fn take_trace(&self) -> Result<Trace, DeviceError> {
        Ok(Trace::Chrome(self.queue.runtime.take_trace()?))
    }

    fn copy_pages(&self, weights: &WeightSet, pages: &[(u32, u32)]) -> Result<(), DeviceError> {
        let resident = weights.get::<Resident>()?;
        let all = resident.states.map.pools.pages;
        if let Some((from, to)) = pages.iter().find(|(from, to)| *from >= all || *to >= all) {
            return Err(DeviceError::Failed(format!("pages {from} and {to} are not both below {all}")));
        }
        self.queue.runtime.synchronize()?;
        let mut tails = resident.turn();
        for &(from, to) in pages {
            tails.copied(from, to);
            resident.states.copy_page(from, to)?;
        }
        Ok(())
    }

    fn download_state(&self, weights: &WeightSet, state: usize) -> Result<Vec<u8>, DeviceError> {
        self.queue.runtime.synchronize()?;
        weights.get::<Resident>()?.states.download(state)
    }
}
