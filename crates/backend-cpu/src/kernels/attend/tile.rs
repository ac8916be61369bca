//! One split of attention for one key-value head.
//!
//! Pairs of row and query head go through the split in tiles of up to eight: first all scores, 32 positions at a time, then
//! the softmax of each pair, then the weighted values, with all sums in registers. A pair's sums run over its visible
//! positions in order, one at a time, regardless of its tile.

use super::{ATTEND_SCRATCH_LEN, AttendArgs, MAX_PAIRS, PAGE_POSITIONS, SPLIT_POSITIONS, partial_len};
use crate::kernels::lanes::{LANES, Lanes, exp};
use half::f16;
use std::ops::Range;

/// Blocks of 16 positions whose scores are computed together.
const BLOCKS: usize = 2;
/// Positions between a value's use and the fetch of a later one.
const VALUES_AHEAD: usize = 16;

/// A row and one of its query heads.
#[derive(Clone, Copy)]
struct Pair {
    q: *const f32,
    /// Visible positions, counted from the split's first.
    start: usize,
    end: usize,
    partial: *mut f32,
}

/// # Safety
/// The machine has the level; pages and partial results are valid, and nothing else writes to them.
#[inline(always)]
pub(in crate::kernels) unsafe fn attend<L: Lanes>(mut args: AttendArgs<'_>) {
    let hd = args.kv.head_dim;
    let group = args.q_heads / args.kv.kv_heads;
    assert!(hd.is_multiple_of(LANES), "head_dim is a multiple of 16");
    assert!(args.scratch.len() >= ATTEND_SCRATCH_LEN, "scratch holds the scores of a tile");
    assert!(args.q.len() >= args.positions.len() * args.q_heads * hd, "queries cover the rows");
    let mut pairs =
        [const { Pair { q: std::ptr::null(), start: 0, end: 0, partial: std::ptr::null_mut() } }; MAX_PAIRS];
    let mut count = 0;
    // From here on, scratch memory is accessed through this address, so that writes do not go through a shared borrow.
    let scores = std::mem::take(&mut args.scratch).as_mut_ptr();
    let first = args.split * SPLIT_POSITIONS;
    let step = args.partials.splits * partial_len(hd);
    for (row, &position) in args.positions.iter().enumerate() {
        let seen = args.rule.seen(position);
        let (start, end) = (seen.start.max(first) - first, seen.end.min(first + SPLIT_POSITIONS).max(first) - first);
        if start >= end {
            continue;
        }
        for head in args.kv_head * group..(args.kv_head + 1) * group {
            let index = row * args.q_heads + head;
            let partial = args.partials.start.wrapping_add(index * step + args.split * partial_len(hd));
            pairs[count] = Pair { q: args.q[index * hd..][..hd].as_ptr(), start, end, partial };
            count += 1;
            if count == L::PAIRS {
                // SAFETY: as guaranteed by the caller.
                unsafe { tile_of::<L>(&args, scores, &pairs[..count]) };
                count = 0;
            }
        }
    }
    // SAFETY: as guaranteed by the caller.
    unsafe { tile_of::<L>(&args, scores, &pairs[..count]) };
}

/// # Safety
/// As `attend`; every pair sees a position of the split, and `scores` has room for `ATTEND_SCRATCH_LEN` floats, ours.
#[inline(always)]
unsafe fn tile_of<L: Lanes>(args: &AttendArgs<'_>, scores: *mut f32, pairs: &[Pair]) {
    // SAFETY: as guaranteed by the caller; the arrays have as many pairs.
    unsafe {
        match *pairs {
            [a] => tile::<L, 1, 4>(args, scores, &[a]),
            [a, b] => tile::<L, 2, 4>(args, scores, &[a, b]),
            [a, b, c] if L::PAIRS > 2 => tile::<L, 3, 4>(args, scores, &[a, b, c]),
            [a, b, c, d] if L::PAIRS > 2 => tile::<L, 4, 4>(args, scores, &[a, b, c, d]),
            [a, b, c, d, e] if L::PAIRS > 4 => tile::<L, 5, 2>(args, scores, &[a, b, c, d, e]),
            [a, b, c, d, e, f] if L::PAIRS > 4 => tile::<L, 6, 2>(args, scores, &[a, b, c, d, e, f]),
            [a, b, c, d, e, f, g] if L::PAIRS > 4 => tile::<L, 7, 2>(args, scores, &[a, b, c, d, e, f, g]),
            [a, b, c, d, e, f, g, h] if L::PAIRS > 4 => tile::<L, 8, 2>(args, scores, &[a, b, c, d, e, f, g, h]),
            _ => {}
        }
    }
}

/// Locations of the split's keys and values.
struct Split<'a> {
    start: *const f16,
    value_offset: usize,
    page_stride: usize,
    head: usize,
    pages: &'a [u32],
    hd: usize,
}

impl Split<'_> {
    /// Keys of the head in a page of the split; of the last page for pages beyond it.
    #[inline(always)]
    fn page(&self, page: usize) -> *const f16 {
        let page = self.pages[page.min(self.pages.len() - 1)] as usize;
        self.start.wrapping_add(page * self.page_stride + self.head)
    }

    /// Keys of a block of 16 positions.
    #[inline(always)]
    fn keys(&self, block: usize) -> *const f16 {
        const PER_PAGE: usize = PAGE_POSITIONS / LANES;
        self.page(block / PER_PAGE).wrapping_add(block % PER_PAGE * LANES * self.hd)
    }

    /// Values of a position.
    #[inline(always)]
    fn values(&self, position: usize) -> *const f16 {
        let in_page = position % PAGE_POSITIONS * self.hd;
        self.page(position / PAGE_POSITIONS).wrapping_add(self.value_offset + in_page)
    }
}

/// # Safety
/// As `tile_of`; `N` pairs, of whose sums `C` vectors at a time are in registers.
#[inline(always)]
unsafe fn tile<L: Lanes, const N: usize, const C: usize>(args: &AttendArgs<'_>, scores: *mut f32, pairs: &[Pair; N]) {
    let hd = args.kv.head_dim;
    let end = pairs.iter().map(|p| p.end).max().unwrap_or(0);
    let start = pairs.iter().map(|p| p.start).min().unwrap_or(0);
    let first_page = args.split * SPLIT_POSITIONS / PAGE_POSITIONS;
    let split = Split {
        start: args.kv.start,
        value_offset: args.kv.value_offset(),
        page_stride: args.kv.page_stride,
        head: args.kv.key_index(0, args.kv_head),
        pages: &args.pages[first_page..first_page + end.div_ceil(PAGE_POSITIONS)],
        hd,
    };
    // SAFETY: the pages hold what every pair sees; the scratch memory, lent to us exclusively, has room for the scores
    // of `MAX_PAIRS` pairs.
    unsafe {
        for block in (start / LANES / BLOCKS * BLOCKS..end.div_ceil(LANES)).step_by(BLOCKS) {
            score_blocks::<L, N>(args, &split, pairs, block, scores);
        }
        for (i, pair) in pairs.iter().enumerate() {
            weigh::<L>(pair, scores.add(i * SPLIT_POSITIONS));
        }
        let vectors = hd / LANES;
        let mut vector = 0;
        while vector + C <= vectors {
            add_values::<L, N, C>(&split, pairs, scores, vector);
            vector += C;
        }
        while vector < vectors {
            add_values::<L, N, 1>(&split, pairs, scores, vector);
            vector += 1;
        }
    }
}

/// Scaled and capped scores of two blocks of positions for all pairs.
///
/// # Safety
/// As `tile`.
#[inline(always)]
unsafe fn score_blocks<L: Lanes, const N: usize>(
    args: &AttendArgs<'_>,
    split: &Split<'_>,
    pairs: &[Pair; N],
    block: usize,
    scores: *mut f32,
) {
    // If the second block is in a page the sequence lacks, the last page is repeated; those scores are never used.
    let keys = [split.keys(block), split.keys(block + 1)];
    let ahead = split.keys(block + BLOCKS);
    // SAFETY: both blocks are whole, and so are the queries; a prefetch of any address is harmless.
    unsafe {
        let half = split.hd / 2;
        let first = score_range::<L, N>(keys, ahead, pairs, 0..half);
        let second = score_range::<L, N>(keys, ahead, pairs, half..split.hd);
        let sums: [[L::V; BLOCKS]; N] =
            std::array::from_fn(|i| std::array::from_fn(|b| L::add(first[i][b], second[i][b])));
        for (i, sums) in sums.into_iter().enumerate() {
            for (b, sum) in sums.into_iter().enumerate() {
                let mut score = L::mul(sum, L::splat(args.rule.scale));
                if let Some(cap) = args.rule.soft_cap {
                    score = capped::<L>(score, cap);
                }
                L::store(scores.add(i * SPLIT_POSITIONS + (block + b) * LANES), score);
            }
        }
    }
}

/// Part of the scores: the products of some elements of the head. The parts are added at the end, which keeps each sum
/// short and its rounding errors small.
///
/// # Safety
/// As `score_blocks`; both blocks are whole, and so are the queries.
#[inline(always)]
unsafe fn score_range<L: Lanes, const N: usize>(
    keys: [*const f16; BLOCKS],
    ahead: *const f16,
    pairs: &[Pair; N],
    elements: Range<usize>,
) -> [[L::V; BLOCKS]; N] {
    // SAFETY: guaranteed by the caller; a prefetch of any address is harmless.
    unsafe {
        let mut sums = [[L::splat(0.0); BLOCKS]; N];
        for i in elements {
            let [a, b] = keys.map(|keys| L::load_half(keys.add(i * LANES)));
            L::prefetch(ahead.wrapping_add(i * LANES * BLOCKS).cast());
            for (sums, pair) in sums.iter_mut().zip(pairs) {
                let q = L::splat(*pair.q.add(i));
                sums[0] = L::fma(a, q, sums[0]);
                sums[1] = L::fma(b, q, sums[1]);
            }
        }
        sums
    }
}

/// `cap * tanh(score / cap)`.
///
/// # Safety
/// The machine has the level.
#[inline(always)]
unsafe fn capped<L: Lanes>(score: L::V, cap: f32) -> L::V {
    // SAFETY: guaranteed by the caller; no memory is touched.
    unsafe {
        // tanh(x) = 1 - 2 / (e^2x + 1)
        let e = exp::<L>(L::mul(score, L::splat(2.0 / cap)));
        let half = L::div(L::splat(2.0 * cap), L::add(e, L::splat(1.0)));
        L::sub(L::splat(cap), half)
    }
}

/// Turns a pair's scores into weights, `e^(score - maximum)`, and notes their maximum and sum.
///
/// # Safety
/// The machine has the level; `scores` are the pair's.
#[inline(always)]
unsafe fn weigh<L: Lanes>(pair: &Pair, scores: *mut f32) {
    let blocks = pair.start / LANES..pair.end.div_ceil(LANES);
    // SAFETY: guaranteed by the caller; a split has whole blocks.
    unsafe {
        let mut largest = L::splat(f32::NEG_INFINITY);
        for block in blocks.clone() {
            let at = scores.add(block * LANES);
            let score = visible::<L>(L::load(at), pair, block, f32::NEG_INFINITY);
            largest = L::max(score, largest);
        }
        let largest = L::largest(largest);
        let mut sum = L::splat(0.0);
        for block in blocks {
            let at = scores.add(block * LANES);
            let weight = exp::<L>(L::sub(L::load(at), L::splat(largest)));
            let weight = visible::<L>(weight, pair, block, 0.0);
            sum = L::add(sum, weight);
            L::store(at, weight);
        }
        *pair.partial = largest;
        *pair.partial.add(1) = L::sum(sum);
    }
}

/// `v` with `hidden` in the lanes of positions that the pair does not see.
///
/// # Safety
/// The machine has the level.
#[inline(always)]
unsafe fn visible<L: Lanes>(v: L::V, pair: &Pair, block: usize, hidden: f32) -> L::V {
    let lane = |position: usize| position.saturating_sub(block * LANES).min(LANES);
    let (start, end) = (lane(pair.start), lane(pair.end));
    if (start, end) == (0, LANES) {
        return v;
    }
    // SAFETY: the level is guaranteed by the caller.
    unsafe { L::keep(v, start..end, hidden) }
}

/// Weighted sums of `C` value vectors for all pairs. Positions that all pairs see are summed together; those before and
/// after, which only some see, separately, so that a hidden value is never touched.
///
/// # Safety
/// As `tile`; the scores have become weights.
#[inline(always)]
unsafe fn add_values<L: Lanes, const N: usize, const C: usize>(
    split: &Split<'_>,
    pairs: &[Pair; N],
    weights: *const f32,
    vector: usize,
) {
    let start = pairs.iter().map(|p| p.start).max().unwrap_or(0);
    let end = pairs.iter().map(|p| p.end).min().unwrap_or(0).max(start);
    // SAFETY: as guaranteed by the caller.
    unsafe {
        let mut sums = [[L::splat(0.0); C]; N];
        for (i, pair) in pairs.iter().enumerate() {
            let before = pair.start..start.min(pair.end);
            sum_range::<L, 1, C>(
                split,
                before,
                weights.add(i * SPLIT_POSITIONS),
                vector,
                std::array::from_mut(&mut sums[i]),
            );
        }
        sum_range::<L, N, C>(split, start..end, weights, vector, &mut sums);
        for (i, pair) in pairs.iter().enumerate() {
            let after = end.max(pair.start)..pair.end;
            sum_range::<L, 1, C>(
                split,
                after,
                weights.add(i * SPLIT_POSITIONS),
                vector,
                std::array::from_mut(&mut sums[i]),
            );
            for (c, sum) in sums[i].into_iter().enumerate() {
                L::store(pair.partial.add((1 + vector + c) * LANES), sum);
            }
        }
    }
}

/// Adds the weighted values of some positions to the sums of `N` pairs, position by position.
///
/// # Safety
/// As `add_values`; every pair sees the positions.
#[inline(always)]
unsafe fn sum_range<L: Lanes, const N: usize, const C: usize>(
    split: &Split<'_>,
    positions: Range<usize>,
    weights: *const f32,
    vector: usize,
    sums: &mut [[L::V; C]; N],
) {
    let mut position = positions.start;
    while position < positions.end {
        let end = positions.end.min((position / PAGE_POSITIONS + 1) * PAGE_POSITIONS);
        let values = split.values(position).wrapping_add(vector * LANES);
        for i in 0..end - position {
            // SAFETY: the page has these values, the weights these positions; a prefetch of any address is harmless.
            unsafe {
                let at = values.add(i * split.hd);
                if vector == 0 && N <= 4 {
                    L::prefetch(split.values(position + i + VALUES_AHEAD).cast());
                }
                let mut v = [L::splat(0.0); C];
                for (c, v) in v.iter_mut().enumerate() {
                    *v = L::load_half(at.add(c * LANES));
                }
                for (n, sums) in sums.iter_mut().enumerate() {
                    let weight = L::splat(*weights.add(n * SPLIT_POSITIONS + position + i));
                    for (sum, v) in sums.iter_mut().zip(v) {
                        *sum = L::fma(weight, v, *sum);
                    }
                }
            }
        }
        position = end;
    }
}
