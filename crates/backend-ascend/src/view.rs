//! Descriptions of tensors on the device: address, element type, shape, strides, layout. Plain data.
//!
//! Lowering makes them, `acl::objects` turns them into AscendCL's tensors.

use aio_ir::DType;
use smallvec::{SmallVec, smallvec};

/// Sizes or strides of a tensor, outermost first.
pub(crate) type Sizes = SmallVec<[i64; 4]>;

/// An element type of AscendCL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Elem {
    F32,
    F16,
    Bf16,
    I8,
    U8,
    I32,
    I64,
    Bool,
    I4,
}

impl Elem {
    /// Its number in `aclDataType`.
    pub(crate) fn code(self) -> i32 {
        match self {
            Elem::F32 => 0,
            Elem::F16 => 1,
            Elem::Bf16 => 27,
            Elem::I8 => 2,
            Elem::U8 => 4,
            Elem::I32 => 3,
            Elem::I64 => 9,
            Elem::Bool => 12,
            Elem::I4 => 29,
        }
    }

    /// Bytes of a number of elements.
    pub(crate) fn bytes(self, elements: usize) -> usize {
        match self {
            Elem::F32 | Elem::I32 => 4 * elements,
            Elem::F16 | Elem::Bf16 => 2 * elements,
            Elem::I64 => 8 * elements,
            Elem::I8 | Elem::U8 | Elem::Bool => elements,
            Elem::I4 => elements.div_ceil(2),
        }
    }

    /// The type that holds elements of a graph's type unchanged. u32 has the bits of i32: sums, products and copies are
    /// the same.
    pub(crate) fn of(dtype: DType) -> Option<Elem> {
        match dtype {
            DType::F32 => Some(Elem::F32),
            DType::F16 => Some(Elem::F16),
            DType::I32 | DType::U32 => Some(Elem::I32),
            DType::BF16 => Some(Elem::Bf16),
            DType::I8 => Some(Elem::I8),
            DType::U8 => Some(Elem::U8),
            DType::Bool => Some(Elem::Bool),
            _ => None,
        }
    }

    /// Whether it is a float type.
    pub(crate) fn is_float(self) -> bool {
        matches!(self, Elem::F32 | Elem::F16 | Elem::Bf16)
    }
}

/// A tensor on the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    /// Address of the first element.
    pub at: u64,
    /// Element type.
    pub elem: Elem,
    /// Shape.
    pub dims: Sizes,
    /// Strides in elements.
    pub strides: Sizes,
    /// Whether it is a matrix in FRACTAL_NZ, the cube's own layout.
    pub tiled: bool,
}

/// Strides of a dense tensor.
fn dense(dims: &[i64]) -> Sizes {
    let mut strides: Sizes = smallvec![1; dims.len()];
    for i in (1..dims.len()).rev() {
        strides[i - 1] = strides[i] * dims[i].max(1);
    }
    strides
}

impl View {
    /// A dense tensor.
    pub(crate) fn dense(at: u64, elem: Elem, dims: impl IntoIterator<Item = i64>) -> View {
        let dims: Sizes = dims.into_iter().collect();
        View { at, elem, strides: dense(&dims), dims, tiled: false }
    }

    /// Number of elements.
    pub(crate) fn elements(&self) -> usize {
        self.dims.iter().product::<i64>() as usize
    }

    /// Bytes of its elements, without gaps.
    pub(crate) fn bytes(&self) -> usize {
        self.elem.bytes(self.elements())
    }

    /// The last dimension; 1 for a scalar.
    pub(crate) fn last(&self) -> i64 {
        self.dims.last().copied().unwrap_or(1)
    }

    /// The same elements of a dense tensor under another shape.
    pub(crate) fn shaped(&self, dims: impl IntoIterator<Item = i64>) -> View {
        View::dense(self.at, self.elem, dims)
    }

    /// A dense tensor as rows of its last dimension.
    pub(crate) fn rows(&self) -> View {
        let last = self.last();
        self.shaped([self.elements() as i64 / last.max(1), last])
    }

    /// A dense tensor as rows, one for each of the first dimension.
    pub(crate) fn by_first(&self) -> View {
        let first = self.dims.first().copied().unwrap_or(1);
        self.shaped([first, self.elements() as i64 / first.max(1)])
    }

    /// The range of a dimension.
    pub(crate) fn sliced(&self, axis: usize, start: i64, len: i64) -> View {
        let mut part = self.clone();
        part.at += self.elem.bytes((start * self.strides[axis]) as usize) as u64;
        part.dims[axis] = len;
        part
    }

    /// With its dimensions in another order.
    pub(crate) fn permuted(&self, order: &[usize]) -> View {
        let take = |from: &Sizes| order.iter().map(|&d| from[d]).collect();
        View { dims: take(&self.dims), strides: take(&self.strides), ..self.clone() }
    }

    /// One past the last element that it reaches, counted from its address.
    pub(crate) fn reach(&self) -> i64 {
        if self.elements() == 0 {
            return 0;
        }
        self.dims.iter().zip(&self.strides).map(|(n, s)| (n - 1) * s).sum::<i64>() + 1
    }
}
