//! A model in memory: packed weights, KV pool, arena and scratch, shared by all executables of the model.

use crate::memory::AlignedBytes;
use crate::pack::{PackArgs, groups_of, pack, packed_bytes};
use crate::pool::Pool;
use aio_backend::{DeviceError, WeightSource, weights};
use aio_ir::{DType, Dims};
use aio_plan::{Layout, PlanFamily, WeightDesc};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A weight in the form that kernels read.
#[derive(Debug)]
pub(crate) struct Weight {
    pub dtype: DType,
    /// Rows and columns of a matrix; a vector has one row.
    pub rows: usize,
    pub cols: usize,
    pub layout: Layout,
    pub bytes: AlignedBytes,
}

impl Weight {
    /// The elements of a plain f32 vector (norms, biases, frequency factors).
    pub(crate) fn f32s(&self) -> &[f32] {
        debug_assert_eq!((self.dtype, self.layout), (DType::F32, Layout::Plain));
        bytemuck::cast_slice(&self.bytes)
    }
}

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
    pub pages: u32,
    mutable: Mutex<Mutable>,
}

impl Resident {
    pub(crate) fn new(
        pool: &Pool,
        family: &PlanFamily,
        source: &dyn WeightSource,
        pages: u32,
    ) -> Result<Resident, DeviceError> {
        let weights = family.weights.iter().map(|w| upload(pool, w, source)).collect::<Result<_, _>>()?;
        let dims = Dims { pages, ..Dims::default() };
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
        Ok(Resident { weights, pages, mutable })
    }

    /// A model without its matrices and states: enough to bind tasks and to see what memory they would need.
    pub(crate) fn shapes(family: &PlanFamily, pages: u32) -> Resident {
        let weight = |w: &WeightDesc| {
            let (rows, cols) = matrix_of(w);
            let bytes = if w.layout == Layout::Plain { rows * cols * size_of::<f32>() } else { 0 };
            Weight { dtype: w.ty.dtype, rows, cols, layout: w.layout, bytes: AlignedBytes::zeroed(bytes) }
        };
        let empty = || AlignedBytes::zeroed(0);
        let mutable = Mutex::new(Mutable { states: Vec::new(), arena: empty(), scratch: empty() });
        Resident { weights: family.weights.iter().map(weight).collect(), pages, mutable }
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
        for state in &mut mutable.states {
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
        let bytes = mutable.states.get(state).map(|s| s.to_vec());
        bytes.ok_or_else(|| DeviceError::Failed(format!("there is no state {state}")))
    }
}

fn allocate(bytes: usize, what: impl FnOnce() -> String) -> Result<AlignedBytes, DeviceError> {
    AlignedBytes::try_zeroed(bytes).ok_or_else(|| DeviceError::OutOfMemory { what: what(), bytes: bytes as u64 })
}

/// Rows and columns of a weight; a vector has one row.
fn matrix_of(desc: &WeightDesc) -> (usize, usize) {
    let dims: Vec<usize> = desc.ty.shape.dims().iter().filter_map(|d| d.known()).map(|d| d as usize).collect();
    let cols = dims.last().copied().unwrap_or(1);
    (dims.iter().product::<usize>() / cols.max(1), cols)
}

fn upload(pool: &Pool, desc: &WeightDesc, source: &dyn WeightSource) -> Result<Weight, DeviceError> {
    let bytes = weights::checked(source, &desc.name, &desc.ty)?;
    let (rows, cols) = matrix_of(desc);
    let dtype = desc.ty.dtype;
    let packed = match desc.layout {
        Layout::Plain => {
            let mut copy = allocate(bytes.len(), || format!("weight `{}`", desc.name))?;
            copy.copy_from_slice(bytes);
            copy
        }
        Layout::Packed => {
            pack_parallel(pool, &desc.name, &PackArgs { dtype, rows, cols, source: bytes, groups: 0..0 })?
        }
    };
    Ok(Weight { dtype, rows, cols, layout: desc.layout, bytes: packed })
}

/// Packs a matrix; each thread packs, and thereby places, the groups that it will read.
fn pack_parallel(pool: &Pool, name: &str, args: &PackArgs<'_>) -> Result<AlignedBytes, DeviceError> {
    let fail = |reason: String| DeviceError::Failed(format!("packing `{name}`: {reason}"));
    let size = packed_bytes(args.dtype, args.rows, args.cols);
    let size = size.ok_or_else(|| fail(format!("no packed form of {} with {} columns", args.dtype, args.cols)))?;
    let mut out = allocate(size, || format!("weight `{name}`"))?;
    let groups = groups_of(args.rows);
    let group_len = size.checked_div(groups).unwrap_or(0);
    let start = Shared(out.as_mut_ptr());
    let failure = Mutex::new(None);
    pool.run(&|worker| {
        let share = worker.share(groups);
        let (at, len) = (share.start * group_len, share.len() * group_len);
        // SAFETY: shares are disjoint ranges of `out`, which lives until `run` has returned.
        let part = unsafe { std::slice::from_raw_parts_mut(start.at(at), len) };
        if let Err(e) = pack(&PackArgs { groups: share, ..args.clone() }, part) {
            *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
        }
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(e) => Err(fail(e.to_string())),
        None => Ok(out),
    }
}

/// An address that threads share; each uses its own part.
struct Shared(*mut u8);

// SAFETY: a plain address; `pack_parallel` hands out disjoint parts.
unsafe impl Sync for Shared {}

impl Shared {
    /// The address `offset` bytes on.
    fn at(&self, offset: usize) -> *mut u8 {
        self.0.wrapping_add(offset)
    }
}
