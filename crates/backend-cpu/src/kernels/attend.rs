//! Attention over paged f16 keys and values: arguments of the kernels and memory layout.
//!
//! Work is divided by sequence, key-value head and *split*: 4 pages, 256 positions, counted from position 0. Within a
//! split, the rows and the query heads of a group share the page reads. What a row sees and sums depends only on its own
//! position, so its bits do not depend on other rows, on threads or on the order of the splits. Called through
//! `super::Kernels`; `tile` computes a split, `combine` joins splits.

mod combine;
mod tile;

pub(super) use combine::combine;
pub(super) use tile::attend;

use super::lanes::LANES;
use half::f16;
use std::ops::Range;

/// Positions of a page.
pub const PAGE_POSITIONS: usize = 64;
/// Positions of a split.
pub const SPLIT_POSITIONS: usize = 4 * PAGE_POSITIONS;

/// The keys and values of a layer: f16 `[pages]`, keys first: `[kv_heads][4][head_dim][16]`, so that one vector holds an
/// element of 16 positions' keys and scores need no sums across lanes; then values, `[kv_heads][64][head_dim]`.
#[derive(Clone, Copy, Debug)]
pub struct KvLayer {
    /// The layer's first element of page 0.
    pub start: *mut f16,
    /// Elements between consecutive pages; other layers may lie between them.
    pub page_stride: usize,
    /// Key-value heads.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
}

// SAFETY: a plain address; code that dereferences it upholds the contract of `Kernels::attend`.
unsafe impl Send for KvLayer {}
// SAFETY: as above.
unsafe impl Sync for KvLayer {}

impl KvLayer {
    /// Index of the first key of `kv_head` in `page`; values are `value_offset` further on.
    const fn key_index(&self, page: u32, kv_head: usize) -> usize {
        page as usize * self.page_stride + kv_head * PAGE_POSITIONS * self.head_dim
    }

    const fn value_offset(&self) -> usize {
        self.kv_heads * PAGE_POSITIONS * self.head_dim
    }

    /// A head's key at a position of its page.
    ///
    /// # Safety
    /// The page is inside the layer's memory, and nothing writes to this position while the iterator lives.
    pub unsafe fn key(&self, page: u32, offset: usize, kv_head: usize) -> impl Iterator<Item = f16> {
        let block = self.key_index(page, kv_head) + offset / LANES * LANES * self.head_dim + offset % LANES;
        let start = self.start;
        // SAFETY: guaranteed by the caller; one element of each of the key's vectors is this position's.
        (0..self.head_dim).map(move |i| unsafe { *start.add(block + i * LANES) })
    }

    /// A head's value at a position of its page, `head_dim` elements.
    ///
    /// # Safety
    /// As `key`, while the slice lives.
    pub unsafe fn value<'a>(&self, page: u32, offset: usize, kv_head: usize) -> &'a [f16] {
        let at = self.key_index(page, kv_head) + self.value_offset() + offset * self.head_dim;
        // SAFETY: guaranteed by the caller.
        unsafe { std::slice::from_raw_parts(self.start.add(at).cast_const(), self.head_dim) }
    }

    /// Stores a head's key, `head_dim` floats, at a position of its page.
    ///
    /// # Safety
    /// The page is inside the layer's memory, and nothing else uses this position's keys.
    pub unsafe fn write_key(&self, page: u32, offset: usize, kv_head: usize, key: &[f32]) {
        use half::slice::HalfFloatSliceExt;
        let block = self.key_index(page, kv_head) + offset / LANES * LANES * self.head_dim + offset % LANES;
        let mut halves = [f16::ZERO; LANES];
        for (i, key) in key.chunks(LANES).enumerate() {
            let halves = &mut halves[..key.len()];
            halves.convert_from_f32_slice(key);
            for (j, half) in halves.iter().enumerate() {
                // SAFETY: guaranteed by the caller; one element of each of the key's vectors is this position's.
                unsafe { *self.start.add(block + (i * LANES + j) * LANES) = *half };
            }
        }
    }

    /// Stores a head's value, `head_dim` floats, at a position of its page.
    ///
    /// # Safety
    /// The page is inside the layer's memory, and nothing else uses this position's values.
    pub unsafe fn write_value(&self, page: u32, offset: usize, kv_head: usize, value: &[f32]) {
        use half::slice::HalfFloatSliceExt;
        let at = self.key_index(page, kv_head) + self.value_offset() + offset * self.head_dim;
        // SAFETY: guaranteed by the caller.
        let out = unsafe { std::slice::from_raw_parts_mut(self.start.add(at), self.head_dim) };
        out.convert_from_f32_slice(value);
    }
}

/// A layer's pages with keys in row-major order, `[pages][2][kv_heads][64][head_dim]`, as f16 bytes: the form visible
/// outside this back end.
pub fn row_major(bytes: &[u8], kv_heads: usize, head_dim: usize) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let (head, element) = (PAGE_POSITIONS * head_dim, size_of::<f16>());
    let page = 2 * kv_heads * head * element;
    for (to, from) in out.chunks_exact_mut(page).zip(bytes.chunks_exact(page)) {
        let heads = to.chunks_exact_mut(head * element).zip(from.chunks_exact(head * element));
        for (to, from) in heads.take(kv_heads) {
            for offset in 0..PAGE_POSITIONS {
                for i in 0..head_dim {
                    let source = (offset / LANES * head_dim + i) * LANES + offset % LANES;
                    let (to_at, from_at) = ((offset * head_dim + i) * element, source * element);
                    to[to_at..to_at + element].copy_from_slice(&from[from_at..from_at + element]);
                }
            }
        }
    }
    out
}

/// The positions a row sees, and how scores are computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttendRule {
    /// Scores are dot products times this.
    pub scale: f32,
    /// A row at position p sees the last `window` positions up to p; all if `None`.
    pub window: Option<u32>,
    /// Scores become `cap * tanh(score / cap)`.
    pub soft_cap: Option<f32>,
}

impl AttendRule {
    /// The positions that a row at `position` sees.
    pub fn seen(&self, position: u32) -> Range<usize> {
        let end = position as usize + 1;
        let start = self.window.map_or(0, |w| end.saturating_sub(w as usize));
        start..end
    }

    /// The splits that contain those positions.
    pub fn splits(&self, position: u32) -> Range<usize> {
        let seen = self.seen(position);
        seen.start / SPLIT_POSITIONS..seen.end.div_ceil(SPLIT_POSITIONS)
    }
}

/// Partial results, f32 `[rows][q_heads][splits][partial_len(head_dim)]`: maximum, sum, padding to 16,
/// then the weighted values.
#[derive(Clone, Copy, Debug)]
pub struct Partials {
    /// Element 0.
    pub start: *mut f32,
    /// Capacity in splits.
    pub splits: usize,
}

// SAFETY: a plain address; code that dereferences it upholds the contract of `Kernels::attend`.
unsafe impl Send for Partials {}
// SAFETY: as above.
unsafe impl Sync for Partials {}

/// Floats of one partial result.
pub const fn partial_len(head_dim: usize) -> usize {
    LANES + head_dim
}

/// Floats of all partial results of a step.
pub const fn partials_len(rows: usize, q_heads: usize, splits: usize, head_dim: usize) -> usize {
    rows * q_heads * splits * partial_len(head_dim)
}

/// Pairs of row and query head that go through a split together.
pub(super) const MAX_PAIRS: usize = 8;
/// Floats of scratch memory that `attend` needs: the scores of a split.
pub const ATTEND_SCRATCH_LEN: usize = MAX_PAIRS * SPLIT_POSITIONS;

/// One split of one key-value head, for some rows of one sequence.
#[derive(Debug)]
pub struct AttendArgs<'a> {
    /// Keys and values.
    pub kv: KvLayer,
    /// The sequence's pages, in order of position.
    pub pages: &'a [u32],
    /// Position of each row.
    pub positions: &'a [u32],
    /// Queries, f32 `[rows][q_heads][head_dim]`.
    pub q: &'a [f32],
    /// Total query heads; `q_heads / kv_heads` of them share a key-value head.
    pub q_heads: usize,
    /// Which key-value head.
    pub kv_head: usize,
    /// Which split.
    pub split: usize,
    /// What rows see.
    pub rule: AttendRule,
    /// Destination of the results; row 0 is the first of `positions`.
    pub partials: Partials,
    /// `ATTEND_SCRATCH_LEN` floats.
    pub scratch: &'a mut [f32],
}

/// Joins a row's splits for one query head.
#[derive(Debug)]
pub struct CombineArgs<'a> {
    /// The partial results.
    pub partials: Partials,
    /// Which partial results: `row * q_heads + q_head`.
    pub index: usize,
    /// `AttendRule::splits` of the row.
    pub splits: Range<usize>,
    /// A score that takes part in the softmax but has no value.
    pub sink: Option<f32>,
    /// The head's output, `head_dim` floats.
    pub out: &'a mut [f32],
}
