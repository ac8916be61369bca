//! Samples one row by the chain of `aio_ir::sampling`, skipping most of its tokens.
//!
//! Every filter keeps the highest-ranked tokens. So it suffices to find a floor below all tokens that pass, list the few
//! tokens above it, and filter the list. For top-k the floor is the k-th largest block of the survey; for top-p it is found
//! by bisection, with integer weights, whose sums are the same in any order. A bad floor makes the list longer but never
//! changes the token. Used by `Sample`; the tests compare with the oracle's code.

use crate::kernels::Kernels;
use crate::kernels::choose::{BLOCK_TOKENS, NoisyArgs, Surveyed};
use aio_ir::sampling::{Candidate, NO_TOKEN, SampleParams, SampleRow, is_broken, reaches, weight};

/// Distance from the largest logit beyond which weights are zero: `e^-21 * 2^30` is below 1.
const REACH: f32 = 21.0;
/// Resolution of top-p's floor, in parts of that distance; a power of two.
const STEPS: u32 = 64;

/// Whether logits differ from the model's.
pub(super) fn is_adjusted(row: &SampleRow<'_>) -> bool {
    row.bias.is_some() || row.params.penalizes()
}

/// Whether the token is the arg-max of all logits with their noise.
pub(super) fn is_unfiltered(p: &SampleParams, vocabulary: usize) -> bool {
    let (greedy, filtered) = (p.temperature <= 0.0, p.top_p < 1.0 || p.min_p > 0.0);
    !greedy && !filtered && !is_top_k(p, vocabulary)
}

fn is_top_k(p: &SampleParams, vocabulary: usize) -> bool {
    p.top_k > 0 && (p.top_k as usize) < vocabulary
}

/// A thread's working memory for one row.
pub(super) struct Work<'a> {
    /// The row after bias and penalties.
    adjusted: &'a mut [f32],
    /// The survey of that, then a copy to select from.
    maxima: &'a mut [f32],
    ranks: &'a mut [f32],
    /// Tokens that may pass the filters.
    list: &'a mut [Candidate],
}

impl<'a> Work<'a> {
    /// Bytes needed for a vocabulary.
    pub(super) fn bytes(vocabulary: usize) -> usize {
        let blocks = vocabulary.div_ceil(BLOCK_TOKENS);
        (vocabulary + 2 * blocks) * size_of::<f32>() + vocabulary * size_of::<Candidate>()
    }

    /// The memory from `start`.
    ///
    /// # Safety
    /// There are `bytes(vocabulary)` initialised bytes, aligned to 4, which nothing else uses while the value lives.
    pub(super) unsafe fn at(start: *mut u8, vocabulary: usize) -> Work<'a> {
        let blocks = vocabulary.div_ceil(BLOCK_TOKENS);
        let floats: *mut f32 = start.cast();
        // SAFETY: the four parts are adjacent in the memory guaranteed by the caller; any bits are valid floats and words.
        unsafe {
            let part = |at: usize, len: usize| std::slice::from_raw_parts_mut(floats.add(at), len);
            Work {
                adjusted: part(0, vocabulary),
                maxima: part(vocabulary, blocks),
                ranks: part(vocabulary + blocks, blocks),
                list: std::slice::from_raw_parts_mut(floats.add(vocabulary + 2 * blocks).cast(), vocabulary),
            }
        }
    }
}

/// The chain on one row.
pub(super) struct Chain<'a> {
    pub kernels: &'a Kernels,
    pub row: &'a SampleRow<'a>,
}

impl Chain<'_> {
    /// The token of a row changed by bias or penalties.
    pub(super) fn adjusted(&self, logits: &[f32], mut work: Work<'_>) -> u32 {
        self.adjust(logits, &mut work);
        let Work { adjusted, maxima, ranks, list } = work;
        self.kernels.survey(adjusted, maxima);
        let row = Surveyed { x: adjusted, maxima };
        self.surveyed(row, Work { adjusted: &mut [], maxima: &mut [], ranks, list })
    }

    /// Applies the bias, then penalises each distinct recent token once.
    fn adjust(&self, logits: &[f32], work: &mut Work<'_>) {
        let SampleRow { params, recent, bias, .. } = *self.row;
        let x = &mut *work.adjusted;
        match bias {
            Some(bias) => x.iter_mut().zip(logits).zip(bias).for_each(|((x, l), b)| *x = l + b),
            None => x.copy_from_slice(logits),
        }
        let recent = if params.penalizes() { recent } else { &[] };
        let tokens = || recent.iter().filter_map(|&t| usize::try_from(t).ok()).filter(|t| *t < logits.len());
        // The list is not in use yet: its words serve as counters of the recent tokens.
        let counts = &mut *work.list;
        tokens().for_each(|t| counts[t].token = 0);
        tokens().for_each(|t| counts[t].token += 1);
        for token in tokens() {
            let count = std::mem::take(&mut counts[token].token);
            if count > 0 {
                x[token] = params.penalized(x[token], count as usize);
            }
        }
    }

    /// The token of a row after bias and penalties.
    pub(super) fn surveyed(&self, row: Surveyed<'_>, work: Work<'_>) -> u32 {
        let SampleRow { params, noise, .. } = *self.row;
        let temperature = params.temperature;
        let top = row.top();
        if is_broken(top) {
            return NO_TOKEN;
        }
        if temperature <= 0.0 {
            return row.argmax();
        }
        if is_unfiltered(&params, row.x.len()) {
            return self.kernels.noisy_best(NoisyArgs { part: row, first: 0, temperature, noise }).index;
        }
        let Work { ranks, list, .. } = work;
        let (floor, total) = self.floor(row, top, ranks);
        let count = self.kernels.gather(row, floor, list);
        let list = &mut list[..count];
        let kept = filter(list, &params, top, total);
        self.kernels.noisy_list(&list[..kept], temperature, noise).index
    }

    /// A floor below every token that passes the filters, and the sum of the weights of all tokens if the list does not
    /// determine it.
    fn floor(&self, row: Surveyed<'_>, top: f32, ranks: &mut [f32]) -> (f32, Option<u64>) {
        let p = &self.row.params;
        let (top_k, top_p) = (is_top_k(p, row.x.len()), p.top_p < 1.0);
        let total = (!top_k && top_p).then(|| self.kernels.mass(row, top, f32::NEG_INFINITY));
        let by_mass = total.map_or(f32::NEG_INFINITY, |total| self.nucleus_floor(row, top, total));
        let by_count = if top_k { kth(row.maxima, p.top_k as usize, ranks) } else { f32::NEG_INFINITY };
        // Top-p is a fraction of the weights of the first k tokens, so none of them may be missing.
        let by_chance = if top_k && top_p { f32::NEG_INFINITY } else { p.min_p_floor(top) };
        (by_mass.max(by_count).max(by_chance), total)
    }

    /// A floor above which the weights reach top-p, close to the highest one.
    fn nucleus_floor(&self, row: Surveyed<'_>, top: f32, total: u64) -> f32 {
        let floor = |steps: u32| top - REACH * (steps as f32 / STEPS as f32);
        // All tokens with a nonzero weight lie above the last floor, so the weights always reach it.
        let (mut short, mut enough) = (0, STEPS);
        while short + 1 < enough {
            let middle = (short + enough) / 2;
            let mass = self.kernels.mass(row, top, floor(middle));
            *(if reaches(mass, self.row.params.top_p, total) { &mut enough } else { &mut short }) = middle;
        }
        floor(enough)
    }
}

/// The `k`-th largest of a survey: at least `k` tokens are as large. Negative infinity if there are fewer than `k` blocks.
fn kth(maxima: &[f32], k: usize, ranks: &mut [f32]) -> f32 {
    if k > maxima.len() {
        return f32::NEG_INFINITY;
    }
    ranks.copy_from_slice(maxima);
    // No NaN: such a row has no token.
    *ranks.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a)).1
}

/// Moves the tokens that pass every filter to the front and returns their number. The list holds the highest-ranked tokens,
/// at least all that pass every filter; `total` is the sum returned by `floor`.
fn filter(list: &mut [Candidate], p: &SampleParams, top: f32, total: Option<u64>) -> usize {
    let mut kept = list.len();
    if p.top_k > 0 && (p.top_k as usize) < kept {
        kept = p.top_k as usize;
        list.select_nth_unstable_by(kept - 1, Candidate::by_rank);
    }
    if p.top_p < 1.0 {
        let list = &mut list[..kept];
        let total = total.unwrap_or_else(|| mass(list, top));
        kept = nucleus(list, p.top_p, top, total);
    }
    let floor = p.min_p_floor(top);
    let mut passing = 0;
    for i in 0..kept {
        if list[i].logit >= floor {
            list.swap(passing, i);
            passing += 1;
        }
    }
    passing
}

fn mass(list: &[Candidate], top: f32) -> u64 {
    list.iter().map(|c| u64::from(weight(c.logit, top))).sum()
}

/// Moves the smallest set of highest-ranked tokens whose weights reach `p` to the front and returns its size. Uses repeated
/// selection of the median, which is faster than sorting.
fn nucleus(list: &mut [Candidate], p: f32, top: f32, total: u64) -> usize {
    let (mut short, mut enough, mut sum) = (0, list.len(), 0);
    while short + 1 < enough {
        let middle = (short + enough) / 2;
        list[short..enough].select_nth_unstable_by(middle - short, Candidate::by_rank);
        let more = mass(&list[short..middle], top);
        if reaches(sum + more, p, total) {
            enough = middle;
        } else {
            (short, sum) = (middle, sum + more);
        }
    }
    enough
}
