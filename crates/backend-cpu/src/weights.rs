//! A family's packed weights, in one region of memory or in the mapped file of an artefact.
//!
//! A single region fills whole huge pages: a separate matrix is often smaller than one, and on small pages TLB reach and
//! hardware prefetching end every 4 KiB. Filled at upload, read by every task.

use crate::error::allocate;
use crate::memory::AlignedBytes;
use crate::pack::{PackArgs, groups_of, pack, packed_bytes};
use crate::pool::Pool;
use aio_backend::{DeviceError, ImageAccess, WeightSource, weights};
use aio_ir::DType;
use aio_plan::artefact::{ArtefactError, MappedWeights, WeightFile};
use aio_plan::{Layout, PlanFamily, WeightDesc};
use std::ops::{Deref, Range};
use std::sync::{Arc, Mutex, PoisonError};

/// Alignment of each weight: a cache line, so that no vector straddles two.
const ALIGNMENT: usize = 64;

/// A weight in the form kernels read.
#[derive(Debug)]
pub(crate) struct Weight {
    pub dtype: DType,
    /// Rows and columns of a matrix; a vector has one row.
    pub rows: usize,
    pub cols: usize,
    /// Number of such matrices, each packed by itself; 1 unless they are experts.
    pub matrices: usize,
    pub layout: Layout,
    pub bytes: Part,
}

/// The memory that holds all weights of a family.
#[derive(Debug)]
pub(crate) enum Region {
    Owned(AlignedBytes),
    Mapped(MappedWeights),
}

impl Deref for Region {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Region::Owned(bytes) => bytes,
            Region::Mapped(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Region {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// A byte range of the region.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    region: Arc<Region>,
    range: Range<usize>,
}

impl Deref for Part {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.region[self.range.clone()]
    }
}

impl Weight {
    /// The elements of a plain f32 vector (norms, biases, frequency factors).
    pub(crate) fn f32s(&self) -> &[f32] {
        debug_assert_eq!((self.dtype, self.layout), (DType::F32, Layout::Plain));
        bytemuck::cast_slice(&self.bytes)
    }
}

/// A weight's type, shape and range in the region.
struct WeightSpan {
    dtype: DType,
    rows: usize,
    cols: usize,
    matrices: usize,
    layout: Layout,
    range: Range<usize>,
}

/// Lays out the weights one after another, in the family's order.
fn places(family: &PlanFamily) -> Result<Vec<WeightSpan>, DeviceError> {
    let mut end = 0usize;
    let mut places = Vec::with_capacity(family.weights.len());
    for desc in &family.weights {
        let fail = |reason: String| DeviceError::Failed(format!("packing `{}`: {reason}", desc.name));
        let dims: Vec<usize> = desc.ty.shape.dims().iter().filter_map(|d| d.known()).map(|d| d as usize).collect();
        let cols = dims.last().copied().unwrap_or(1);
        let matrices = if dims.len() == 3 { dims[0] } else { 1 };
        let rows = dims.iter().product::<usize>() / (cols * matrices).max(1);
        let dtype = desc.ty.dtype;
        let len = match desc.layout {
            Layout::Plain => desc.ty.bytes(&aio_ir::Dims::default()).map(|b| b as usize),
            Layout::Packed => packed_bytes(dtype, rows, cols).and_then(|b| b.checked_mul(matrices)),
        };
        let len = len.ok_or_else(|| fail(format!("no packed form of {dtype} with {cols} columns")))?;
        let start = end.next_multiple_of(ALIGNMENT);
        end = start.checked_add(len).ok_or_else(|| fail("the weights are larger than memory".to_owned()))?;
        places.push(WeightSpan { dtype, rows, cols, matrices, layout: desc.layout, range: start..end });
    }
    Ok(places)
}

/// Packs all weights of a family.
///
/// # Errors
/// [`DeviceError::Weight`], [`DeviceError::OutOfMemory`].
pub(crate) fn pack_all(pool: &Pool, family: &PlanFamily, source: &dyn WeightSource) -> Result<Packed, DeviceError> {
    let places = places(family)?;
    for desc in &family.weights {
        // Missing weights are found before memory is allocated.
        weights::checked(source, &desc.name, &desc.ty)?;
    }
    let len = places.last().map_or(0, |p| p.range.end);
    let mut region = allocate(len, || "the weights".to_owned())?;
    for (desc, place) in family.weights.iter().zip(&places) {
        let bytes = weights::checked(source, &desc.name, &desc.ty)?;
        fill(pool, desc, place, bytes, &mut region[place.range.clone()])?;
    }
    Ok(Packed::new(Region::Owned(region), places))
}

/// Distinguishes a damaged image from a file that cannot be read or mapped at the moment.
fn image_error(error: ArtefactError) -> DeviceError {
    match error {
        ArtefactError::Read { .. } | ArtefactError::Map(_) => DeviceError::ImageRead(error.to_string()),
        damage => DeviceError::Image(damage.to_string()),
    }
}

/// Loads weights already packed in an artefact's file.
///
/// # Errors
/// [`DeviceError::Image`], [`DeviceError::ImageRead`], [`DeviceError::OutOfMemory`].
pub(crate) fn take_all(
    pool: &Pool,
    family: &PlanFamily,
    image: &WeightFile,
    access: ImageAccess,
) -> Result<Packed, DeviceError> {
    let places = places(family)?;
    let len = places.last().map_or(0, |p| p.range.end);
    if image.bytes() != len as u64 {
        let reason = format!("they are {} bytes, but the plans' weights take {len}", image.bytes());
        return Err(DeviceError::Image(reason));
    }
    // A family without weights has nothing to map.
    let region = if access == ImageAccess::Map && len > 0 {
        let mapped = image.map().map_err(image_error)?;
        if mapped.as_ptr().align_offset(ALIGNMENT) != 0 {
            return Err(DeviceError::Image("the map is not aligned".to_owned()));
        }
        Region::Mapped(mapped)
    } else {
        let mut region = allocate(len, || "the weights".to_owned())?;
        read_parallel(pool, image, &mut region).map_err(image_error)?;
        Region::Owned(region)
    };
    Ok(Packed::new(region, places))
}

/// A family's weights and the region that holds them.
#[derive(Debug)]
pub(crate) struct Packed {
    pub weights: Vec<Weight>,
    pub region: Arc<Region>,
}

impl Packed {
    fn new(region: Region, places: Vec<WeightSpan>) -> Packed {
        let region = Arc::new(region);
        let weight = |p: WeightSpan| {
            let bytes = Part { region: Arc::clone(&region), range: p.range };
            Weight { dtype: p.dtype, rows: p.rows, cols: p.cols, matrices: p.matrices, layout: p.layout, bytes }
        };
        Packed { weights: places.into_iter().map(weight).collect(), region }
    }
}

/// Shapes of the weights: the matrices are empty, the vectors zero.
///
/// # Errors
/// [`DeviceError::Failed`], [`DeviceError::OutOfMemory`].
pub(crate) fn shapes(family: &PlanFamily) -> Result<Vec<Weight>, DeviceError> {
    let shape = |p: WeightSpan| {
        let len = if p.layout == Layout::Plain { p.range.len() } else { 0 };
        let zeros = allocate(len, || "the weights' shapes".to_owned())?;
        let bytes = Part { region: Arc::new(Region::Owned(zeros)), range: 0..len };
        Ok(Weight { dtype: p.dtype, rows: p.rows, cols: p.cols, matrices: p.matrices, layout: p.layout, bytes })
    };
    places(family)?.into_iter().map(shape).collect()
}

fn fill(pool: &Pool, desc: &WeightDesc, place: &WeightSpan, bytes: &[u8], out: &mut [u8]) -> Result<(), DeviceError> {
    if place.layout == Layout::Plain {
        out.copy_from_slice(bytes);
        return Ok(());
    }
    let failed = |reason: String| DeviceError::Failed(format!("packing `{}`: {reason}", desc.name));
    let (each, packed) = (bytes.len() / place.matrices.max(1), out.len() / place.matrices.max(1));
    for (source, out) in bytes.chunks(each.max(1)).zip(out.chunks_mut(packed.max(1))) {
        let args = PackArgs { dtype: place.dtype, rows: place.rows, cols: place.cols, source, groups: 0..0 };
        pack_parallel(pool, &args, out).map_err(failed)?;
    }
    Ok(())
}

/// Packs a matrix. Each thread packs the groups it will read later, which places their pages near it.
fn pack_parallel(pool: &Pool, args: &PackArgs<'_>, out: &mut [u8]) -> Result<(), String> {
    let groups = groups_of(args.rows);
    let group_len = out.len().checked_div(groups).unwrap_or(0);
    let start = Shared(out.as_mut_ptr());
    let failure = Mutex::new(None);
    pool.run(&|worker| {
        let share = worker.share(groups);
        let (at, len) = (share.start * group_len, share.len() * group_len);
        // SAFETY: shares are disjoint ranges of `out`, which is borrowed until `run` has returned.
        let part = unsafe { std::slice::from_raw_parts_mut(start.at(at), len) };
        if let Err(e) = pack(&PackArgs { groups: share, ..args.clone() }, part) {
            *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(e.to_string());
        }
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// Reads an image into the region. Threads claim chunks, then read and verify them, since processors may be busy building
/// the tokenizer at the same time.
fn read_parallel(pool: &Pool, image: &WeightFile, out: &mut [u8]) -> Result<(), ArtefactError> {
    debug_assert_eq!(out.len() as u64, image.bytes());
    let start = Shared(out.as_mut_ptr());
    let failure = Mutex::new(None);
    pool.run(&|worker| {
        for chunk in worker.chunks(image.chunks(), 1).flatten() {
            let range = image.chunk(chunk);
            let (at, len) = (range.start as usize, (range.end - range.start) as usize);
            // SAFETY: chunks are disjoint ranges of `out`, which holds all of the image's bytes and is borrowed until
            // `run` returns; each chunk is claimed by one thread.
            let part = unsafe { std::slice::from_raw_parts_mut(start.at(at), len) };
            if let Err(e) = image.read_chunk(chunk, part) {
                *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
                return;
            }
        }
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// An address shared by threads that each use their own part.
struct Shared(*mut u8);

// SAFETY: a plain address; `pack_parallel` and `read_parallel` hand out disjoint parts.
unsafe impl Sync for Shared {}

impl Shared {
    /// The address plus `offset` bytes.
    fn at(&self, offset: usize) -> *mut u8 {
        self.0.wrapping_add(offset)
    }
}
