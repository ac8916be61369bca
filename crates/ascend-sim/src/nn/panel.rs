//! Products of dense rows with a weight matrix of any layout: weights are unpacked to f32 panels of 16 columns, then
//! multiplied, so that every layout and type shares one kernel.
//!
//! Each output is one sum over `k` in an order that depends on `k` alone (see `mode` for the exception).

use super::mode::product_parts;
use super::parallel;
use crate::tensor::half::{bf16_to_f32, f16_to_f32};
use crate::tensor::memory::nibble;
use crate::tensor::view::{FRACTAL_NZ, View, nz_c0};

/// Columns of a panel.
pub const WIDTH: usize = 16;
/// Rows of a panel: 16 KiB of f32, so that it stays in the first-level cache.
const DEPTH: usize = 256;

/// One row of a panel.
pub type Row = [f32; WIDTH];

/// The part of an element's index that one coordinate gives.
#[derive(Clone, Copy, Debug)]
pub struct Steps {
    block: usize,
    outer: usize,
    inner: usize,
}

impl Steps {
    #[inline(always)]
    fn part(self, i: usize) -> usize {
        (i / self.block) * self.outer + (i % self.block) * self.inner
    }

    fn plain(stride: usize) -> Self {
        Self { block: 1 << 48, outer: 0, inner: stride }
    }
}

/// Where the elements of a (k, n) matrix lie.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    k: Steps,
    n: Steps,
}

impl Layout {
    /// The layout of a matrix view, ND or NZ, transposed or not; indices count from the first element of its span.
    pub fn of(view: &View) -> Self {
        if view.format != FRACTAL_NZ {
            return Self { k: Steps::plain(view.strides[0]), n: Steps::plain(view.strides[1]) };
        }
        let (rows, _, transposed) = view.nz_matrix();
        let c0 = nz_c0(view.dtype);
        let row = Steps::plain(c0);
        let col = Steps { block: c0, outer: rows.div_ceil(16) * 16 * c0, inner: 1 };
        if transposed { Self { k: col, n: row } } else { Self { k: row, n: col } }
    }

    /// A dense matrix with `n` columns.
    pub fn dense(n: usize) -> Self {
        Self { k: Steps::plain(n), n: Steps::plain(1) }
    }

    /// Index of an element.
    #[inline(always)]
    pub fn index(&self, k: usize, n: usize) -> usize {
        self.k.part(k) + self.n.part(n)
    }

    /// Whether the 16 columns of a panel are neighbours in memory.
    fn has_rows(&self) -> bool {
        self.n.inner == 1 && self.n.block.is_multiple_of(WIDTH)
    }
}

/// Elements of a weight matrix.
pub trait Elements: Sync {
    /// One element as f32.
    fn at(&self, i: usize) -> f32;

    /// 16 consecutive elements.
    #[inline(always)]
    fn row(&self, i: usize) -> Row {
        std::array::from_fn(|l| self.at(i + l))
    }
}

macro_rules! elements {
    ($($(#[$doc:meta])* $name:ident($t:ty) $convert:expr;)*) => {$(
        $(#[$doc])*
        pub struct $name<'a>(pub &'a [$t]);

        impl Elements for $name<'_> {
            #[inline(always)]
            fn at(&self, i: usize) -> f32 {
                $convert(self.0[i])
            }

            #[inline(always)]
            fn row(&self, i: usize) -> Row {
                let from = &self.0[i..i + WIDTH];
                std::array::from_fn(|l| $convert(from[l]))
            }
        }
    )*};
}

elements! {
    /// fp16.
    Half(u16) f16_to_f32;
    /// bfloat16.
    Brain(u16) bf16_to_f32;
    /// fp32.
    Full(f32) |x| x;
    /// int8.
    Byte(u8) |x: u8| f32::from(x as i8);
}

/// int4, two in a byte; `start` is the view's first element.
pub struct Nibble<'a> {
    /// Bytes from the storage's address on.
    pub bytes: &'a [u8],
    /// Element offset of the view.
    pub start: usize,
}

impl Elements for Nibble<'_> {
    #[inline(always)]
    fn at(&self, i: usize) -> f32 {
        nibble(self.bytes, self.start + i) as f32
    }
}

/// A weight matrix that can be unpacked panel by panel.
pub trait Unpack: Sync {
    /// Fills `panel` with rows `k..` and the 16 columns from `n` on; columns past the matrix are zero.
    fn unpack(&self, k: usize, n: usize, panel: &mut [Row]);
}

/// Elements at a layout, `n` columns.
pub struct Grid<E> {
    /// The elements.
    pub elements: E,
    /// Where they lie.
    pub layout: Layout,
    /// Columns.
    pub n: usize,
}

impl<E: Elements> Unpack for Grid<E> {
    #[inline(always)]
    fn unpack(&self, k: usize, n: usize, panel: &mut [Row]) {
        if self.layout.has_rows() && n + WIDTH <= self.n {
            let start = self.layout.n.part(n);
            for (i, row) in panel.iter_mut().enumerate() {
                *row = self.elements.row(start + self.layout.k.part(k + i));
            }
            return;
        }
        for l in 0..WIDTH {
            if n + l >= self.n {
                panel.iter_mut().for_each(|row| row[l] = 0.0);
                continue;
            }
            let start = self.layout.n.part(n + l);
            for (i, row) in panel.iter_mut().enumerate() {
                row[l] = self.elements.at(start + self.layout.k.part(k + i));
            }
        }
    }
}

/// Four partial sums of 16 columns.
type Sums = [Row; 4];

#[inline(always)]
fn accumulate(x: &[f32], panel: &[Row], sums: &mut Sums) {
    let mut s = *sums;
    let whole = x.len() / 4 * 4;
    for (x, rows) in x[..whole].chunks_exact(4).zip(panel.chunks_exact(4)) {
        for j in 0..4 {
            for l in 0..WIDTH {
                s[j][l] += x[j] * rows[j][l];
            }
        }
    }
    for (j, (x, row)) in x[whole..].iter().zip(&panel[whole..]).enumerate() {
        for l in 0..WIDTH {
            s[j][l] += x * row[l];
        }
    }
    *sums = s;
}

#[inline(always)]
fn columns<W: Unpack>(x: &[f32], k: usize, range: (usize, usize), n: usize, weights: &W) -> Vec<Row> {
    let mut sums = vec![[[0f32; WIDTH]; 4]; x.len() / k.max(1)];
    let mut panel = vec![[0f32; WIDTH]; DEPTH.min(range.1 - range.0)];
    let mut at = range.0;
    while at < range.1 {
        let depth = DEPTH.min(range.1 - at);
        weights.unpack(at, n, &mut panel[..depth]);
        for (x, sums) in x.chunks_exact(k).zip(&mut sums) {
            accumulate(&x[at..at + depth], &panel[..depth], sums);
        }
        at += depth;
    }
    sums.iter().map(|s| std::array::from_fn(|l| (s[0][l] + s[1][l]) + (s[2][l] + s[3][l]))).collect()
}

/// The same code compiled for wider vectors; the bits are the same, since nothing is fused or reordered.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,f16c")]
fn columns_avx2<W: Unpack>(x: &[f32], k: usize, range: (usize, usize), n: usize, weights: &W) -> Vec<Row> {
    columns(x, k, range, n, weights)
}

fn columns_best<W: Unpack>(x: &[f32], k: usize, range: (usize, usize), n: usize, weights: &W) -> Vec<Row> {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("f16c") {
        // SAFETY: the processor has the features that the function is compiled for.
        return unsafe { columns_avx2(x, k, range, n, weights) };
    }
    columns(x, k, range, n, weights)
}

/// `x` (m, k) times weights (k, n), both dense in the result.
pub fn multiply<W: Unpack>(x: &[f32], m: usize, k: usize, n: usize, weights: &W) -> Vec<f32> {
    if m * n == 0 || k == 0 {
        return vec![0.0; m * n];
    }
    let parts = product_parts(m, k);
    let cuts: Vec<(usize, usize)> = (0..parts).map(|p| (p * k / parts, (p + 1) * k / parts)).collect();
    let blocks = parallel::map(n.div_ceil(WIDTH), m.max(4) * k * n, |block| {
        let mut sum: Option<Vec<Row>> = None;
        for &cut in &cuts {
            let part = columns_best(x, k, cut, block * WIDTH, weights);
            sum = Some(match sum {
                None => part,
                Some(sum) => sum.iter().zip(&part).map(|(a, b)| std::array::from_fn(|l| a[l] + b[l])).collect(),
            });
        }
        sum.unwrap_or_default()
    });
    let mut out = vec![0.0; m * n];
    for (block, rows) in blocks.iter().enumerate() {
        let (start, width) = (block * WIDTH, WIDTH.min(n - block * WIDTH));
        for (i, row) in rows.iter().enumerate() {
            out[i * n + start..][..width].copy_from_slice(&row[..width]);
        }
    }
    out
}
