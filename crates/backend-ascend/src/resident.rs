//! A model on the device: weights, states, arena, and the scratch memory that its plans share.

use crate::acl::{DeviceMemory, Queue};
use crate::lower::{Bases, Model, Program};
use crate::options::AscendOptions;
use crate::shape::{Group, Lengths, Shape};
use crate::states::{States, StatesMap};
use crate::tails::Tails;
use crate::weights::{Weights, WeightsMap, reserve, upload};
use aio_backend::{DeviceError, WeightSource};
use aio_ir::Sym;
use aio_plan::{Plan, PlanFamily, PoolSizes, StateDesc};
use smallvec::{SmallVec, smallvec};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Ways to take lengths.
pub(crate) type Forms = SmallVec<[Lengths; 2]>;

/// See the module docs.
pub(crate) struct Resident {
    pub weights: Weights,
    pub states: States,
    pub arena: DeviceMemory,
    /// The ways in which plans can take lengths, the default first.
    pub forms: Forms,
    queue: Arc<Queue>,
    /// Held during a step, since arena and scratch memory are shared, and pages' tails are read and written.
    turn: Mutex<Tails>,
    /// A larger one replaces it; graphs that were captured with the old one keep it.
    scratch: Mutex<Arc<DeviceMemory>>,
}

/// Positions of a page, if the family has keys and values.
pub(crate) fn page_of(family: &PlanFamily) -> Option<u32> {
    family.states.iter().find_map(StateDesc::kv_shape).map(|kv| kv.positions)
}

/// The shape of a plan's largest step: all rows, in one sequence with all of the pool's pages.
pub(crate) fn nominal(plan: &Plan, pools: PoolSizes, lengths: Lengths) -> Shape {
    let bucket = &plan.bucket;
    let mut dims = bucket.bounds();
    (dims.pages, dims.stride, dims.recent, dims.slots) = (pools.pages.max(1), 1, 1, pools.slots.max(1));
    let group = Group { start: 0, sequences: 1, rows: bucket.rows.max(1), pages: pools.pages.max(1) };
    Shape { lengths, dims: Sym::ALL.map(|sym| dims.get(sym)), groups: smallvec![group] }
}

/// What a family takes on the device.
pub(crate) struct Collected {
    /// The forms of weights that its plans read.
    pub weights: WeightsMap,
    /// The most scratch of one plan.
    pub scratch: u64,
    /// The ways in which all plans can take lengths.
    pub forms: Forms,
}

impl Collected {
    /// Lowers all plans once.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`] with the task's kind.
    pub(crate) fn of(
        family: &PlanFamily,
        states: &StatesMap,
        options: &AscendOptions,
        rotates: bool,
    ) -> Result<Collected, DeviceError> {
        let weights = WeightsMap::collecting(options.groups, 1 << 12);
        let model = Model { family, weights: &weights, states, rotates, vectors: None };
        let (mut scratch, mut forms) = (0, Forms::new());
        for lengths in Lengths::ALL.into_iter().filter(|form| options.lengths.is_none_or(|only| only == *form)) {
            match most_scratch(&model, lengths) {
                Ok(bytes) => {
                    scratch = scratch.max(bytes);
                    forms.push(lengths);
                }
                // The default form serves alone.
                Err(DeviceError::Unsupported { .. }) if !forms.is_empty() => {}
                Err(e) => return Err(e),
            }
        }
        Ok(Collected { weights, scratch, forms })
    }
}

/// The most scratch, inputs and results of a plan.
fn most_scratch(model: &Model<'_>, lengths: Lengths) -> Result<u64, DeviceError> {
    let mut most = 0;
    for plan in &model.family.plans {
        let shape = nominal(plan, model.states.pools, lengths);
        let program = Program::new(model, plan, &shape, Bases::NOWHERE)?;
        most = most.max(program.scratch_bytes + (program.stage.bytes + program.results.bytes) as u64);
    }
    Ok(most)
}

impl Resident {
    /// Uploads a family's weights and allocates states and arena.
    ///
    /// # Errors
    /// [`DeviceError::Weight`], [`DeviceError::OutOfMemory`], [`DeviceError::Unsupported`].
    pub(crate) fn new(
        queue: &Arc<Queue>,
        family: &PlanFamily,
        source: &dyn WeightSource,
        pools: PoolSizes,
        options: &AscendOptions,
    ) -> Result<Resident, DeviceError> {
        let map = StatesMap::new(family, pools)?;
        let Collected { weights, forms, .. } = Collected::of(family, &map, options, queue.runtime.rotates())?;
        let weights = if options.dry { reserve(queue, weights) } else { upload(queue, family, source, weights) }?;
        let states = States::new(queue, map)?;
        let arena =
            DeviceMemory::new(&queue.runtime, family.arena_bytes as usize).map_err(|e| e.taking("the arena"))?;
        let scratch = DeviceMemory::new(&queue.runtime, 0).map_err(|e| e.taking("scratch memory"))?;
        let scratch = Mutex::new(Arc::new(scratch));
        queue.runtime.synchronize()?;
        // Without computing there is nothing to clear.
        let turn = Mutex::new(if options.dry { Tails::default() } else { Tails::new(pools.pages) });
        Ok(Resident { weights, states, arena, forms, queue: Arc::clone(queue), turn, scratch })
    }

    /// Excludes other steps of the model.
    pub(crate) fn turn(&self) -> MutexGuard<'_, Tails> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Scratch memory of at least `bytes` bytes.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`].
    pub(crate) fn scratch(&self, bytes: u64) -> Result<Arc<DeviceMemory>, DeviceError> {
        let mut kept = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        if (kept.bytes() as u64) < bytes {
            let larger = DeviceMemory::new(&self.queue.runtime, bytes as usize);
            *kept = Arc::new(larger.map_err(|e| e.taking("scratch memory"))?);
        }
        Ok(Arc::clone(&kept))
    }
}
