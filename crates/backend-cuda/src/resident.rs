//! A model on the device: weights, states, arena and scratch memory, shared by all its executables.

use crate::driver::{Driver, Memory, Properties};
use crate::lower::{Bases, Model, Program, Spot};
use crate::states::StatesMap;
use crate::weights::WeightsMap;
use aio_backend::{DeviceError, WeightSource};
use aio_plan::{Plan, PlanFamily, PoolSizes};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A resident model. See the module docs.
#[derive(Debug)]
pub(crate) struct Resident {
    weights: WeightsMap,
    pub states: StatesMap,
    weights_memory: Memory,
    pub states_memory: Memory,
    arena: Memory,
    scratch: Growing,
    /// Large inputs and outputs of the running step.
    large: Growing,
    /// Number of steps that used `large`, so that a step can detect that its outputs were overwritten.
    large_uses: AtomicU64,
}

/// Memory that grows when a plan not known at upload is loaded. Older executables keep the old memory.
#[derive(Debug)]
struct Growing {
    what: &'static str,
    memory: Mutex<Arc<Memory>>,
}

impl Growing {
    fn new(driver: &Arc<dyn Driver>, what: &'static str, bytes: usize) -> Result<Growing, DeviceError> {
        let memory = Memory::new(driver, bytes).map_err(|e| e.taking(what))?;
        Ok(Growing { what, memory: Mutex::new(Arc::new(memory)) })
    }

    /// Returns at least `bytes` bytes of memory.
    fn of(&self, driver: &Arc<dyn Driver>, bytes: usize) -> Result<Arc<Memory>, DeviceError> {
        // The lock guards one pointer, which is valid even after a panic.
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.bytes() < bytes {
            *memory = Arc::new(Memory::new(driver, bytes).map_err(|e| e.taking(self.what))?);
        }
        Ok(Arc::clone(&memory))
    }
}

/// A plan lowered for a resident model, with the memory that its launches use.
pub(crate) struct Bound {
    pub program: Program,
    /// The executable's own memory: header, small inputs and outputs, constants, zeros.
    pub step: Memory,
    /// Large inputs and outputs, which belong to the model.
    pub large: Arc<Memory>,
    /// Keeps the addresses in the launches valid; arena, weights and states belong to the model.
    _scratch: Arc<Memory>,
}

impl Bound {
    /// The memory of an input or output.
    pub(crate) fn memory(&self, spot: Spot) -> &Memory {
        if spot.small { &self.step } else { &self.large }
    }
}

impl Resident {
    /// Uploads a family's weights and allocates its states, arena and scratch memory.
    pub(crate) fn new(
        driver: &Arc<dyn Driver>,
        family: &PlanFamily,
        source: &dyn WeightSource,
        pools: PoolSizes,
    ) -> Result<Resident, DeviceError> {
        let (weights, states) = (WeightsMap::new(family)?, StatesMap::new(family, pools)?);
        // Plans that cannot be lowered report why when they are loaded.
        let need = GraphsNeed::of(driver.as_ref(), family, &weights, &states).unwrap_or_default();
        let weights_memory = weights.upload(driver, family, source)?;
        let states_memory = states.allocate(driver)?;
        let arena = Memory::new(driver, family.arena_bytes as usize).map_err(|e| e.taking("the arena"))?;
        let scratch = Growing::new(driver, "scratch memory", need.scratch as usize)?;
        let large = Growing::new(driver, "large inputs and outputs", need.large as usize)?;
        driver.synchronize()?;
        let large_uses = AtomicU64::new(0);
        Ok(Resident { weights, states, weights_memory, states_memory, arena, scratch, large, large_uses })
    }

    /// Lowers a plan with all addresses, for kernels within `limits`.
    pub(crate) fn bind(
        &self,
        driver: &Arc<dyn Driver>,
        limits: &Properties,
        family: &PlanFamily,
        plan: &Plan,
    ) -> Result<Bound, DeviceError> {
        let vector = |w: usize| self.vector(w);
        let (weights, states) = (&self.weights, &self.states);
        let model = Model { family, weights, states, limits, vector: &vector };
        let measured = Program::new(&model, plan, Bases::NOWHERE)?;
        let step =
            Memory::zeroed(driver, measured.step_bytes()).map_err(|e| e.taking("a step's inputs and outputs"))?;
        let scratch = self.scratch.of(driver, measured.scratch_bytes)?;
        let large = self.large.of(driver, measured.step.large_bytes)?;
        let bases = Bases {
            weights: self.weights_memory.at(),
            states: self.states_memory.at(),
            arena: self.arena.at(),
            scratch: scratch.at(),
            step: step.at(),
            large: large.at(),
        };
        if plan.arena_bytes as usize > self.arena.bytes() {
            let reason = format!("a plan of another family: its arena has {} bytes", plan.arena_bytes);
            return Err(DeviceError::Failed(reason));
        }
        let program = Program::new(&model, plan, bases)?;
        step.write(program.step.constants, &program.constants)?;
        driver.synchronize()?;
        Ok(Bound { program, step, large, _scratch: scratch })
    }

    /// Claims the memory of large inputs and outputs for a step. Returns the argument for [`Resident::has_large`].
    pub(crate) fn take_large(&self) -> u64 {
        1 + self.large_uses.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether no other step has claimed it since.
    pub(crate) fn has_large(&self, taken: u64) -> bool {
        self.large_uses.load(Ordering::Relaxed) == taken
    }

    /// The elements of an f32 vector.
    fn vector(&self, weight: usize) -> Result<Vec<f32>, DeviceError> {
        let map = &self.weights.weights[weight];
        let at = map.file.ok_or_else(|| DeviceError::Failed("frequency factors that are not a vector".to_owned()))?;
        let bytes = self.weights_memory.read(at, 4 * map.rows * map.cols)?;
        Ok(bytemuck::pod_collect_to_vec(&bytes))
    }

    /// Copies pages one by one and waits.
    pub(crate) fn copy_pages(&self, driver: &dyn Driver, pages: &[(u32, u32)]) -> Result<(), DeviceError> {
        if let Some(&(from, to)) = pages.iter().find(|(from, to)| *from.max(to) >= self.states.pages) {
            return Err(DeviceError::Failed(format!("page {} is not below {}", from.max(to), self.states.pages)));
        }
        let copy = |&(from, to): &(u32, u32)| self.states.copy_page(&self.states_memory, from, to);
        pages.iter().try_for_each(copy)?;
        Ok(driver.synchronize()?)
    }

    /// Downloads a state in row-major form.
    pub(crate) fn download_state(&self, state: usize) -> Result<Vec<u8>, DeviceError> {
        let bytes = self.states.download(&self.states_memory, state)?;
        bytes.ok_or_else(|| DeviceError::Failed(format!("there is no state {state}")))
    }
}

/// Memory of a family's captured graphs, besides weights, states and arena.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GraphsNeed {
    /// Shared scratch memory in bytes.
    pub scratch: u64,
    /// Shared memory for large inputs and outputs in bytes.
    pub large: u64,
    /// By plan: device memory of its executable in bytes.
    pub own: Vec<u64>,
    /// By plan: number of launches.
    pub launches: Vec<u32>,
    /// By plan: bytes of its launches' arguments, which the driver keeps in the graph.
    pub arguments: Vec<u64>,
    /// By plan: pinned host memory in bytes.
    pub pinned: Vec<u64>,
}

impl GraphsNeed {
    /// The memory of all plans of a family.
    pub(crate) fn of(
        driver: &dyn Driver,
        family: &PlanFamily,
        weights: &WeightsMap,
        states: &StatesMap,
    ) -> Result<GraphsNeed, DeviceError> {
        // Values do not affect sizes.
        let vector = |w: usize| Ok(weights.weights[w].ones());
        let model = Model { family, weights, states, limits: driver.properties(), vector: &vector };
        let mut need = GraphsNeed::default();
        for plan in &family.plans {
            let program = Program::new(&model, plan, Bases::NOWHERE)?;
            need.scratch = need.scratch.max(program.scratch_bytes as u64);
            need.large = need.large.max(program.step.large_bytes as u64);
            need.own.push(program.step_bytes() as u64);
            need.launches.push(program.calls.len() as u32);
            need.arguments.push(program.calls.iter().map(|c| c.args.len() as u64).sum());
            need.pinned.push((program.step.staging_bytes + program.step.results_bytes) as u64);
        }
        Ok(need)
    }

    /// Device memory in bytes, excluding what the driver takes for the graphs themselves.
    pub fn bytes(&self) -> u64 {
        self.scratch + self.large + self.own.iter().sum::<u64>()
    }
}
