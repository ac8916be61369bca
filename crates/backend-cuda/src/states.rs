//! State kept between steps: the KV pool and other states, in one allocation.
//!
//! Keys and values of all layers for a page are contiguous, so a page is copied in one piece. Values are transposed
//! within a page (`kernels/cuda/README.md`, "Keys and values"); downloads transpose them back.

use crate::driver::{Driver, Memory};
use crate::error::CudaError;
use aio_backend::DeviceError;
use aio_ir::PAGE_POSITIONS;
use aio_plan::{HeadSizes, KvShape, PlanFamily, PoolSizes, StateDesc};
use std::sync::Arc;

/// Size of an element of keys and values in bytes.
const HALF: usize = 2;
/// Positions per page.
const POSITIONS: usize = PAGE_POSITIONS as usize;

/// The layout of a family's states.
#[derive(Clone, Debug, Default)]
pub(crate) struct StatesMap {
    /// Positions, by state.
    pub places: Vec<Residence>,
    /// Bytes of a page over all layers.
    page_bytes: usize,
    pub pages: u32,
    pub slots: u32,
    /// Total size in bytes.
    pub bytes: usize,
}

/// Byte offset of a state within the state buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Residence {
    /// Keys and values of a layer: the offset within each page of the pool.
    Layer { offset: usize, heads: u32, size: u32 },
    /// A separate range; `page` is the size of one page in bytes, if it is paged.
    Own { offset: usize, bytes: usize, page: Option<usize> },
}

/// Head sizes that the kernels of pages take.
pub(crate) const HEADS: HeadSizes = HeadSizes { multiple_of: 16, max: 256 };

/// The shape of a state's keys and values, if kernels support the sizes of pages and heads.
fn layer(state: &StateDesc) -> Option<KvShape> {
    let HeadSizes { multiple_of, max } = HEADS;
    let sizes = |kv: &KvShape| {
        u64::from(kv.positions) == PAGE_POSITIONS && kv.head_dim <= max && kv.head_dim.is_multiple_of(multiple_of)
    };
    state.kv_shape().filter(sizes)
}

impl StatesMap {
    /// Lays out a family's states with pools of these sizes.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`] for impossibly large sizes.
    pub(crate) fn new(family: &PlanFamily, pools: PoolSizes) -> Result<StatesMap, DeviceError> {
        let (dims, pages) = (family.state_bounds(pools), pools.pages);
        let mut map = StatesMap { pages, slots: pools.slots, ..StatesMap::default() };
        for state in &family.states {
            if let Some(KvShape { heads, head_dim: size, .. }) = layer(state) {
                map.places.push(Residence::Layer { offset: map.page_bytes, heads, size });
                map.page_bytes += layer_bytes(heads, size);
            } else {
                // Its offset is set once the pool's size is known.
                let large = || DeviceError::OutOfMemory { what: format!("state `{}`", state.name), bytes: u64::MAX };
                let bytes = state.ty.bytes(&dims).and_then(|b| usize::try_from(b).ok()).ok_or_else(large)?;
                let page = state.is_paged().then(|| bytes / pages.max(1) as usize);
                map.places.push(Residence::Own { offset: 0, bytes, page });
            }
        }
        let large = || DeviceError::OutOfMemory { what: "the KV pool".to_owned(), bytes: u64::MAX };
        map.bytes = map.page_bytes.checked_mul(pages as usize).ok_or_else(large)?;
        for place in &mut map.places {
            if let Residence::Own { offset, bytes, .. } = place {
                *offset = map.bytes.next_multiple_of(256);
                map.bytes = offset.checked_add(*bytes).ok_or_else(large)?;
            }
        }
        Ok(map)
    }

    /// Elements from a page of a layer to the next one.
    pub(crate) fn page_stride(&self) -> u64 {
        (self.page_bytes / HALF) as u64
    }

    /// Allocates zeroed states.
    pub(crate) fn allocate(&self, driver: &Arc<dyn Driver>) -> Result<Memory, DeviceError> {
        Memory::zeroed(driver, self.bytes).map_err(|e| e.taking("the KV pool"))
    }

    /// Starts copying an existing page in every paged state.
    pub(crate) fn copy_page(&self, memory: &Memory, from: u32, to: u32) -> Result<(), CudaError> {
        if from == to {
            return Ok(());
        }
        let (from, to) = (from as usize, to as usize);
        memory.copy_within(from * self.page_bytes, to * self.page_bytes, self.page_bytes)?;
        self.places.iter().try_for_each(|place| match *place {
            Residence::Own { offset, page: Some(page), .. } => {
                memory.copy_within(offset + from * page, offset + to * page, page)
            }
            _ => Ok(()),
        })
    }

    /// Downloads a state in row-major form.
    pub(crate) fn download(&self, memory: &Memory, state: usize) -> Result<Option<Vec<u8>>, CudaError> {
        match self.places.get(state) {
            None => Ok(None),
            Some(&Residence::Own { offset, bytes, .. }) => memory.read(offset, bytes).map(Some),
            Some(&Residence::Layer { offset, heads, size }) => {
                let mut all = Vec::new();
                for page in 0..self.pages as usize {
                    let bytes = memory.read(page * self.page_bytes + offset, layer_bytes(heads, size))?;
                    row_major(&bytes, heads as usize, size as usize, &mut all);
                }
                Ok(Some(all))
            }
        }
    }
}

fn layer_bytes(heads: u32, size: u32) -> usize {
    2 * heads as usize * POSITIONS * size as usize * HALF
}

/// Appends a page in the graph's order: keys unchanged, values transposed back from `[heads][size][64]`.
fn row_major(page: &[u8], heads: usize, size: usize, out: &mut Vec<u8>) {
    let (keys, values) = page.split_at(page.len() / 2);
    out.extend_from_slice(keys);
    for head in 0..heads {
        for position in 0..POSITIONS {
            for d in 0..size {
                let at = ((head * size + d) * POSITIONS + position) * HALF;
                out.extend_from_slice(&values[at..at + HALF]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_turned_back() {
        let (heads, size) = (2, 16);
        let mut page = vec![0u8; layer_bytes(2, 16)];
        let (keys, values) = (0, heads * size * POSITIONS);
        let mut put = |at: usize, v: u16| page[2 * at..2 * at + 2].copy_from_slice(&v.to_le_bytes());
        put(keys + (POSITIONS + 5) * size + 3, 7);
        put(values + (size + 3) * POSITIONS + 5, 9);
        let mut out = Vec::new();
        row_major(&page, heads, size, &mut out);
        let at = |i: usize| u16::from_le_bytes([out[2 * i], out[2 * i + 1]]);
        assert_eq!(at((POSITIONS + 5) * size + 3), 7);
        assert_eq!(at(values + (POSITIONS + 5) * size + 3), 9);
        assert_eq!(out.iter().filter(|&&b| b != 0).count(), 2);
    }
}
