//! A model in memory: packed weights, KV pool, arena and scratch, shared by all executables of the model.

use crate::kernels::attend::row_major;
use crate::memory::AlignedBytes;
use crate::weights::{self, Packed, Region, Weight};
use aio_backend::DeviceError;
use aio_ir::{DType, PAGE_POSITIONS, TensorType};
use aio_plan::PlanFamily;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What steps write; one step at a time.
#[derive(Debug)]
pub(crate) struct Mutable {
    pub states: Vec<AlignedBytes>,
    pub arena: AlignedBytes,
    pub scratch: AlignedBytes,
}

/// See the module's header.
#[derive(Debug)]
pub(crate) struct Resident {
    pub weights: Vec<Weight>,
    /// What the weights are parts of; `None` where they are only shapes.
    pub region: Option<Arc<Region>>,
    pub pages: u32,
    /// Key-value heads and their size, of the states that are KV pools.
    kv: Vec<Option<(usize, usize)>>,
    /// Whether each state lies in pages.
    paged: Vec<bool>,
    mutable: Mutex<Mutable>,
}

/// Key-value heads and their size, if the type is that of a layer's keys and values.
pub(crate) fn kv_shape(ty: &TensorType) -> Option<(usize, usize)> {
    let dims: Vec<Option<u64>> = ty.shape.dims().iter().map(|d| d.known()).collect();
    match *dims {
        [None, Some(2), Some(heads), Some(PAGE_POSITIONS), Some(size)] if ty.dtype == DType::F16 => {
            Some((heads as usize, size as usize))
        }
        _ => None,
    }
}

impl Resident {
    /// Makes KV pool and arena for weights that are in place.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`].
    pub(crate) fn new(family: &PlanFamily, packed: Packed, pages: u32) -> Result<Resident, DeviceError> {
        let dims = family.state_bounds(pages);
        let state = |s: &aio_plan::StateDesc| {
            let bytes = s.ty.bytes(&dims);
            let size = bytes.and_then(|b| usize::try_from(b).ok()).filter(|&b| b <= isize::MAX as usize);
            let what = || format!("state `{}`", s.name);
            let size =
                size.ok_or_else(|| DeviceError::OutOfMemory { what: what(), bytes: bytes.unwrap_or(u64::MAX) })?;
            allocate(size, what)
        };
        let states = family.states.iter().map(state).collect::<Result<_, _>>()?;
        let arena = allocate(family.arena_bytes as usize, || "the arena".to_owned())?;
        let mutable = Mutex::new(Mutable { states, arena, scratch: AlignedBytes::zeroed(0) });
        let kv = family.states.iter().map(|s| kv_shape(&s.ty)).collect();
        let paged = family.states.iter().map(|s| s.is_paged()).collect();
        let Packed { weights, region } = packed;
        Ok(Resident { weights, region: Some(region), pages, kv, paged, mutable })
    }

    /// A model without its matrices and states: enough to bind tasks and to see what memory they would need.
    ///
    /// # Errors
    /// [`DeviceError::Failed`] for weights that have no packed form.
    pub(crate) fn shapes(family: &PlanFamily, pages: u32) -> Result<Resident, DeviceError> {
        let empty = || AlignedBytes::zeroed(0);
        let mutable = Mutex::new(Mutable { states: Vec::new(), arena: empty(), scratch: empty() });
        let weights = weights::shapes(family)?;
        Ok(Resident { weights, region: None, pages, kv: Vec::new(), paged: Vec::new(), mutable })
    }

    /// Exclusive use, for the time of a step.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Mutable> {
        // A step that panicked may have left garbage in arena and scratch, which every step writes before it
        // reads, and in KV positions that were not committed.
        self.mutable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the scratch memory at least this large.
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
        let mut mutable = self.lock();
        for (state, _) in mutable.states.iter_mut().zip(&self.paged).filter(|(_, paged)| **paged) {
            let size = state.len() / self.pages.max(1) as usize;
            for &(from, to) in pages {
                let from = from as usize * size;
                state.copy_within(from..from + size, to as usize * size);
            }
        }
        Ok(())
    }

    pub(crate) fn download_state(&self, state: usize) -> Result<Vec<u8>, DeviceError> {
        let mutable = self.lock();
        let bytes = mutable.states.get(state);
        let bytes = bytes.ok_or_else(|| DeviceError::Failed(format!("there is no state {state}")))?;
        Ok(match self.kv.get(state).copied().flatten() {
            Some((heads, size)) => row_major(bytes, heads, size),
            None => bytes.to_vec(),
        })
    }
}

/// Zeroed memory, or an error that says what it was for.
pub(crate) fn allocate(bytes: usize, what: impl FnOnce() -> String) -> Result<AlignedBytes, DeviceError> {
    AlignedBytes::try_zeroed(bytes).ok_or_else(|| DeviceError::OutOfMemory { what: what(), bytes: bytes as u64 })
}
