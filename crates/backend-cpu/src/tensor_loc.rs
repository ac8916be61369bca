//! Where tensors of single ops lie.

use aio_ir::Dims;
use aio_plan::Loc;

/// Where a tensor lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TensorLoc {
    /// Where the plan says.
    Planned(Loc),
    /// In scratch memory, so many bytes behind the begin of the held values: it never leaves its task.
    Held(usize),
}

impl TensorLoc {
    /// Numbers of the symbols for a tensor in its place: states belong to the pool, all else to the step.
    pub(crate) fn dims(self, step: Dims, pool_pages: u32) -> Dims {
        match self {
            TensorLoc::Planned(Loc::State(_)) => Dims { pages: pool_pages, ..step },
            _ => step,
        }
    }
}
