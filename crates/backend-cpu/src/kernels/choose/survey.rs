//! The survey of a row, and the kernels that use it to skip blocks.

use super::{BLOCK_TOKENS, Surveyed};
use crate::kernels::lanes::{LANES, Words, exp, to_array};
use crate::kernels::rows::{largest_and_sum, load_padded};
use aio_ir::sampling::{Candidate, WEIGHT_ONE};

/// Fills `out` with the largest logit of each block of `x`, NaN where there is one.
///
/// # Safety
/// The machine has the level.
#[inline(always)]
pub(in crate::kernels) unsafe fn survey<L: Words>(x: &[f32], out: &mut [f32]) {
    assert!(out.len() == x.len().div_ceil(BLOCK_TOKENS), "a survey has an entry a block");
    for (block, out) in x.chunks(BLOCK_TOKENS).zip(out) {
        // SAFETY: the level is guaranteed by the caller; loads stay inside the block.
        let (most, sum) = unsafe { largest_and_sum::<L>(block) };
        *out = if sum.is_nan() && block.iter().any(|x| x.is_nan()) { f32::NAN } else { most };
    }
}

/// Writes the tokens with a logit of at least `floor` to `out`, in order of id. Returns their number. No logit may be NaN.
///
/// # Safety
/// The machine has the level.
///
/// # Panics
/// If `out` is too short.
#[inline(always)]
pub(in crate::kernels) unsafe fn gather<L: Words>(row: Surveyed<'_>, floor: f32, out: &mut [Candidate]) -> usize {
    let mut count = 0;
    for block in row.blocks(floor) {
        let x = row.block(block);
        for at in (0..x.len()).step_by(LANES) {
            // SAFETY: the level is guaranteed by the caller; loads stay inside the block.
            let (values, low) = unsafe {
                let v = load_padded::<L>(x, at, f32::NEG_INFINITY);
                (v, L::less(v, L::splat(floor)))
            };
            let inside = if x.len() - at >= LANES { u16::MAX } else { (1 << (x.len() - at)) - 1 };
            let mut found = !low & inside;
            if found == 0 {
                continue;
            }
            // SAFETY: the level is guaranteed by the caller.
            let values = unsafe { to_array::<L>(values) };
            while found != 0 {
                let lane = found.trailing_zeros() as usize;
                let token = (block * BLOCK_TOKENS + at + lane) as u32;
                out[count] = Candidate { logit: values[lane], token };
                count += 1;
                found &= found - 1;
            }
        }
    }
    count
}

/// The sum of the weights of all tokens with a logit of at least `floor`; `top` is the largest logit. None may be NaN.
///
/// # Safety
/// The machine has the level.
#[inline(always)]
pub(in crate::kernels) unsafe fn mass<L: Words>(row: Surveyed<'_>, top: f32, floor: f32) -> u64 {
    let mut sum = 0;
    for block in row.blocks(floor) {
        let x = row.block(block);
        for at in (0..x.len()).step_by(LANES) {
            let mut weights = [0u32; LANES];
            // SAFETY: the level is guaranteed by the caller; loads and the store stay inside block and array.
            unsafe {
                let v = load_padded::<L>(x, at, f32::NEG_INFINITY);
                L::store_words(weights.as_mut_ptr(), L::where_at_least(weigh::<L>(v, top), v, L::splat(floor)));
            }
            let inside = (x.len() - at).min(LANES);
            sum += weights[..inside].iter().map(|w| u64::from(*w)).sum::<u64>();
        }
    }
    sum
}

/// `aio_ir::sampling::weight` of sixteen logits.
///
/// # Safety
/// The machine has the level.
#[inline(always)]
unsafe fn weigh<L: Words>(v: L::V, top: f32) -> L::U {
    // SAFETY: the level is guaranteed by the caller; no memory is touched.
    unsafe {
        // The second operand where the first is NaN: equal infinities differ by 0.
        let behind = L::max(L::sub(L::splat(top), v), L::splat(0.0));
        let e = exp::<L>(L::sub(L::splat(0.0), behind));
        L::to_words(L::mul(e, L::splat(WEIGHT_ONE)))
    }
}
