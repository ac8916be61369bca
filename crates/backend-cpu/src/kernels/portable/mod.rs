//! Tiles in plain Rust, for targets without special kernels and as the others' reference.
//!
//! A block is decoded to bytes once and multiplied with every row of the tile; the compiler is
//! left to vectorise. Called through the table of `super::tile`.

use super::tile::{TileArgs, TileFn, TileTable};
use crate::activation::ActBlock;
use crate::format::{Format, FormatVisitor, GROUP_ROWS, Scales, with_format};
use crate::pack::{Decoded, read_codes};
use aio_ir::DType;
use half::{bf16, f16};

/// The tiles of a weight type; `None` if it holds no real numbers.
pub(super) fn tiles(dtype: DType) -> Option<TileTable> {
    let plain: [TileFn; 2] = match dtype {
        DType::F32 => [plain_tile::<f32, 1>, plain_tile::<f32, 2>],
        DType::F16 => [plain_tile::<f16, 1>, plain_tile::<f16, 2>],
        DType::BF16 => [plain_tile::<bf16, 1>, plain_tile::<bf16, 2>],
        _ => return with_format(dtype, Tiles),
    };
    Some(TileTable::new(&plain, None))
}

struct Tiles;

impl FormatVisitor for Tiles {
    type Out = TileTable;
    fn visit<F: Format>(self) -> TileTable {
        TileTable::new(&[tile::<F, 1>, tile::<F, 2>, tile::<F, 3>, tile::<F, 4>], Some(tile::<F, 16>))
    }
}

/// `a * b + c` rounded as the other levels' fused instruction rounds: the product is exact in f64. Sums that fall between
/// two f32 after rounding to f64 may differ, one in hundreds of millions.
#[inline(always)]
pub(crate) fn fused(a: f32, b: f32, c: f32) -> f32 {
    (f64::from(a) * f64::from(b) + f64::from(c)) as f32
}

/// Scales of a block: for its first and its second 16 columns, and minimums likewise.
pub(crate) struct BlockScales {
    pub(crate) d: [[f32; GROUP_ROWS]; 2],
    pub(crate) m: [[f32; GROUP_ROWS]; 2],
}

fn half_at(head: &[u8], index: usize) -> f32 {
    f16::from_le_bytes([head[2 * index], head[2 * index + 1]]).to_f32()
}

/// Reads the scales of block `block` of a unit.
pub(crate) fn block_scales<F: Format>(head: &[u8], block: usize) -> BlockScales {
    let rows = |f: &dyn Fn(usize) -> f32| std::array::from_fn(f);
    let d = |r: usize| half_at(head, r);
    let dmin = |r: usize| half_at(head, 16 + r);
    let byte = |at: usize, j: usize, r: usize| head[at + 16 * j + r];
    let zero = [0.0; GROUP_ROWS];
    match F::SCALES {
        Scales::D => BlockScales { d: [rows(&d); 2], m: [zero; 2] },
        Scales::DMin => BlockScales { d: [rows(&d); 2], m: [rows(&dmin); 2] },
        Scales::Super32 => BlockScales {
            d: [rows(&|r| d(r) * f32::from(byte(64, block, r))); 2],
            m: [rows(&|r| -dmin(r) * f32::from(byte(192, block, r))); 2],
        },
        Scales::Super16 => {
            let run = |j: usize| rows(&|r| d(r) * f32::from(byte(32, 2 * block + j, r) as i8));
            BlockScales { d: [run(0), run(1)], m: [zero; 2] }
        }
        Scales::Super16Min => {
            let run = |j: usize| rows(&|r| d(r) * f32::from(byte(64, 2 * block + j, r) & 15));
            let min = |j: usize| rows(&|r| -dmin(r) * f32::from(byte(64, 2 * block + j, r) >> 4));
            BlockScales { d: [run(0), run(1)], m: [min(0), min(1)] }
        }
    }
}

/// Dot products of 16 rows' codes in vectors `from..to` with the activations, plus `start`.
fn dots(codes: &Decoded, q: &[i8; 32], span: std::ops::Range<usize>, start: i32) -> [i32; GROUP_ROWS] {
    let mut sums = [start; GROUP_ROWS];
    for g in span {
        let x: [i32; 4] = std::array::from_fn(|j| i32::from(q[4 * g + j]));
        for (sum, w) in sums.iter_mut().zip(codes[g].chunks_exact(4)) {
            *sum += (0..4).map(|j| i32::from(w[j]) * x[j]).sum::<i32>();
        }
    }
    sums
}

/// Adds a block's products to the sums of one activation row.
fn add_block<F: Format>(sums: &mut [f32; GROUP_ROWS], codes: &Decoded, scales: &BlockScales, x: &ActBlock) {
    let offset = |neg_sum: i32| if F::SHIFT == 0 { 0 } else { neg_sum << F::SHIFT };
    if !F::SCALES.per_16() {
        let dots = dots(codes, &x.q, 0..8, offset(x.neg_sum()));
        for (r, sum) in sums.iter_mut().enumerate() {
            *sum = fused(dots[r] as f32 * scales.d[0][r], x.d, *sum);
            if F::SCALES.has_min() {
                *sum = fused(scales.m[0][r], x.s, *sum);
            }
        }
        return;
    }
    for half in 0..2 {
        let neg_sum = x.neg_sum_of(half);
        let dots = dots(codes, &x.q, 4 * half..4 * half + 4, offset(neg_sum));
        for (r, sum) in sums.iter_mut().enumerate() {
            let mut t = dots[r] as f32 * scales.d[half][r];
            if F::SCALES.has_min() {
                t = fused(-scales.m[half][r], neg_sum as f32, t);
            }
            *sum = fused(t, x.d, *sum);
        }
    }
}

/// Block formats: `M` activation rows by 16 output rows.
///
/// # Safety
/// See `TileFn`.
unsafe fn tile<F: Format, const M: usize>(args: &TileArgs) {
    let mut sums = [[0f32; GROUP_ROWS]; M];
    let blocks = F::SCALES.blocks();
    let (head_len, block_len) = (F::SCALES.bytes(), F::CODES.bytes());
    // SAFETY: the caller passes a whole group of `steps` units.
    let weights = unsafe { std::slice::from_raw_parts(args.weights, args.steps * F::UNIT_BYTES) };
    for (u, unit) in weights.chunks_exact(F::UNIT_BYTES).enumerate() {
        let (head, body) = unit.split_at(head_len);
        for (b, block) in body.chunks_exact(block_len).enumerate() {
            let codes = read_codes(F::CODES, block);
            let scales = block_scales::<F>(head, b);
            for (m, sums) in sums.iter_mut().enumerate() {
                let at = (u * blocks + b) * args.stride + m;
                // SAFETY: the tile has `M` rows of this many blocks.
                let x = unsafe { &*args.acts.cast::<ActBlock>().add(at) };
                add_block::<F>(sums, &codes, &scales, x);
            }
        }
    }
    // SAFETY: the caller passes room for `M` rows.
    unsafe { args.out.cast::<[[f32; GROUP_ROWS]; M]>().write(sums) };
}

trait Plain: Copy + 'static {
    fn to_f32(self) -> f32;
}
impl Plain for f32 {
    fn to_f32(self) -> f32 {
        self
    }
}
impl Plain for f16 {
    fn to_f32(self) -> f32 {
        f16::to_f32(self)
    }
}
impl Plain for bf16 {
    fn to_f32(self) -> f32 {
        bf16::to_f32(self)
    }
}

/// Plain types: `M` activation rows by 16 output rows, even and odd columns summed apart.
///
/// # Safety
/// See `TileFn`.
unsafe fn plain_tile<T: Plain, const M: usize>(args: &TileArgs) {
    let mut sums = [[[0f32; GROUP_ROWS]; 2]; M];
    for k in 0..args.steps {
        // SAFETY: a packed group has 16 elements a column; packed buffers are aligned to 64 bytes.
        let column = unsafe { &*args.weights.cast::<[T; GROUP_ROWS]>().add(k) }.map(T::to_f32);
        for (m, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the tile has `M` rows, `stride` floats apart.
            let x = unsafe { *args.acts.cast::<f32>().add(m * args.stride + k) };
            for (sum, w) in sums[k % 2].iter_mut().zip(column) {
                *sum = fused(w, x, *sum);
            }
        }
    }
    for (m, [even, odd]) in sums.iter().enumerate() {
        // SAFETY: the caller passes room for `M` rows.
        unsafe { *args.out.add(m) = std::array::from_fn(|r| even[r] + odd[r]) };
    }
}
