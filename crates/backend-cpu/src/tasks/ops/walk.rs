//! Walks a result in pieces with a constant stride in every operand, for broadcasting, permuting and slicing.

use super::elements::PIECE;
use super::tensor::{Extents, MAX_RANK};
use std::ops::Range;

/// How the elements of `N` operands map to those of a result.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk<const N: usize> {
    dims: [usize; MAX_RANK],
    rank: usize,
    steps: [[usize; MAX_RANK]; N],
    starts: [usize; N],
}

/// Consecutive elements of the result.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece<const N: usize> {
    /// Index of the first one.
    pub at: usize,
    /// Number of elements, at most [`PIECE`].
    pub len: usize,
    /// Index of the first one's element in each operand.
    pub from: [usize; N],
}

impl<const N: usize> Walk<N> {
    /// Operand `i` moves by `steps[i][d]` elements along dimension `d` of `out`, from element `starts[i]` on.
    pub(crate) fn new(out: &Extents, steps: [[usize; MAX_RANK]; N], starts: [usize; N]) -> Walk<N> {
        let mut walk = Walk { dims: [1; MAX_RANK], rank: 0, steps: [[0; MAX_RANK]; N], starts };
        for (d, &size) in out.iter().enumerate() {
            walk.push(size, std::array::from_fn(|i| steps[i][d]));
        }
        walk.rank = walk.rank.max(1);
        walk
    }

    /// Operands that broadcast to `out`.
    pub(crate) fn broadcast(out: &Extents, operands: [&Extents; N]) -> Walk<N> {
        Walk::new(out, operands.map(|o| broadcast_steps(o, out.len())), [0; N])
    }

    /// Adds an inner dimension, or extends the last one if all operands continue with the same stride.
    fn push(&mut self, size: usize, steps: [usize; N]) {
        if size == 1 {
            return;
        }
        let last = self.rank.wrapping_sub(1);
        if self.rank > 0 && (0..N).all(|i| self.steps[i][last] == steps[i] * size) {
            self.dims[last] *= size;
        } else {
            self.dims[self.rank] = size;
            self.rank += 1;
        }
        let last = self.rank - 1;
        for (all, step) in self.steps.iter_mut().zip(steps) {
            all[last] = step;
        }
    }

    /// Stride between elements of a piece, in each operand.
    pub(crate) fn strides(&self) -> [usize; N] {
        self.steps.map(|s| s[self.rank - 1])
    }

    /// Calls `f` for each piece of a range of the result's elements.
    pub(crate) fn pieces(&self, range: Range<usize>, mut f: impl FnMut(Piece<N>)) {
        let inner = self.dims[self.rank - 1];
        let mut at = range.start;
        while at < range.end {
            let len = (inner - at % inner).min(range.end - at).min(PIECE);
            f(Piece { at, len, from: self.places(at) });
            at += len;
        }
    }

    fn places(&self, at: usize) -> [usize; N] {
        let mut from = self.starts;
        let mut left = at;
        for d in (0..self.rank).rev() {
            let index = left % self.dims[d];
            left /= self.dims[d];
            for (from, steps) in from.iter_mut().zip(&self.steps) {
                *from += index * steps[d];
            }
        }
        from
    }
}

/// Strides of a row-major tensor, in elements.
pub(crate) fn row_major(x: &Extents) -> [usize; MAX_RANK] {
    let mut steps = [0; MAX_RANK];
    let mut size = 1;
    for (d, &dim) in x.iter().enumerate().rev() {
        steps[d] = size;
        size *= dim;
    }
    steps
}

fn broadcast_steps(x: &Extents, rank: usize) -> [usize; MAX_RANK] {
    let own = row_major(x);
    let lead = rank - x.len();
    let mut steps = [0; MAX_RANK];
    for (d, &dim) in x.iter().enumerate() {
        steps[lead + d] = if dim == 1 { 0 } else { own[d] };
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(out: &[usize], operand: &[usize]) -> Vec<usize> {
        let extents = |dims: &[usize]| Extents::new(dims.iter().copied());
        let walk = Walk::broadcast(&extents(out), [&extents(operand)]);
        let [stride] = walk.strides();
        let mut all = Vec::new();
        walk.pieces(0..out.iter().product(), |p| all.extend((0..p.len).map(|i| p.from[0] + i * stride)));
        all
    }

    #[test]
    fn broadcasting_repeats_dimensions_of_one() {
        assert_eq!(places(&[2, 3], &[3]), [0, 1, 2, 0, 1, 2]);
        assert_eq!(places(&[2, 3], &[2, 1]), [0, 0, 0, 1, 1, 1]);
        assert_eq!(places(&[2, 1, 2], &[2, 1, 2]), [0, 1, 2, 3]);
        assert_eq!(places(&[2], &[]), [0, 0]);
        assert_eq!(places(&[], &[]), [0]);
        assert_eq!(places(&[0, 3], &[3]), [0usize; 0]);
    }

    #[test]
    fn straight_operands_give_long_pieces() {
        let x = Extents::new([4, 5, 6]);
        let mut pieces = 0;
        Walk::broadcast(&x, [&x, &x]).pieces(0..120, |_| pieces += 1);
        assert_eq!(pieces, 1);
    }
}
