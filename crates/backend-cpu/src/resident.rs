//! A model in memory: packed weights, states, arena and scratch, shared by all executables of the model.

use crate::error::allocate;
use crate::memory::AlignedBytes;
use crate::states::States;
use crate::weights::{self, Packed, Region, Weight};
use aio_backend::DeviceError;
use aio_plan::{PlanFamily, PoolSizes};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Memory that steps write, one step at a time.
#[derive(Debug)]
pub(crate) struct Mutable {
    pub states: States,
    pub arena: AlignedBytes,
    pub scratch: AlignedBytes,
}

/// See the module documentation.
#[derive(Debug)]
pub(crate) struct Resident {
    pub weights: Vec<Weight>,
    /// The memory that holds the weights; `None` if they are only shapes.
    pub region: Option<Arc<Region>>,
    pub pages: u32,
    pub slots: u32,
    mutable: Mutex<Mutable>,
}

impl Resident {
    /// Allocates states and arena for packed weights.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`].
    pub(crate) fn new(family: &PlanFamily, packed: Packed, pools: PoolSizes) -> Result<Resident, DeviceError> {
        let states = States::new(family, pools)?;
        let arena = allocate(family.arena_bytes as usize, || "the arena".to_owned())?;
        let mutable = Mutex::new(Mutable { states, arena, scratch: AlignedBytes::zeroed(0) });
        let Packed { weights, region } = packed;
        Ok(Resident { weights, region: Some(region), pages: pools.pages, slots: pools.slots, mutable })
    }

    /// A model without its matrices and states: enough to bind tasks and measure the memory they need.
    ///
    /// # Errors
    /// [`DeviceError::Failed`] for weights without a packed form.
    pub(crate) fn shapes(family: &PlanFamily, pools: PoolSizes) -> Result<Resident, DeviceError> {
        let empty = || AlignedBytes::zeroed(0);
        let mutable = Mutex::new(Mutable { states: States::none(), arena: empty(), scratch: empty() });
        let weights = weights::shapes(family)?;
        Ok(Resident { weights, region: None, pages: pools.pages, slots: pools.slots, mutable })
    }

    /// Locks the mutable memory for a step.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Mutable> {
        // A step that panicked may have left garbage in the arena and scratch, which every step writes before reading, and
        // in KV positions that were not committed.
        self.mutable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Grows the scratch memory to at least `bytes`.
    pub(crate) fn reserve_scratch(&self, bytes: usize) -> Result<(), DeviceError> {
        let mut mutable = self.lock();
        if mutable.scratch.len() < bytes {
            mutable.scratch = allocate(bytes, || "scratch memory".to_owned())?;
        }
        Ok(())
    }

    pub(crate) fn copy_pages(&self, pages: &[(u32, u32)]) -> Result<(), DeviceError> {
        if let Some(&(from, to)) = pages.iter().find(|(from, to)| *from.max(to) >= self.pages) {
            return Err(DeviceError::Failed(format!("page {} is not below {}", from.max(to), self.pages)));
        }
        self.lock().states.copy_pages(pages);
        Ok(())
    }

    pub(crate) fn download_state(&self, state: usize) -> Result<Vec<u8>, DeviceError> {
        let bytes = self.lock().states.download(state);
        bytes.ok_or_else(|| DeviceError::Failed(format!("there is no state {state}")))
    }
}
