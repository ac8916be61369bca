//! Dimensions, shapes and tensor types.
//!
//! A dimension is a number or one of a few symbols that a step binds to numbers at run time, so that one graph serves
//! prefill, decode and verification. Used by the op table, the verifier and the planner.

use crate::DType;
use smallvec::SmallVec;
use std::fmt;

/// A dimension known only when a step runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Sym {
    /// Token rows in the step.
    Rows,
    /// Sequences in the step.
    Seqs,
    /// KV pages of the pool.
    Pages,
    /// Entries of each sequence's row in the page table.
    Stride,
    /// Rows that produce an output (a sampled token, logits).
    Outs,
    /// Recent tokens per output row, for the penalties.
    Recent,
    /// Slots of the pool of recurrent state.
    Slots,
}

impl Sym {
    /// All symbols.
    pub const ALL: [Sym; 7] = [Sym::Rows, Sym::Seqs, Sym::Pages, Sym::Stride, Sym::Outs, Sym::Recent, Sym::Slots];

    /// The symbol's name in the text form.
    pub const fn name(self) -> &'static str {
        match self {
            Sym::Rows => "rows",
            Sym::Seqs => "seqs",
            Sym::Pages => "pages",
            Sym::Stride => "stride",
            Sym::Outs => "outs",
            Sym::Recent => "recent",
            Sym::Slots => "slots",
        }
    }

    /// Whether a bucket bounds it, so that values that grow with it have room in an arena.
    pub const fn has_bound(self) -> bool {
        matches!(self, Sym::Rows | Sym::Seqs | Sym::Outs)
    }

    /// The symbol with this name.
    pub fn from_name(name: &str) -> Option<Sym> {
        Sym::ALL.into_iter().find(|s| s.name() == name)
    }
}

/// Values of the symbols: those of one step, or a bucket's upper bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Dims {
    /// Token rows.
    pub rows: u32,
    /// Sequences.
    pub seqs: u32,
    /// Pages of the KV pool.
    pub pages: u32,
    /// Entries of each sequence's row in the page table: at least the pages of the longest sequence.
    pub stride: u32,
    /// Rows that produce an output.
    pub outs: u32,
    /// Recent tokens per output row.
    pub recent: u32,
    /// Slots of the pool of recurrent state. Only states have it as a dimension.
    pub slots: u32,
}

impl Dims {
    /// A step of `rows` rows of one sequence whose last row produces an output. The sequence may have the whole pool.
    pub const fn single(rows: u32, pages: u32) -> Dims {
        Dims { rows, seqs: 1, pages, stride: pages, outs: 1, recent: 0, slots: 0 }
    }

    /// The number bound to a symbol.
    pub const fn get(&self, sym: Sym) -> u32 {
        match sym {
            Sym::Rows => self.rows,
            Sym::Seqs => self.seqs,
            Sym::Pages => self.pages,
            Sym::Stride => self.stride,
            Sym::Outs => self.outs,
            Sym::Recent => self.recent,
            Sym::Slots => self.slots,
        }
    }

    /// Whether every symbol is at most the bound's.
    pub fn fits_in(&self, bound: &Dims) -> bool {
        Sym::ALL.into_iter().all(|s| self.get(s) <= bound.get(s))
    }
}

/// One dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dim {
    /// Known when the graph is written.
    Const(u64),
    /// Known when a step runs.
    Sym(Sym),
}

impl Dim {
    /// The dimension as a number.
    pub fn resolve(self, dims: &Dims) -> u64 {
        match self {
            Dim::Const(n) => n,
            Dim::Sym(s) => u64::from(dims.get(s)),
        }
    }

    /// The number, if it is constant.
    pub fn known(self) -> Option<u64> {
        match self {
            Dim::Const(n) => Some(n),
            Dim::Sym(_) => None,
        }
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Const(n) => write!(f, "{n}"),
            Dim::Sym(s) => f.write_str(s.name()),
        }
    }
}

impl From<u64> for Dim {
    fn from(n: u64) -> Dim {
        Dim::Const(n)
    }
}

impl From<Sym> for Dim {
    fn from(s: Sym) -> Dim {
        Dim::Sym(s)
    }
}

/// Dimensions, outermost first; the last one is contiguous in memory.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Shape(pub SmallVec<[Dim; 4]>);

impl Shape {
    /// A shape from its dimensions, outermost first.
    pub fn new(dims: impl IntoIterator<Item = Dim>) -> Shape {
        Shape(dims.into_iter().collect())
    }

    /// A shape of constant dimensions.
    pub fn consts(dims: &[u64]) -> Shape {
        Shape(dims.iter().map(|&d| Dim::Const(d)).collect())
    }

    /// The dimensions.
    pub fn dims(&self) -> &[Dim] {
        &self.0
    }

    /// The number of dimensions.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// The innermost dimension; 1 for a scalar.
    pub fn last(&self) -> Dim {
        self.0.last().copied().unwrap_or(Dim::Const(1))
    }

    /// The dimensions as numbers.
    pub fn resolve(&self, dims: &Dims) -> SmallVec<[u64; 4]> {
        self.0.iter().map(|d| d.resolve(dims)).collect()
    }

    /// Number of elements; `None` if it overflows.
    pub fn elems(&self, dims: &Dims) -> Option<u64> {
        if self.0.iter().any(|d| d.resolve(dims) == 0) {
            return Some(0);
        }
        self.0.iter().try_fold(1u64, |n, d| n.checked_mul(d.resolve(dims)))
    }

    /// The same shape with a different innermost dimension.
    pub fn with_last(&self, last: Dim) -> Shape {
        let mut s = self.clone();
        if let Some(d) = s.0.last_mut() {
            *d = last;
        }
        s
    }

    /// Whether it has no elements, regardless of the symbols.
    pub fn is_empty(&self) -> bool {
        self.0.contains(&Dim::Const(0))
    }

    /// The product of the constant dimensions and the multiset of symbols. Equal for shapes that have the same number
    /// of elements for all values of the symbols.
    pub fn factors(&self) -> (Option<u64>, SmallVec<[Sym; 4]>) {
        if self.is_empty() {
            return (Some(0), SmallVec::new());
        }
        let product = self.0.iter().filter_map(|d| d.known()).try_fold(1u64, |n, d| n.checked_mul(d));
        let mut syms: SmallVec<[Sym; 4]> =
            self.0.iter().filter_map(|d| if let Dim::Sym(s) = d { Some(*s) } else { None }).collect();
        syms.sort_unstable();
        (product, syms)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, d) in self.0.iter().enumerate() {
            write!(f, "{}{d}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str("]")
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Element type and shape of a value.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first.
    pub shape: Shape,
}

impl TensorType {
    /// A tensor type.
    pub fn new(dtype: DType, shape: Shape) -> TensorType {
        TensorType { dtype, shape }
    }

    /// An f32 tensor.
    pub fn f32(shape: Shape) -> TensorType {
        TensorType::new(DType::F32, shape)
    }

    /// Bytes of the tensor with empty dimensions counted as 1, so that tensors without elements are checked too; `None`
    /// on overflow.
    pub fn bytes_of_full(&self, dims: &Dims) -> Option<u64> {
        let elems = self.shape.0.iter().try_fold(1u64, |n, d| n.checked_mul(d.resolve(dims).max(1)))?;
        elems.checked_mul(self.dtype.block_bytes() as u64)
    }

    /// Bytes of the tensor; `None` on overflow or if a row is not a whole number of blocks.
    pub fn bytes(&self, dims: &Dims) -> Option<u64> {
        let elems = self.shape.elems(dims)?;
        let last = self.shape.last().resolve(dims);
        let rows = elems.checked_div(last).unwrap_or(0);
        self.dtype.row_bytes(last)?.checked_mul(rows)
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.dtype, self.shape)
    }
}

impl fmt::Debug for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_count_blocks_and_symbols() {
        let t = TensorType::new(DType::Q4_1, Shape::consts(&[10, 64]));
        assert_eq!(t.bytes(&Dims::default()), Some(400));
        let t = TensorType::f32(Shape::new([Sym::Rows.into(), Dim::Const(8)]));
        assert_eq!(t.bytes(&Dims::single(3, 1)), Some(96));
        assert_eq!(t.to_string(), "f32[rows, 8]");
        assert_eq!(TensorType::f32(Shape::default()).bytes(&Dims::default()), Some(4));
    }

    #[test]
    fn factors_ignore_order() {
        let a = Shape::new([Sym::Rows.into(), 6.into()]);
        let b = Shape::new([2.into(), 3.into(), Sym::Rows.into()]);
        assert_eq!(a.factors(), b.factors());
    }

    #[test]
    fn a_shape_without_elements_has_none_for_all_symbols() {
        let (a, b) = (Shape::new([Sym::Rows.into(), 0.into()]), Shape::consts(&[u64::MAX, 0, u64::MAX]));
        assert_eq!(a.factors(), b.factors());
        assert_ne!(a.factors(), Shape::new([Sym::Rows.into()]).factors());
        let blocks = |dims: &[u64]| TensorType::new(DType::Q4_0, Shape::consts(dims)).bytes(&Dims::default());
        assert_eq!((blocks(&[4, 0]), blocks(&[0, 32]), blocks(&[0, 33])), (Some(0), Some(0), None));
    }
}
