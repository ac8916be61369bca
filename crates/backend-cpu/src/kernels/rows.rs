//! Kernels on single rows: norm, activation quantiser, gated activations, rotary embedding, arg-max.
//!
//! Written once over `Lanes`; the order of a sum depends only on the row's length. Called through `super::Kernels`, which
//! holds one compiled copy per instruction-set level.

use super::lanes::{LANES, Lanes, exp, to_array};
use crate::activation::{ActBlock, FLOAT_BITS, FLOAT_OFFSET, start_of};
use crate::format::BLOCK_COLS;
use aio_ir::sampling::{NO_TOKEN, is_broken};

/// `out[i] = x[i] / sqrt(mean(x^2) + eps) * weight[i]`, all of one length.
#[derive(Debug)]
pub struct NormArgs<'a> {
    /// The row.
    pub x: &'a [f32],
    /// One factor an element.
    pub weight: &'a [f32],
    /// Added to the mean square.
    pub eps: f32,
    /// The normed row.
    pub out: &'a mut [f32],
}

/// Quantises a row into its blocks of a panel.
#[derive(Debug)]
pub struct QuantizeArgs<'a> {
    /// The row, a whole number of blocks of 32.
    pub x: &'a [f32],
    /// The row's first block.
    pub out: *mut ActBlock,
    /// Blocks from one of the row's blocks to the next; see `activation::act_row`.
    pub stride: usize,
}

/// `out[i] = act(gate[i]) * up[i]`, all of one length.
#[derive(Debug)]
pub struct GateArgs<'a> {
    /// Input of the activation.
    pub gate: &'a [f32],
    /// The other factor.
    pub up: &'a [f32],
    /// The products.
    pub out: &'a mut [f32],
}

/// Which elements of a head the rotary embedding rotates together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RopeStyle {
    /// Elements `2i` and `2i + 1` (llama in GGUF files).
    Interleaved,
    /// Elements `i` and `i + n`, where `n` angles are given.
    Halves,
}

/// Rotates one head in place; elements past twice the number of angles are unchanged.
#[derive(Debug)]
pub struct RopeArgs<'a> {
    /// The head.
    pub head: &'a mut [f32],
    /// Cosines of the position's angles.
    pub cos: &'a [f32],
    /// Sines of the position's angles.
    pub sin: &'a [f32],
    /// How elements are paired.
    pub style: RopeStyle,
}

/// Computes the cosines and sines of `position * inv_freq[i]`, each times `magnitude` (1 except for YaRN). Runs once per
/// step and row, not per layer.
pub fn rope_angles(position: u32, inv_freq: &[f32], magnitude: f32, cos: &mut [f32], sin: &mut [f32]) {
    for (i, freq) in inv_freq.iter().enumerate() {
        let (s, c) = (position as f32 * freq).sin_cos();
        (cos[i], sin[i]) = (c * magnitude, s * magnitude);
    }
}

/// The largest element of a part of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Best {
    /// Its value; negative infinity if there is none, NaN if the row is broken.
    pub value: f32,
    /// Its index in the row, or [`NO_TOKEN`].
    pub index: u32,
}

impl Best {
    /// The result of an empty row; loses to every other.
    pub const NONE: Best = Best { value: f32::NEG_INFINITY, index: NO_TOKEN };
    /// The result of a part with a NaN or positive infinity; beats every other.
    pub const BROKEN: Best = Best { value: f32::NAN, index: NO_TOKEN };

    /// The better of two: a broken one first, then the larger value, then the lower index. The order of calls does not
    /// matter.
    pub fn or(self, other: Best) -> Best {
        if self.value.is_nan() {
            return self;
        }
        if other.value.is_nan() {
            return other;
        }
        let wins = other.value > self.value || (other.value == self.value && other.index < self.index);
        if wins { other } else { self }
    }
}

/// The vector of `x[at..]`, padded with `pad` beyond the end.
///
/// # Safety
/// The machine has the level.
#[inline(always)]
pub(super) unsafe fn load_padded<L: Lanes>(x: &[f32], at: usize, pad: f32) -> L::V {
    let rest = &x[at..];
    if rest.len() >= LANES {
        // SAFETY: there are 16 elements.
        return unsafe { L::load(rest.as_ptr()) };
    }
    let mut buffer = [pad; LANES];
    buffer[..rest.len()].copy_from_slice(rest);
    // SAFETY: the buffer has 16 elements.
    unsafe { L::load(buffer.as_ptr()) }
}

/// Stores the vector to `out[at..]`, up to the end of `out`.
///
/// # Safety
/// The machine has the level.
#[inline(always)]
unsafe fn store_cut<L: Lanes>(out: &mut [f32], at: usize, v: L::V) {
    let rest = &mut out[at..];
    if rest.len() >= LANES {
        // SAFETY: there is room for 16 elements.
        return unsafe { L::store(rest.as_mut_ptr(), v) };
    }
    // SAFETY: the level is guaranteed by the caller.
    let buffer = unsafe { to_array::<L>(v) };
    let len = rest.len();
    rest.copy_from_slice(&buffer[..len]);
}

/// # Safety
/// The machine has the level.
#[inline(always)]
pub(super) unsafe fn norm<L: Lanes>(args: NormArgs<'_>) {
    let NormArgs { x, weight, eps, out } = args;
    assert!(weight.len() == x.len() && out.len() == x.len(), "norm operands have one length");
    // SAFETY: the level is guaranteed by the caller; loads and stores stay inside the slices.
    unsafe {
        let mut sums = [L::splat(0.0); 4];
        let (fours, rest) = x.as_chunks::<{ 4 * LANES }>();
        for four in fours {
            for (i, sum) in sums.iter_mut().enumerate() {
                let v = L::load(four.as_ptr().add(i * LANES));
                *sum = L::add(*sum, L::mul(v, v));
            }
        }
        for (i, sum) in sums.iter_mut().enumerate().take(rest.len().div_ceil(LANES)) {
            let v = load_padded::<L>(rest, i * LANES, 0.0);
            *sum = L::add(*sum, L::mul(v, v));
        }
        let sum = L::add(L::add(sums[0], sums[1]), L::add(sums[2], sums[3]));
        let mean = L::sum(sum) / x.len() as f32;
        let scale = L::splat(1.0 / (mean + eps).sqrt());
        let whole = x.len() / LANES * LANES;
        for at in (0..whole).step_by(LANES) {
            let v = L::mul(L::load(x.as_ptr().add(at)), scale);
            L::store(out.as_mut_ptr().add(at), L::mul(v, L::load(weight.as_ptr().add(at))));
        }
        if whole < x.len() {
            let v = L::mul(load_padded::<L>(x, whole, 0.0), scale);
            store_cut::<L>(out, whole, L::mul(v, load_padded::<L>(weight, whole, 0.0)));
        }
    }
}

/// Quantises one block; equal to `aio_ir::quant::quantize_q8` for finite numbers. Writes each field directly: copying an
/// assembled block would stall, as it reads narrow stores back with wide loads.
///
/// # Safety
/// The machine has the level; the block at `out` is valid and nothing else uses it.
#[inline(always)]
unsafe fn quantize_block<L: Lanes>(x: &[f32; BLOCK_COLS], out: *mut ActBlock) {
    // SAFETY: the level is guaranteed by the caller; loads and stores stay inside the blocks.
    unsafe {
        let v = [L::load(x.as_ptr()), L::load(x.as_ptr().add(LANES))];
        let zero = L::splat(0.0);
        let abs = [L::max(v[0], L::sub(zero, v[0])), L::max(v[1], L::sub(zero, v[1]))];
        let mut d = L::largest(L::max(abs[0], abs[1])) / 127.0;
        // The maximum may lose a NaN; an infinity makes the block just as meaningless.
        if L::any_not_finite(v[0]) || L::any_not_finite(v[1]) {
            d = f32::NAN;
        }
        if d < f32::MIN_POSITIVE {
            out.write(ActBlock { q: [0; BLOCK_COLS], d: 0.0, s: 0.0, start: FLOAT_BITS, start_low: FLOAT_BITS });
            return;
        }
        let inv = L::splat(1.0 / d);
        // The sum's low bits are the rounded integer.
        let rounded = v.map(|v| L::add(L::mul(v, inv), L::splat(FLOAT_OFFSET)));
        let [low, high] = L::store_low_bytes((&raw mut (*out).q).cast(), rounded);
        (&raw mut (*out).d).write(d);
        (&raw mut (*out).s).write(d * (low + high) as f32);
        (&raw mut (*out).start).write(start_of(low + high));
        (&raw mut (*out).start_low).write(start_of(low));
    }
}

/// # Safety
/// The machine has the level; the row's blocks are valid and nothing else uses them.
#[inline(always)]
pub(super) unsafe fn quantize<L: Lanes>(args: QuantizeArgs<'_>) {
    let (blocks, rest) = args.x.as_chunks::<BLOCK_COLS>();
    assert!(rest.is_empty(), "a quantised row is whole blocks");
    for (b, x) in blocks.iter().enumerate() {
        // SAFETY: guaranteed by the caller.
        unsafe { quantize_block::<L>(x, args.out.add(b * args.stride)) };
    }
}

/// # Safety
/// The machine has the level.
#[inline(always)]
pub(super) unsafe fn silu_mul<L: Lanes>(args: GateArgs<'_>) {
    let GateArgs { gate, up, out } = args;
    assert!(up.len() == gate.len() && out.len() == gate.len(), "gate operands have one length");
    for at in (0..gate.len()).step_by(LANES) {
        // SAFETY: the level is guaranteed by the caller; loads and stores stay inside the slices.
        unsafe {
            let g = load_padded::<L>(gate, at, 0.0);
            let e = exp::<L>(L::sub(L::splat(0.0), g));
            let silu = L::div(g, L::add(L::splat(1.0), e));
            store_cut::<L>(out, at, L::mul(silu, load_padded::<L>(up, at, 0.0)));
        }
    }
}

/// `x / (1 + e^(-2u))` with `u = sqrt(2 / pi) (x + 0.044715 x^3)`: GELU in its tanh form, since
/// `(1 + tanh(u)) / 2 = 1 / (1 + e^(-2u))`.
///
/// # Safety
/// The machine has the level.
#[inline(always)]
pub(super) unsafe fn gelu_mul<L: Lanes>(args: GateArgs<'_>) {
    /// -2 sqrt(2 / pi).
    const SLOPE: f32 = -1.595_769_2;
    let GateArgs { gate, up, out } = args;
    assert!(up.len() == gate.len() && out.len() == gate.len(), "gate operands have one length");
    for at in (0..gate.len()).step_by(LANES) {
        // SAFETY: the level is guaranteed by the caller; loads and stores stay inside the slices.
        unsafe {
            let g = load_padded::<L>(gate, at, 0.0);
            let cube = L::mul(L::mul(g, g), L::mul(g, L::splat(0.044_715)));
            let e = exp::<L>(L::mul(L::add(g, cube), L::splat(SLOPE)));
            let gelu = L::div(g, L::add(L::splat(1.0), e));
            store_cut::<L>(out, at, L::mul(gelu, load_padded::<L>(up, at, 0.0)));
        }
    }
}

/// # Safety
/// The machine has the level.
#[inline(always)]
pub(super) unsafe fn rope<L: Lanes>(args: RopeArgs<'_>) {
    let RopeArgs { head, cos, sin, style } = args;
    let n = cos.len();
    let turn = |a: &mut f32, b: &mut f32, c: f32, s: f32| (*a, *b) = (*a * c - *b * s, *a * s + *b * c);
    match style {
        RopeStyle::Interleaved => {
            for ((pair, c), s) in head[..2 * n].as_chunks_mut::<2>().0.iter_mut().zip(cos).zip(sin) {
                let [a, b] = pair;
                turn(a, b, *c, *s);
            }
        }
        RopeStyle::Halves => {
            let (low, high) = head[..2 * n].split_at_mut(n);
            for (((a, b), c), s) in low.iter_mut().zip(high).zip(cos).zip(sin) {
                turn(a, b, *c, *s);
            }
        }
    }
}

/// The largest of `x`, the lowest index among equals; index 0 means `x[0]`. [`Best::BROKEN`] if `x` contains a NaN or
/// positive infinity.
///
/// The maximum ignores NaNs, so the elements are also summed: a lane with a NaN sums to NaN. Where a sum is NaN, which an
/// overflow meeting a negative infinity can cause too, the elements are checked one by one.
///
/// # Safety
/// The machine has the level.
#[inline(always)]
pub(super) unsafe fn argmax<L: Lanes>(x: &[f32]) -> Best {
    // SAFETY: the level is guaranteed by the caller; loads stay inside the slice.
    let (value, sum) = unsafe { largest_and_sum::<L>(x) };
    if value == f32::INFINITY || (sum.is_nan() && x.iter().copied().any(is_broken)) {
        return Best::BROKEN;
    }
    match x.iter().position(|v| *v == value) {
        Some(index) => Best { value, index: index as u32 },
        None => Best::NONE,
    }
}

/// The largest element, ignoring NaNs, and a sum that is NaN if any element is.
///
/// # Safety
/// The machine has the level.
#[inline(always)]
pub(super) unsafe fn largest_and_sum<L: Lanes>(x: &[f32]) -> (f32, f32) {
    // SAFETY: the level is guaranteed by the caller; loads stay inside the slice.
    unsafe {
        let (mut best, mut sum) = (L::splat(f32::NEG_INFINITY), L::splat(0.0));
        let whole = x.len() / LANES * LANES;
        for at in (0..whole).step_by(LANES) {
            let v = L::load(x.as_ptr().add(at));
            (best, sum) = (L::max(v, best), L::add(sum, v));
        }
        if whole < x.len() {
            best = L::max(load_padded::<L>(x, whole, f32::NEG_INFINITY), best);
            sum = L::add(sum, load_padded::<L>(x, whole, 0.0));
        }
        (L::largest(best), L::sum(sum))
    }
}
