//! Gumbel noise for 64 tokens at a time, and the arg-max of a row with it.
//!
//! The formulas are those of `aio_ir::sampling`, operation by operation, without contraction, so the bits are equal. Most
//! blocks need random words but no logarithms: noise grows with its word, so the largest word bounds a block's noise.

use super::{BLOCK_TOKENS, NoisyArgs};
use crate::kernels::lanes::{LANES, Words, to_array};
use crate::kernels::rows::Best;
use aio_ir::sampling::{Candidate, MAX_GUMBEL, gumbel_bound, is_broken};

/// Words that a counter gives.
const WORDS: usize = 4;
const _: () = assert!(LANES * WORDS == BLOCK_TOKENS, "a vector of counters is the noise of a block");

/// The largest of logits over temperature plus noise, the lowest token among equals; [`Best::BROKEN`] if a logit is NaN or
/// positive infinity.
///
/// # Safety
/// The machine has the level.
#[inline(always)]
pub(in crate::kernels) unsafe fn noisy_best<L: Words>(args: NoisyArgs<'_>) -> Best {
    let NoisyArgs { part, temperature, .. } = args;
    let top = part.top();
    if is_broken(top) {
        return Best::BROKEN;
    }
    // First the block of the largest logit, which beats most others.
    let Some(start) = part.blocks(top).next() else { return Best::NONE };
    // SAFETY: the level is guaranteed by the caller.
    let mut best = unsafe { block_best::<L>(&args, start, Best::NONE) };
    for (block, most) in part.maxima.iter().enumerate() {
        // Division and sum round monotonically, so no token of the block exceeds this. A NaN skips nothing.
        let beaten = most / temperature + MAX_GUMBEL < best.value;
        if block != start && !beaten {
            // SAFETY: the level is guaranteed by the caller.
            best = unsafe { block_best::<L>(&args, block, best) };
        }
    }
    best
}

/// The better of `best` and the tokens of a block.
///
/// # Safety
/// The machine has the level.
#[inline(always)]
unsafe fn block_best<L: Words>(args: &NoisyArgs<'_>, block: usize, best: Best) -> Best {
    let NoisyArgs { part, first, temperature, noise } = *args;
    let first = first + (block * BLOCK_TOKENS) as u32;
    // SAFETY: the level is guaranteed by the caller; the array has 16 words.
    let words = unsafe {
        let counters = L::add_words(L::load_words(LANE.as_ptr()), L::splat_words(first / WORDS as u32));
        words::<L>(counters, noise)
    };
    // SAFETY: the level is guaranteed by the caller.
    let most = unsafe { largest::<L>(words) };
    // Rounding is monotonic here too.
    if part.maxima[block] / temperature + gumbel_bound(most) < best.value {
        return best;
    }
    // SAFETY: the level is guaranteed by the caller.
    let noise = words.map(|w| unsafe { to_array::<L>(gumbel::<L>(w)) });
    let mut best = best;
    for (i, x) in part.block(block).iter().enumerate() {
        let value = number(x / temperature + noise[i % WORDS][i / WORDS]);
        best = best.or(Best { value, index: first + i as u32 });
    }
    best
}

/// The best token after noise of a list, in any order. No logit may be NaN.
///
/// # Safety
/// The machine has the level.
#[inline(always)]
pub(in crate::kernels) unsafe fn noisy_list<L: Words>(list: &[Candidate], temperature: f32, noise: [u32; 4]) -> Best {
    let mut best = Best::NONE;
    for list in list.chunks(LANES) {
        let mut counters = [0; LANES];
        counters.iter_mut().zip(list).for_each(|(counter, c)| *counter = c.token / WORDS as u32);
        let mut all = [[0; LANES]; WORDS];
        let mut own = [0; LANES];
        // SAFETY: the level is guaranteed by the caller; the arrays have 16 words each.
        let noise = unsafe {
            let words = words::<L>(L::load_words(counters.as_ptr()), noise);
            words.iter().zip(&mut all).for_each(|(words, all)| L::store_words(all.as_mut_ptr(), *words));
            for (lane, c) in list.iter().enumerate() {
                own[lane] = all[c.token as usize % WORDS][lane];
            }
            to_array::<L>(gumbel::<L>(L::load_words(own.as_ptr())))
        };
        for (c, noise) in list.iter().zip(noise) {
            best = best.or(Best { value: number(c.logit / temperature + noise), index: c.token });
        }
    }
    best
}

/// A NaN temperature gives NaN, which counts as negative infinity.
fn number(x: f32) -> f32 {
    if x.is_nan() { f32::NEG_INFINITY } else { x }
}

/// The lane indices.
const LANE: [u32; LANES] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/// The largest of all words.
///
/// # Safety
/// The machine has the level.
#[inline(always)]
unsafe fn largest<L: Words>(words: [L::U; WORDS]) -> u32 {
    let mut all = [0; LANES];
    // SAFETY: the level is guaranteed by the caller; the array has 16 words.
    unsafe {
        let most = L::max_words(L::max_words(words[0], words[1]), L::max_words(words[2], words[3]));
        L::store_words(all.as_mut_ptr(), most);
    }
    all.into_iter().fold(0, u32::max)
}

/// The four random words of each counter.
///
/// 64-bit products use only the even lanes, so the odd counters are processed in even lanes of separate vectors. Leftovers
/// in odd lanes are never read.
///
/// # Safety
/// The machine has the level.
#[inline(always)]
unsafe fn words<L: Words>(counters: L::U, noise: [u32; 4]) -> [L::U; WORDS] {
    let [mut key0, mut key1, choice, position] = noise;
    // SAFETY: the level is guaranteed by the caller; no memory is touched.
    unsafe {
        let (m0, m1) = (L::splat_words(0xD251_1F53), L::splat_words(0xCD9E_8D57));
        let start = |counters| [counters, L::splat_words(position), L::splat_words(choice), L::splat_words(0)];
        let (mut even, mut odd) = (start(counters), start(L::odd_to_even(counters)));
        for _ in 0..10 {
            let keys = [L::splat_words(key0), L::splat_words(key1)];
            let round = |c: [L::U; WORDS]| {
                let (a, b) = (L::mul_even(c[0], m0), L::mul_even(c[2], m1));
                let (high_a, high_b) = (L::odd_to_even(a), L::odd_to_even(b));
                [
                    L::xor_words(L::xor_words(high_b, c[1]), keys[0]),
                    b,
                    L::xor_words(L::xor_words(high_a, c[3]), keys[1]),
                    a,
                ]
            };
            (even, odd) = (round(even), round(odd));
            (key0, key1) = (key0.wrapping_add(0x9E37_79B9), key1.wrapping_add(0xBB67_AE85));
        }
        std::array::from_fn(|i| L::interleave(even[i], odd[i]))
    }
}

/// `aio_ir::sampling::gumbel_of` of sixteen words.
///
/// # Safety
/// The machine has the level.
#[inline(always)]
pub(super) unsafe fn gumbel<L: Words>(words: L::U) -> L::V {
    // SAFETY: the level is guaranteed by the caller; no memory is touched.
    unsafe {
        let bits = L::to_floats(L::shift_right::<9>(words));
        let u = L::mul(L::add(bits, L::splat(0.5)), L::splat(1.0 / 8_388_608.0));
        let minus = L::splat(-0.0);
        L::sub(minus, ln::<L>(L::sub(minus, ln::<L>(u))))
    }
}

/// `aio_ir::sampling::ln` of sixteen positive normal numbers.
///
/// # Safety
/// The machine has the level.
#[inline(always)]
unsafe fn ln<L: Words>(x: L::V) -> L::V {
    /// The mantissa of sqrt(2), rounded as the constant is.
    const SQRT_2: u32 = std::f32::consts::SQRT_2.to_bits() & 0x007F_FFFF;
    // SAFETY: the level is guaranteed by the caller; no memory is touched.
    unsafe {
        let bits = L::bits(x);
        let mantissa = L::and_words(bits, L::splat_words(0x007F_FFFF));
        // 1 where the mantissa is larger: halving is one less in the exponent.
        let over = L::shift_right::<31>(L::sub_words(L::splat_words(SQRT_2), mantissa));
        let exponent = L::sub_words(L::add_words(L::shift_right::<23>(bits), over), L::splat_words(127));
        let one = L::sub_words(L::splat_words(0x3F80_0000), L::shift_left::<23>(over));
        let m = L::from_bits(L::add_words(mantissa, one));
        let t = L::div(L::sub(m, L::splat(1.0)), L::add(m, L::splat(1.0)));
        let s = L::mul(t, t);
        let mut series = L::splat(1.0 / 9.0);
        for c in [1.0 / 7.0, 1.0 / 5.0, 1.0 / 3.0, 1.0] {
            series = L::add(L::splat(c), L::mul(s, series));
        }
        let whole = L::mul(L::to_floats(exponent), L::splat(std::f32::consts::LN_2));
        L::add(L::mul(L::mul(L::splat(2.0), t), series), whole)
    }
}
