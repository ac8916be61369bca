//! State kept between steps: the KV pool and other states.
//!
//! The keys and values of all layers in a KV page are contiguous. A short context then touches few of the system's pages,
//! which are large and zeroed on first touch, and a KV page is copied in one piece. Owned by the resident model.

use crate::error::allocate;
use crate::kernels::attend::row_major;
use crate::memory::AlignedBytes;
use aio_backend::DeviceError;
use aio_ir::{DType, Dims, PAGE_POSITIONS};
use aio_plan::{KvShape, PlanFamily, PoolSizes, StateDesc};
use smallvec::SmallVec;

/// A family's states.
#[derive(Debug)]
pub(crate) struct States {
    /// The layers' keys and values: pages of `page_bytes`.
    pool: AlignedBytes,
    page_bytes: usize,
    pages: usize,
    places: Vec<Residence>,
}

#[derive(Debug)]
enum Residence {
    /// Keys and values of a layer, at this byte offset in each page of the pool.
    Layer { offset: usize, heads: usize, size: usize },
    /// Separate memory.
    Own { bytes: AlignedBytes, paged: bool },
}

/// A size in bytes that memory can have, or the error.
fn sized(bytes: Option<u64>, what: &str) -> Result<usize, DeviceError> {
    let size = bytes.and_then(|b| usize::try_from(b).ok()).filter(|&b| b <= isize::MAX as usize);
    size.ok_or_else(|| DeviceError::OutOfMemory { what: what.to_owned(), bytes: bytes.unwrap_or(u64::MAX) })
}

/// The shape of keys and values in pages of the size that kernels take.
fn layer(state: &StateDesc) -> Option<KvShape> {
    state.kv_shape().filter(|kv| u64::from(kv.positions) == PAGE_POSITIONS)
}

impl States {
    /// Zeroed states with pools of these sizes.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`].
    pub(crate) fn new(family: &PlanFamily, pools: PoolSizes) -> Result<States, DeviceError> {
        let (dims, one) = (family.state_bounds(pools), Dims { pages: 1, ..Dims::default() });
        let mut page_bytes = 0u64;
        let mut places = Vec::with_capacity(family.states.len());
        for state in &family.states {
            let what = format!("state `{}`", state.name);
            if let Some(KvShape { heads, head_dim, .. }) = layer(state) {
                let bytes = sized(state.ty.bytes(&one), &what)? as u64;
                let (heads, size) = (heads as usize, head_dim as usize);
                places.push(Residence::Layer { offset: page_bytes as usize, heads, size });
                page_bytes = page_bytes.saturating_add(bytes);
            } else {
                places.push(own(state, &dims, &what)?);
            }
        }
        let pages = pools.pages;
        let len = sized(page_bytes.checked_mul(u64::from(pages)), "the KV pool")?;
        let pool = allocate(len, || "the KV pool".to_owned())?;
        Ok(States { pool, page_bytes: page_bytes as usize, pages: pages as usize, places })
    }

    /// No states at all.
    pub(crate) fn none() -> States {
        States { pool: AlignedBytes::zeroed(0), page_bytes: 0, pages: 0, places: Vec::new() }
    }

    /// Bytes between consecutive pages of a layer.
    pub(crate) fn page_stride(&self) -> usize {
        self.page_bytes
    }

    /// The address of each state.
    pub(crate) fn addresses(&mut self) -> SmallVec<[*mut u8; 128]> {
        let pool = self.pool.as_mut_ptr();
        let address = |place: &mut Residence| match place {
            Residence::Layer { offset, .. } => pool.wrapping_add(*offset),
            Residence::Own { bytes, .. } => bytes.as_mut_ptr(),
        };
        self.places.iter_mut().map(address).collect()
    }

    /// Copies existing pages `(from, to)` in every paged state.
    pub(crate) fn copy_pages(&mut self, pages: &[(u32, u32)]) {
        copy(&mut self.pool, self.page_bytes, pages);
        for place in &mut self.places {
            if let Residence::Own { bytes, paged: true } = place {
                let size = bytes.len() / self.pages.max(1);
                copy(bytes, size, pages);
            }
        }
    }

    /// A state in its row-major form.
    pub(crate) fn download(&self, state: usize) -> Option<Vec<u8>> {
        Some(match self.places.get(state)? {
            Residence::Own { bytes, .. } => bytes.to_vec(),
            &Residence::Layer { offset, heads, size } => {
                let len = 2 * heads * PAGE_POSITIONS as usize * size * DType::F16.block_bytes();
                let page = |p: usize| &self.pool[p * self.page_bytes + offset..][..len];
                let layer: Vec<u8> = (0..self.pages).flat_map(page).copied().collect();
                row_major(&layer, heads, size)
            }
        })
    }
}

fn own(state: &StateDesc, dims: &Dims, what: &str) -> Result<Residence, DeviceError> {
    let bytes = allocate(sized(state.ty.bytes(dims), what)?, || what.to_owned())?;
    Ok(Residence::Own { bytes, paged: state.is_paged() })
}

fn copy(bytes: &mut [u8], size: usize, pages: &[(u32, u32)]) {
    for &(from, to) in pages {
        let from = from as usize * size;
        bytes.copy_within(from..from + size, to as usize * size);
    }
}
