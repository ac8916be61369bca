//! Locations of the tensors of single ops.

use aio_ir::Dims;
use aio_plan::Loc;

/// The location of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TensorLoc {
    /// As stated by the plan.
    Planned(Loc),
    /// In scratch memory, at this byte offset into the held values: it never leaves its task.
    Held(usize),
}

impl TensorLoc {
    /// Symbol values for a tensor here: states have the pool's pages, all else the step's.
    pub(crate) fn dims(self, step: Dims, pool_pages: u32) -> Dims {
        match self {
            TensorLoc::Planned(Loc::State(_)) => Dims { pages: pool_pages, ..step },
            _ => step,
        }
    }
}
