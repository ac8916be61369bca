//! Attention over paged f16 keys and values.
//!
//! Work is cut by sequence, key-value head and *split*: 4 pages, 256 positions, counted from
//! position 0. In a split all rows and all query heads of the group share one read of the pages; scores
//! go through an online softmax, 16 positions at a time, in order. `combine` joins a row's splits in
//! order. What a row sees and sums depends on its own position only, so its bits do not
//! depend on other rows, on threads or on the order of the splits. Called through `super::Kernels`.

use super::lanes::{LANES, Lanes, exp, to_array};
use half::f16;
use std::ops::Range;

/// Positions of a page.
pub const PAGE_POSITIONS: usize = 64;
/// Positions of a split.
pub const SPLIT_POSITIONS: usize = 4 * PAGE_POSITIONS;

/// The keys and values of a layer: f16 `[pages][2][kv_heads][64][head_dim]`, keys first.
#[derive(Clone, Copy, Debug)]
pub struct KvLayer {
    /// Element 0 of page 0.
    pub start: *mut f16,
    /// Key-value heads.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
}

// SAFETY: a plain address; whoever goes through it promises who owns what (`Kernels::attend`).
unsafe impl Send for KvLayer {}
// SAFETY: as above.
unsafe impl Sync for KvLayer {}

impl KvLayer {
    /// Elements of a page.
    pub const fn page_elems(&self) -> usize {
        2 * self.kv_heads * PAGE_POSITIONS * self.head_dim
    }

    /// Index of the first key of `kv_head` in `page`; values are `value_offset` further on.
    const fn key_index(&self, page: u32, kv_head: usize) -> usize {
        page as usize * self.page_elems() + kv_head * PAGE_POSITIONS * self.head_dim
    }

    const fn value_offset(&self) -> usize {
        self.kv_heads * PAGE_POSITIONS * self.head_dim
    }

    /// A head's key and value at a position of its page, `head_dim` elements each.
    ///
    /// # Safety
    /// The page is inside the layer's memory, and nobody writes to this position while the slices live.
    pub unsafe fn read<'a>(&self, page: u32, slot: usize, kv_head: usize) -> (&'a [f16], &'a [f16]) {
        let at = self.key_index(page, kv_head) + slot * self.head_dim;
        // SAFETY: the caller's promise.
        let part = |at: usize| unsafe { std::slice::from_raw_parts(self.start.add(at).cast_const(), self.head_dim) };
        (part(at), part(at + self.value_offset()))
    }

    /// Stores a head's key and value, `head_dim` floats each, at a position of its page.
    ///
    /// # Safety
    /// The page is inside the layer's memory, and nobody else uses this position of it.
    pub unsafe fn write(&self, page: u32, slot: usize, kv_head: usize, key: &[f32], value: &[f32]) {
        use half::slice::HalfFloatSliceExt;
        let at = self.key_index(page, kv_head) + slot * self.head_dim;
        for (at, x) in [(at, key), (at + self.value_offset(), value)] {
            // SAFETY: the caller's promise.
            let out = unsafe { std::slice::from_raw_parts_mut(self.start.add(at), self.head_dim) };
            out.convert_from_f32_slice(x);
        }
    }
}

/// What a row sees and how scores are formed.
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

    /// The splits in which it sees something.
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
    /// Splits there is room for.
    pub splits: usize,
}

// SAFETY: a plain address; whoever goes through it promises who owns what (`Kernels::attend`).
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

/// Floats of scratch memory that `attend` needs.
pub const fn attend_scratch_len(head_dim: usize) -> usize {
    2 * LANES * head_dim
}

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
    /// Query heads in all; `q_heads / kv_heads` of them share a key-value head.
    pub q_heads: usize,
    /// Which key-value head.
    pub kv_head: usize,
    /// Which split.
    pub split: usize,
    /// What rows see.
    pub rule: AttendRule,
    /// Where results go, row 0 being the first of `positions`.
    pub partials: Partials,
    /// `attend_scratch_len(head_dim)` floats.
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
    /// A score that takes its share of the weight and brings no value.
    pub sink: Option<f32>,
    /// The head's output, `head_dim` floats.
    pub out: &'a mut [f32],
}

/// # Safety
/// The machine has the level; pages and partial results are valid, and nobody else writes to them.
#[inline(always)]
pub(super) unsafe fn attend<L: Lanes>(args: AttendArgs<'_>) {
    let hd = args.kv.head_dim;
    assert!(hd.is_multiple_of(LANES), "head_dim is a multiple of 16");
    assert!(args.scratch.len() >= attend_scratch_len(hd), "scratch holds 16 keys and values");
    assert!(args.q.len() >= args.positions.len() * args.q_heads * hd, "queries cover the rows");
    let first = args.split * SPLIT_POSITIONS;
    let end = args.positions.iter().map(|p| *p as usize + 1).max().unwrap_or(0);
    let (keys, values) = args.scratch.split_at_mut(LANES * hd);
    for start in (first..end.min(first + SPLIT_POSITIONS)).step_by(LANES) {
        let seen = |p: u32| {
            let seen = args.rule.seen(p);
            seen.start.max(start)..seen.end.min(start + LANES)
        };
        if args.positions.iter().all(|p| seen(*p).is_empty()) {
            continue;
        }
        let page = args.pages[start / PAGE_POSITIONS];
        let at = args.kv.key_index(page, args.kv_head) + start % PAGE_POSITIONS * hd;
        // SAFETY: 16 positions from a multiple of 16 lie inside the page.
        unsafe {
            widen::<L>(args.kv.start.add(at), keys);
            widen::<L>(args.kv.start.add(at + args.kv.value_offset()), &mut values[..LANES * hd]);
        }
        for (row, position) in args.positions.iter().enumerate() {
            let visible = seen(*position);
            if visible.is_empty() {
                continue;
            }
            let block = Block {
                keys,
                values,
                visible: visible.start - start..visible.end - start,
                fresh: args.rule.seen(*position).start.max(first) >= start,
                rule: &args.rule,
            };
            let group = args.q_heads / args.kv.kv_heads;
            let (first, end) = (args.kv_head * group, (args.kv_head + 1) * group);
            for head in (first..end).step_by(HEADS) {
                let index = row * args.q_heads + head;
                let heads = HEADS.min(end - head);
                let step = args.partials.splits * partial_len(hd);
                let at = index * step + args.split * partial_len(hd);
                // SAFETY: the caller owns these partial results.
                unsafe {
                    let partial = args.partials.start.add(at);
                    block.add::<L>(&args.q[index * hd..][..heads * hd], hd, Heads { partial, step });
                }
            }
        }
    }
}

/// Query heads that go through a block together, phase by phase, so that one's latency hides
/// behind the others' work.
const HEADS: usize = 4;

/// Partial results of neighbouring query heads.
#[derive(Clone, Copy)]
struct Heads {
    partial: *mut f32,
    /// Floats from one head to the next.
    step: usize,
}

/// Sixteen positions of a key-value head, widened, and which of them a row sees.
struct Block<'a> {
    keys: &'a [f32],
    values: &'a [f32],
    visible: Range<usize>,
    /// Whether this is the first block of the split that the row sees.
    fresh: bool,
    rule: &'a AttendRule,
}

impl Block<'_> {
    /// Adds the block to the partial results of the heads whose queries are given.
    ///
    /// # Safety
    /// The machine has the level; each head has `partial_len(hd)` floats, ours.
    #[inline(always)]
    unsafe fn add<L: Lanes>(&self, q: &[f32], hd: usize, heads: Heads) {
        let mut scores = [[0f32; LANES]; HEADS];
        let mut keeps = [1f32; HEADS];
        // SAFETY: as promised; the arrays have 16 elements.
        unsafe {
            for (q, scores) in q.chunks_exact(hd).zip(&mut scores) {
                let masked = self.masked::<L>(self.scores::<L>(q), f32::NEG_INFINITY);
                L::store(scores.as_mut_ptr(), masked);
            }
            let count = q.len() / hd;
            for (head, (scores, keep)) in scores.iter_mut().zip(&mut keeps).take(count).enumerate() {
                *keep = self.weigh::<L>(scores, hd, heads.partial.add(head * heads.step));
            }
            for (head, (p, keep)) in scores.iter().zip(keeps).take(count).enumerate() {
                self.add_values::<L>(p, keep, heads.partial.add(head * heads.step + LANES), hd);
            }
        }
    }

    /// Turns scores into weights, updates maximum and sum, and returns the old values' share.
    ///
    /// # Safety
    /// As `add`, for one head.
    #[inline(always)]
    unsafe fn weigh<L: Lanes>(&self, scores: &mut [f32; LANES], hd: usize, partial: *mut f32) -> f32 {
        // SAFETY: as promised; the array has 16 elements.
        unsafe {
            if self.fresh {
                for at in (0..partial_len(hd)).step_by(LANES) {
                    L::store(partial.add(at), L::splat(0.0));
                }
                *partial = f32::NEG_INFINITY;
            }
            let v = L::load(scores.as_ptr());
            let (old, new) = (*partial, L::largest(v).max(*partial));
            // e^0 is exactly 1.
            let keep = if new == old { 1.0 } else { exp_one::<L>(old - new) };
            let p = self.masked::<L>(exp::<L>(L::sub(v, L::splat(new))), 0.0);
            *partial = new;
            *partial.add(1) = *partial.add(1) * keep + L::sum(p);
            L::store(scores.as_mut_ptr(), p);
            keep
        }
    }

    /// `v` with `hidden` in the lanes of positions that the row does not see.
    ///
    /// # Safety
    /// The machine has the level.
    #[inline(always)]
    unsafe fn masked<L: Lanes>(&self, v: L::V, hidden: f32) -> L::V {
        if self.visible == (0..LANES) {
            return v;
        }
        // SAFETY: the level is the caller's promise; the array has 16 elements.
        unsafe {
            let mut lanes = to_array::<L>(v);
            lanes[..self.visible.start].fill(hidden);
            lanes[self.visible.end..].fill(hidden);
            L::load(lanes.as_ptr())
        }
    }

    /// Scaled and capped scores of all sixteen positions.
    ///
    /// # Safety
    /// The machine has the level.
    #[inline(always)]
    unsafe fn scores<L: Lanes>(&self, q: &[f32]) -> L::V {
        let hd = q.len();
        // SAFETY: as promised; there are 16 keys of `hd` floats.
        unsafe {
            let mut parts = [L::splat(0.0); LANES];
            for (four, parts) in parts.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                for at in (0..hd).step_by(LANES) {
                    let query = L::load(q.as_ptr().add(at));
                    for (j, part) in parts.iter_mut().enumerate() {
                        let key = L::load(self.keys.as_ptr().add((4 * four + j) * hd + at));
                        *part = L::fma(query, key, *part);
                    }
                }
            }
            let scores = L::mul(L::sum_each(&parts), L::splat(self.rule.scale));
            let Some(cap) = self.rule.soft_cap else { return scores };
            // tanh(x) = 1 - 2 / (e^2x + 1)
            let e = exp::<L>(L::mul(scores, L::splat(2.0 / cap)));
            let half = L::div(L::splat(2.0 * cap), L::add(e, L::splat(1.0)));
            L::sub(L::splat(cap), half)
        }
    }

    /// `acc = acc * keep + sum of p[j] * value[j]`, even and odd positions summed apart, in order.
    ///
    /// # Safety
    /// The machine has the level; `acc` is `hd` floats, ours.
    #[inline(always)]
    unsafe fn add_values<L: Lanes>(&self, p: &[f32; LANES], keep: f32, acc: *mut f32, hd: usize) {
        let all = self.visible == (0..LANES);
        // SAFETY: as promised; there are 16 values of `hd` floats.
        unsafe {
            for at in (0..hd).step_by(LANES) {
                let values = self.values.as_ptr().add(at);
                let mut sums = [L::mul(L::load(acc.add(at)), L::splat(keep)), L::splat(0.0)];
                if all {
                    for (j, p) in p.iter().enumerate() {
                        sums[j % 2] = L::fma(L::splat(*p), L::load(values.add(j * hd)), sums[j % 2]);
                    }
                } else {
                    for j in self.visible.clone() {
                        sums[j % 2] = L::fma(L::splat(p[j]), L::load(values.add(j * hd)), sums[j % 2]);
                    }
                }
                L::store(acc.add(at), L::add(sums[0], sums[1]));
            }
        }
    }
}

/// `e^x` of one number.
///
/// # Safety
/// The machine has the level.
#[inline(always)]
unsafe fn exp_one<L: Lanes>(x: f32) -> f32 {
    // SAFETY: the caller's promise.
    unsafe { to_array::<L>(exp::<L>(L::splat(x)))[0] }
}

/// Widens `out.len()` f16, a multiple of 16.
///
/// # Safety
/// The machine has the level; as many f16 are readable at `p`.
#[inline(always)]
unsafe fn widen<L: Lanes>(p: *const f16, out: &mut [f32]) {
    for (at, out) in out.chunks_exact_mut(LANES).enumerate() {
        // SAFETY: the caller's promise.
        unsafe { L::store(out.as_mut_ptr(), L::load_half(p.add(at * LANES))) };
    }
}

/// # Safety
/// The machine has the level; the partial results of `args.splits` are valid.
#[inline(always)]
pub(super) unsafe fn combine<L: Lanes>(args: CombineArgs<'_>) {
    let hd = args.out.len();
    assert!(hd.is_multiple_of(LANES), "head_dim is a multiple of 16");
    let partial = |split: usize| {
        let at = (args.index * args.partials.splits + split) * partial_len(hd);
        args.partials.start.wrapping_add(at).cast_const()
    };
    // SAFETY: the splits' partial results are valid; the level is the caller's promise.
    unsafe {
        let mut max = args.sink.unwrap_or(f32::NEG_INFINITY);
        for split in args.splits.clone() {
            max = max.max(*partial(split));
        }
        args.out.fill(0.0);
        let mut sum = args.sink.map_or(0.0, |sink| exp_one::<L>(sink - max));
        for split in args.splits {
            let share = exp_one::<L>(*partial(split) - max);
            sum += *partial(split).add(1) * share;
            for at in (0..hd).step_by(LANES) {
                let out = args.out.as_mut_ptr().add(at);
                let value = L::load(partial(split).add(LANES + at));
                L::store(out, L::add(L::load(out), L::mul(value, L::splat(share))));
            }
        }
        for at in (0..hd).step_by(LANES) {
            let out = args.out.as_mut_ptr().add(at);
            L::store(out, L::div(L::load(out), L::splat(sum)));
        }
    }
}
