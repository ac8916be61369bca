//! A model on the device: weights, states, arena and scratch memory, shared by all its executables.

use crate::driver::{Driver, Memory, Properties};
use crate::lower::{Bases, Model, Program};
use crate::states::StatesMap;
use crate::weights::WeightsMap;
use aio_backend::{DeviceError, WeightSource};
use aio_plan::{Plan, PlanFamily};
use std::sync::{Arc, Mutex, PoisonError};

/// See the module's header.
#[derive(Debug)]
pub(crate) struct Resident {
    weights: WeightsMap,
    pub states: StatesMap,
    weights_memory: Memory,
    pub states_memory: Memory,
    arena: Memory,
    /// Grows when a plan is loaded that upload did not know; older executables keep what they have.
    scratch: Mutex<Arc<Memory>>,
}

/// A plan lowered for a resident model, and the memory that its launches are about.
pub(crate) struct Bound {
    pub program: Program,
    /// The executable's own memory: header, inputs, outputs, constants, zeros.
    pub step: Memory,
    /// Held so that the addresses in the launches stay good; arena, weights and states are the model's.
    _scratch: Arc<Memory>,
}

impl Resident {
    /// Takes a family's weights and makes its states, arena and scratch memory.
    pub(crate) fn new(
        driver: &Arc<dyn Driver>,
        family: &PlanFamily,
        source: &dyn WeightSource,
        pages: u32,
    ) -> Result<Resident, DeviceError> {
        let (weights, states) = (WeightsMap::new(family)?, StatesMap::new(family, pages)?);
        let scratch_bytes = scratch_bytes(driver.as_ref(), family, &weights, &states);
        let weights_memory = weights.upload(driver, family, source)?;
        let states_memory = states.allocate(driver)?;
        let arena = Memory::new(driver, family.arena_bytes as usize).map_err(|e| e.taking("the arena"))?;
        let scratch = Memory::new(driver, scratch_bytes).map_err(|e| e.taking("scratch memory"))?;
        driver.synchronize()?;
        let scratch = Mutex::new(Arc::new(scratch));
        Ok(Resident { weights, states, weights_memory, states_memory, arena, scratch })
    }

    /// Lowers a plan with all addresses.
    pub(crate) fn bind(
        &self,
        driver: &Arc<dyn Driver>,
        family: &PlanFamily,
        plan: &Plan,
    ) -> Result<Bound, DeviceError> {
        let vector = |w: usize| self.vector(w);
        let (weights, states) = (&self.weights, &self.states);
        let limits = driver.properties();
        let shared_bytes = limits.shared_bytes;
        let model = Model { family, weights, states, blocks: blocks(limits), shared_bytes, vector: &vector };
        let measured = Program::new(&model, plan, Bases::NOWHERE)?;
        let step =
            Memory::zeroed(driver, measured.step_bytes()).map_err(|e| e.taking("a step's inputs and outputs"))?;
        let scratch = self.scratch(driver, measured.scratch_bytes)?;
        let bases = Bases {
            weights: self.weights_memory.at(),
            states: self.states_memory.at(),
            arena: self.arena.at(),
            scratch: scratch.at(),
            step: step.at(),
        };
        if plan.arena_bytes as usize > self.arena.bytes() {
            let reason = format!("a plan of another family: its arena has {} bytes", plan.arena_bytes);
            return Err(DeviceError::Failed(reason));
        }
        let program = Program::new(&model, plan, bases)?;
        step.write(program.step.constants, &program.constants)?;
        driver.synchronize()?;
        Ok(Bound { program, step, _scratch: scratch })
    }

    /// Scratch memory of at least this size.
    fn scratch(&self, driver: &Arc<dyn Driver>, bytes: usize) -> Result<Arc<Memory>, DeviceError> {
        // The lock guards one pointer.
        let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        if scratch.bytes() < bytes {
            *scratch = Arc::new(Memory::new(driver, bytes).map_err(|e| e.taking("scratch memory"))?);
        }
        Ok(Arc::clone(&scratch))
    }

    /// The elements of a vector of f32.
    fn vector(&self, weight: usize) -> Result<Vec<f32>, DeviceError> {
        let map = &self.weights.weights[weight];
        let at = map.file.ok_or_else(|| DeviceError::Failed("frequency factors that are no vector".to_owned()))?;
        let bytes = self.weights_memory.read(at, 4 * map.rows * map.cols)?;
        Ok(bytemuck::pod_collect_to_vec(&bytes))
    }

    /// Copies pages one after the other and waits.
    pub(crate) fn copy_pages(&self, driver: &dyn Driver, pages: &[(u32, u32)]) -> Result<(), DeviceError> {
        if let Some(&(from, to)) = pages.iter().find(|(from, to)| *from.max(to) >= self.states.pages) {
            return Err(DeviceError::Failed(format!("page {} is not below {}", from.max(to), self.states.pages)));
        }
        let copy = |&(from, to): &(u32, u32)| self.states.copy_page(&self.states_memory, from, to);
        pages.iter().try_for_each(copy)?;
        Ok(driver.synchronize()?)
    }

    /// A state in the order of the graph.
    pub(crate) fn download_state(&self, state: usize) -> Result<Vec<u8>, DeviceError> {
        let bytes = self.states.download(&self.states_memory, state)?;
        bytes.ok_or_else(|| DeviceError::Failed(format!("there is no state {state}")))
    }
}

/// Blocks that fill a device.
fn blocks(properties: &Properties) -> u32 {
    2 * properties.multiprocessors.max(1)
}

/// The most scratch memory that a plan of a family needs; plans that cannot be lowered say why when they are loaded.
pub(crate) fn scratch_bytes(
    driver: &dyn Driver,
    family: &PlanFamily,
    weights: &WeightsMap,
    states: &StatesMap,
) -> usize {
    // Values do not matter for sizes.
    let vector = |w: usize| Ok(vec![1.0; weights.weights[w].rows * weights.weights[w].cols]);
    let limits = driver.properties();
    let shared_bytes = limits.shared_bytes;
    let model = Model { family, weights, states, blocks: blocks(limits), shared_bytes, vector: &vector };
    let need = |plan| Program::new(&model, plan, Bases::NOWHERE).map_or(0, |p| p.scratch_bytes);
    family.plans.iter().map(need).max().unwrap_or(0)
}
