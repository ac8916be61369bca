//! Tensors of single ops: their location, and their size in the current step.
//!
//! Kernels of single ops take any shape, so they look up sizes when they run. Nothing here allocates.

use super::elements::index_at;
use crate::step::StepView;
use crate::tensor_loc::TensorLoc;
use aio_ir::{DType, Dims, Shape, TensorType};
use aio_plan::Loc;
use bytemuck::Pod;
use std::ops::{Deref, Range};

/// Maximum dimensions of a tensor.
pub(crate) const MAX_RANK: usize = 8;

/// Dimensions as numbers, outermost first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extents {
    dims: [usize; MAX_RANK],
    rank: usize,
}

impl Extents {
    /// The dimensions given, at most [`MAX_RANK`].
    pub(crate) fn new(dims: impl IntoIterator<Item = usize>) -> Extents {
        let mut all = Extents { dims: [1; MAX_RANK], rank: 0 };
        for dim in dims {
            all.dims[all.rank] = dim;
            all.rank += 1;
        }
        all
    }

    /// Number of elements.
    pub(crate) fn elems(&self) -> usize {
        self.iter().product()
    }

    /// The innermost dimension; 1 for a scalar.
    pub(crate) fn last(&self) -> usize {
        self.split_last().map_or(1, |(n, _)| *n)
    }

    /// Elements of all dimensions but the innermost.
    pub(crate) fn rows(&self) -> usize {
        self.split_last().map_or(1, |(_, lead)| lead.iter().product())
    }
}

impl Deref for Extents {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.dims[..self.rank]
    }
}

/// A tensor that a kernel reads or writes.
#[derive(Clone, Debug)]
pub(crate) struct OpTensor {
    pub place: TensorLoc,
    pub dtype: DType,
    pub shape: Shape,
}

impl OpTensor {
    pub(crate) fn new(place: TensorLoc, ty: &TensorType) -> OpTensor {
        OpTensor { place, dtype: ty.dtype, shape: ty.shape.clone() }
    }

    /// Dimensions in a step.
    pub(crate) fn extents(&self, step: &StepView<'_>) -> Extents {
        self.extents_at(&step.dims_at(self.place))
    }

    /// Dimensions for these symbol values.
    pub(crate) fn extents_at(&self, dims: &Dims) -> Extents {
        Extents::new(self.shape.dims().iter().map(|d| d.resolve(dims) as usize))
    }

    /// Bytes of the tensor at these dimensions.
    fn bytes_of(&self, extents: &Extents) -> usize {
        extents.elems() / self.dtype.block_elems() * self.dtype.block_bytes()
    }

    /// The stored bytes; `None` if it is an optional input that is not bound.
    ///
    /// # Safety
    /// An earlier task or the caller wrote it, and nothing writes to it while the slice lives.
    pub(crate) unsafe fn bytes<'s>(&self, step: &StepView<'s>) -> Option<&'s [u8]> {
        let len = self.bytes_of(&self.extents(step));
        match self.place {
            TensorLoc::Planned(loc @ (Loc::Input(_) | Loc::Absent)) => step.input(loc).map(|d| &d.bytes()[..len]),
            TensorLoc::Planned(loc @ Loc::Weight(_)) => Some(&step.weight(loc).bytes[..len]),
            // SAFETY: the plan gives the location this many bytes; the rest is guaranteed by the caller.
            place => Some(unsafe { std::slice::from_raw_parts(step.place(place), len) }),
        }
    }

    /// The elements of a tensor of 32-bit elements.
    ///
    /// # Safety
    /// As for [`OpTensor::bytes`].
    pub(crate) unsafe fn values<'s, T: Pod>(&self, step: &StepView<'s>) -> Option<&'s [T]> {
        debug_assert_eq!(self.dtype.block_bytes(), size_of::<T>());
        // SAFETY: guaranteed by the caller. Tensors of 32-bit elements are aligned to 4 bytes at every location.
        unsafe { self.bytes(step) }.map(bytemuck::cast_slice)
    }

    /// The elements of an f32 tensor that is bound.
    ///
    /// # Safety
    /// As for [`OpTensor::bytes`].
    pub(crate) unsafe fn f32s<'s>(&self, step: &StepView<'s>) -> &'s [f32] {
        // SAFETY: guaranteed by the caller.
        unsafe { self.values(step) }.unwrap_or(&[])
    }

    /// A tensor of indices.
    ///
    /// # Safety
    /// As for [`OpTensor::bytes`].
    pub(crate) unsafe fn indices<'s>(&self, step: &StepView<'s>) -> Indices<'s> {
        // SAFETY: guaranteed by the caller.
        Indices { dtype: self.dtype, bytes: unsafe { self.bytes(step) }.unwrap_or(&[]) }
    }

    /// A part of a result, for writing; in units of `T`.
    ///
    /// # Safety
    /// Nothing else uses these elements while the slice lives, and they lie inside the tensor.
    #[expect(clippy::mut_from_ref, reason = "threads write disjoint parts of what the step's pointers lead to")]
    pub(crate) unsafe fn part<'s, T: Pod>(&self, step: &'s StepView<'_>, range: Range<usize>) -> &'s mut [T] {
        debug_assert!(range.end * size_of::<T>() <= self.bytes_of(&self.extents(step)));
        let start: *mut T = step.place(self.place).cast();
        // SAFETY: guaranteed by the caller; places are aligned for their elements.
        unsafe { std::slice::from_raw_parts_mut(start.add(range.start), range.len()) }
    }
}

/// Integers of any width.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Indices<'a> {
    dtype: DType,
    bytes: &'a [u8],
}

impl Indices<'_> {
    /// Number of indices.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() / self.dtype.block_bytes()
    }

    /// The `i`-th index.
    pub(crate) fn get(&self, i: usize) -> i64 {
        index_at(self.dtype, self.bytes, i)
    }
}
