//! Tiles of block-format weights: one or two groups of 16 output rows by a few activation rows, all sums in registers.
//!
//! One row goes group by group, as a plain stream. More rows take two groups at a time, so that an activation loaded once
//! serves both: loads are as scarce as multiply-adds. 32 registers hold six rows by two groups: twelve integer sums of the
//! current block and twelve sums over all blocks; more rows pass over the groups again.
//!
//! Products are exact in 32-bit integers over a block; blocks are added in f32, in order, so a row's result is the same in
//! every tile. Called by the matrix driver.

#![expect(clippy::needless_range_loop, reason = "sums stay in registers only if loops over them have constant indices")]

use super::codes::{BlockScales, codes, scales};
use super::plain::plain_tiles;
use crate::activation::{ActBlock, FLOAT_BITS};
use crate::format::{Format, FormatVisitor, with_format};
use crate::kernels::tile::{PairArgs, PairFn, TileArgs, TileFn, TileTable};
use aio_ir::DType;
use std::arch::x86_64::*;

/// Prefetch distance of weights in bytes, for one group at a time.
const PREFETCH_BYTES: usize = 3072;

/// The tiles of a weight type; `None` if it holds no real numbers.
pub(in crate::kernels) fn tiles(dtype: DType) -> Option<TileTable> {
    plain_tiles(dtype).or_else(|| with_format(dtype, Tiles))
}

struct Tiles;

impl FormatVisitor for Tiles {
    type Out = TileTable;
    fn visit<F: Format>(self) -> TileTable {
        let tiles: [TileFn; 6] = [tile::<F, 1>, tile::<F, 2>, tile::<F, 3>, tile::<F, 4>, tile::<F, 5>, tile::<F, 6>];
        let pairs: [PairFn; 6] = [pair::<F, 1>, pair::<F, 2>, pair::<F, 3>, pair::<F, 4>, pair::<F, 5>, pair::<F, 6>];
        TileTable::new(&tiles, None).with_pairs(&pairs)
    }
}

/// Inputs of a tile.
struct TileReads {
    weights: *const u8,
    /// Bytes between consecutive groups.
    group_bytes: usize,
    x: *const ActBlock,
    /// Blocks between consecutive column positions.
    stride: usize,
    /// Units of a group.
    steps: usize,
}

/// A block of `G` groups.
struct Block<const G: usize> {
    /// Heads of the units that contain it, and its index in them.
    heads: [*const u8; G],
    index: usize,
    codes: [*const u8; G],
}

/// Adds the products of vector `g` to the integer sums.
///
/// # Safety
/// The block is readable, `x` points to `M` blocks.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn dot<F: Format, const G: usize, const M: usize>(
    sums: &mut [[__m512i; G]; M],
    codes_at: &[*const u8; G],
    x: *const ActBlock,
    g: usize,
) {
    let mut w = [_mm512_setzero_si512(); G];
    for i in 0..G {
        // SAFETY: guaranteed by the caller.
        w[i] = unsafe { codes::<F>(codes_at[i], g) };
    }
    for m in 0..M {
        // SAFETY: there are `M` blocks of eight groups of four codes.
        let x = _mm512_set1_epi32(unsafe { (&raw const (*x.add(m)).q).cast::<i32>().add(g).read() });
        for i in 0..G {
            sums[m][i] = _mm512_dpbusd_epi32(sums[m][i], w[i], x);
        }
    }
}

/// Adds vectors of a block that share scale `part`. The integer sums start from the bits of a large float, so they are valid
/// floats; see `FLOAT_BITS`.
///
/// # Safety
/// The block is readable, `x` points to `M` blocks.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn add_part<F: Format, const G: usize, const M: usize>(
    sums: &mut [[__m512; G]; M],
    block: &Block<G>,
    x: *const ActBlock,
    part: usize,
) {
    // SAFETY: there are `M` blocks.
    let x_at = |m: usize| unsafe { &*x.add(m) };
    let mut dots = [[_mm512_set1_epi32(FLOAT_BITS); G]; M];
    if F::SHIFT > 0 {
        for m in 0..M {
            let start = if F::SCALES.per_16() { x_at(m).start_of(part) } else { x_at(m).start };
            dots[m] = [_mm512_set1_epi32(start); G];
        }
    }
    for h in 0..4 {
        // SAFETY: guaranteed by the caller.
        unsafe {
            dot::<F, G, M>(&mut dots, &block.codes, x, 4 * part + h);
            if !F::SCALES.per_16() {
                dot::<F, G, M>(&mut dots, &block.codes, x, h + 4);
            }
        }
    }
    for i in 0..G {
        // Loaded only when needed: the sums occupy most registers.
        // SAFETY: guaranteed by the caller.
        let scales = unsafe { scales::<F>(block.heads[i], block.index) };
        let (correction, BlockScales { d, m: min }) = (scales.correction(part), scales);
        for m in 0..M {
            let mut t = _mm512_fmadd_ps(_mm512_castsi512_ps(dots[m][i]), d[part], correction);
            if F::SCALES.per_16() && F::SCALES.has_min() {
                let neg_sum = _mm512_set1_ps(x_at(m).neg_sum_of(part) as f32);
                t = _mm512_fnmadd_ps(min[part], neg_sum, t);
            }
            sums[m][i] = _mm512_fmadd_ps(t, _mm512_set1_ps(x_at(m).d), sums[m][i]);
            if !F::SCALES.per_16() && F::SCALES.has_min() {
                sums[m][i] = _mm512_fmadd_ps(min[part], _mm512_set1_ps(x_at(m).s), sums[m][i]);
            }
        }
    }
}

/// The products of `M` activation rows and `G` groups over all columns. `fetch` prefetches later data; it is called with the
/// address of each block of the first group.
///
/// # Safety
/// `G` whole groups of `steps` units are readable, and as many blocks of `M` rows.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn products<F: Format, const G: usize, const M: usize>(
    args: &TileReads,
    mut fetch: impl FnMut(*const u8),
) -> [[__m512; G]; M] {
    let mut sums = [[_mm512_setzero_ps(); G]; M];
    let (mut unit, mut x) = (args.weights, args.x);
    for _ in 0..args.steps {
        for b in 0..F::SCALES.blocks() {
            let units: [_; G] = std::array::from_fn(|i| unit.wrapping_add(i * args.group_bytes));
            let at = units.map(|u| u.wrapping_add(F::SCALES.bytes() + b * F::CODES.bytes()));
            fetch(at[0]);
            let block = Block { heads: units, index: b, codes: at };
            // SAFETY: units have a head and this many blocks, and so have the rows.
            unsafe {
                add_part::<F, G, M>(&mut sums, &block, x, 0);
                if F::SCALES.per_16() {
                    add_part::<F, G, M>(&mut sums, &block, x, 1);
                }
            }
            x = x.wrapping_add(args.stride);
        }
        unit = unit.wrapping_add(F::UNIT_BYTES);
    }
    sums
}

/// Cache lines of a block.
const fn block_lines<F: Format>() -> usize {
    (F::UNIT_BYTES / F::SCALES.blocks()).div_ceil(64)
}

/// `M` activation rows by one group.
///
/// # Safety
/// See `TileFn`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn tile<F: Format, const M: usize>(args: &TileArgs) {
    let TileArgs { weights, acts, stride, steps, out } = *args;
    let fetch = |at: *const u8| {
        for line in 0..block_lines::<F>() {
            _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(PREFETCH_BYTES + 64 * line).cast());
        }
    };
    // SAFETY: guaranteed by the caller.
    unsafe {
        let operands = TileReads { weights, group_bytes: 0, x: acts.cast(), stride, steps };
        for (m, [sum]) in products::<F, 1, M>(&operands, fetch).into_iter().enumerate() {
            _mm512_storeu_ps(out.add(m).cast(), sum);
        }
    }
}

/// What a call of a pair function prefetches of the next pair: two byte ranges, and the lines of each per block. Spread
/// evenly over all calls, to keep memory busy, and in order, which suits it; into the second-level cache, since a whole pair
/// does not fit the first.
fn ahead<F: Format>(args: &PairArgs) -> ([*const u8; 2], usize) {
    let runs = 2 * args.parts;
    if runs == 0 {
        return ([args.weights; 2], 0);
    }
    let run = (2 * args.group_bytes).div_ceil(runs);
    let start = args.weights.wrapping_add(2 * args.group_bytes + 2 * args.part * run);
    let lines = run.div_ceil(64).div_ceil(args.steps * F::SCALES.blocks());
    ([start, start.wrapping_add(run)], lines)
}

/// `M` activation rows by two adjacent groups; prefetches its part of the next pair.
///
/// # Safety
/// See `PairFn`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn pair<F: Format, const M: usize>(args: &PairArgs) {
    let PairArgs { weights, group_bytes, acts, stride, steps, .. } = *args;
    let (mut streams, lines) = ahead::<F>(args);
    let fetch = |_| {
        for stream in &mut streams {
            for line in 0..block_lines::<F>() {
                if line >= lines {
                    break;
                }
                _mm_prefetch::<_MM_HINT_T1>(stream.wrapping_add(64 * line).cast());
            }
            *stream = stream.wrapping_add(64 * lines);
        }
    };
    // SAFETY: guaranteed by the caller.
    unsafe {
        let operands = TileReads { weights, group_bytes, x: acts.cast(), stride, steps };
        for (m, sums) in products::<F, 2, M>(&operands, fetch).into_iter().enumerate() {
            for (i, sum) in sums.into_iter().enumerate() {
                store(args, m, 16 * i, sum);
            }
        }
    }
}

/// Adds bias and residual to 16 sums of row `m` and stores them.
///
/// # Safety
/// As `pair`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn store(args: &PairArgs, m: usize, column: usize, mut sum: __m512) {
    let at = m * args.out_stride + column;
    // SAFETY: guaranteed by the caller.
    unsafe {
        if !args.bias.is_null() {
            sum = _mm512_add_ps(sum, _mm512_loadu_ps(args.bias.add(column)));
        }
        if !args.residual.is_null() {
            sum = _mm512_add_ps(sum, _mm512_loadu_ps(args.residual.add(at)));
        }
        _mm512_storeu_ps(args.out.add(at), sum);
    }
}
