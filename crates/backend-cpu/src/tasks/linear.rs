//! A projection with its norm, bias and residual.

use super::acts::Acts;
use crate::activation::MAX_PANEL_ROWS;
use crate::bounds::{Bounds, Scratch};
use crate::kernels::matmul::{MatmulArgs, Output, Weights};
use crate::pack::groups_of;
use crate::pool::Worker;
use crate::step::StepView;
use crate::weights::Weight;
use aio_plan::kinds::linear;
use aio_plan::{LinearSpec, Loc, Task};

/// `norm(x) * w + bias + residual`.
pub(crate) struct Linear {
    acts: Acts,
    x: Loc,
    w: Loc,
    bias: Loc,
    residual: Loc,
    out: Loc,
}

/// A packed weight in the form the matrix kernels take.
pub(crate) fn packed(w: &Weight) -> Weights<'_> {
    Weights { dtype: w.dtype, rows: w.rows, cols: w.cols, packed: &w.bytes }
}

/// A weight's packed groups from `group` on.
pub(crate) fn groups_from(w: &Weight, group: usize) -> &[u8] {
    let group_len = w.bytes.len().checked_div(groups_of(w.rows)).unwrap_or(0);
    w.bytes.get(group * group_len..).unwrap_or(&[])
}

impl Linear {
    pub(crate) fn first_weights<'s>(&self, step: &StepView<'s>, worker: Worker<'_>) -> &'s [u8] {
        let w = step.weight(self.w);
        groups_from(w, worker.share(groups_of(w.rows)).start)
    }

    pub(crate) fn new<'w>(task: &Task, spec: LinearSpec, weight: impl Fn(Loc) -> Option<&'w Weight>) -> Linear {
        let linear::Operands { x, norm, w, bias, residual } = linear::Operands::of(&task.operands);
        let acts = Acts::new(spec.norm_eps.map(|eps| (norm, eps)), weight(w));
        Linear { acts, x, w, bias, residual, out: task.results[linear::OUT.out] }
    }

    pub(crate) fn scratch(&self, bounds: &Bounds) -> Scratch {
        self.acts.scratch(bounds, bounds.rows)
    }

    pub(crate) fn run(&self, step: &StepView<'_>, worker: Worker<'_>) {
        let (rows, w) = (step.rows(), step.weight(self.w));
        // SAFETY: an earlier task wrote all rows of x.
        let x = unsafe { step.floats(self.x, rows * w.cols) };
        let prepared = self.acts.prepare(step, worker, rows, &|row| &x[row * w.cols..][..w.cols]);
        let output = Output { start: step.address(self.out).cast(), stride: w.rows };
        // SAFETY: an earlier task wrote the residual, and it shares no memory with the result.
        let residual = (self.residual != Loc::Absent).then(|| unsafe { step.floats(self.residual, rows * w.rows) });
        let args = MatmulArgs {
            weights: packed(w),
            input: prepared.input(w),
            rows,
            groups: 0..0,
            bias: step.vector(self.bias),
            residual,
            output,
        };
        for groups in worker.chunks(groups_of(w.rows), chunk_groups(w, rows)) {
            // SAFETY: the result has `rows` rows of `w.rows` floats, and each chunk of its columns has one owner.
            unsafe { step.kernels.matmul(&MatmulArgs { groups, ..args.clone() }) };
        }
    }
}

/// Bytes of weights per claimed chunk: some microseconds of streaming.
const CHUNK_BYTES: usize = 24 << 10;
/// The same when many rows pass over each chunk, which should stay in cache.
const LARGE_CHUNK_BYTES: usize = 160 << 10;

/// Groups of a weight per claimed chunk: an even number, for kernels that take two.
pub(super) fn chunk_groups(w: &Weight, rows: usize) -> usize {
    let bytes = if rows <= MAX_PANEL_ROWS { CHUNK_BYTES } else { LARGE_CHUNK_BYTES };
    let group_len = w.bytes.len().checked_div(groups_of(w.rows)).unwrap_or(0);
    (bytes / group_len.max(1)).next_multiple_of(2).max(2)
}
