//! Gate and up projections with the gated activation.

use super::acts::Acts;
use super::linear::{groups_from, packed};
use crate::bounds::{Bounds, Scratch};
use crate::format::GROUP_ROWS;
use crate::kernels::matmul::{MatmulArgs, Output};
use crate::kernels::rows::GateArgs;
use crate::pack::groups_of;
use crate::pool::Worker;
use crate::step::StepView;
use crate::weights::Weight;
use aio_plan::kinds::gate_up;
use aio_plan::{Activation, GateUpSpec, Loc, Task};

/// Groups of 16 columns whose gate and up products are held at once.
const BLOCK_GROUPS: usize = 4;
/// Bytes that one row streams of a matrix before it turns to the other one, in which the processor's prefetchers begin anew.
const STREAM_BYTES: usize = 92 << 10;
/// Most groups of one row.
const STREAM_GROUPS: usize = 4 * BLOCK_GROUPS;

/// Groups of a block, so that long blocks of one row stay small enough to share the work.
fn block_groups(w: &Weight, rows: usize) -> usize {
    let group_len = w.bytes.len().checked_div(groups_of(w.rows)).unwrap_or(0).max(1);
    if rows == 1 { (STREAM_BYTES / group_len).clamp(BLOCK_GROUPS, STREAM_GROUPS) } else { BLOCK_GROUPS }
}

/// `act(norm(x) * wg) * (norm(x) * wu)`.
pub(crate) struct GateUp {
    acts: Acts,
    activation: Activation,
    x: Loc,
    gate: Loc,
    up: Loc,
    out: Loc,
}

impl GateUp {
    pub(crate) fn new<'w>(task: &Task, spec: GateUpSpec, weight: impl Fn(Loc) -> Option<&'w Weight>) -> GateUp {
        let gate_up::Operands { x, norm, gate, up } = gate_up::Operands::of(&task.operands);
        let acts = Acts::new(Some((norm, spec.norm_eps)), [gate, up].into_iter().filter_map(weight));
        GateUp { acts, activation: spec.activation, x, gate, up, out: task.results[gate_up::OUT.out] }
    }

    pub(crate) fn first_weights<'s>(&self, step: &StepView<'s>, worker: Worker<'_>) -> &'s [u8] {
        let gate = step.weight(self.gate);
        groups_from(gate, worker.share(groups_of(gate.rows)).start)
    }

    /// The gate and up products of a block of columns follow the prepared rows in private memory.
    fn products_offset(&self, bounds: &Bounds) -> usize {
        self.acts.scratch(bounds, bounds.rows).private.next_multiple_of(64)
    }

    pub(crate) fn scratch(&self, bounds: &Bounds) -> Scratch {
        let acts = self.acts.scratch(bounds, bounds.rows);
        let groups = STREAM_GROUPS.max(bounds.rows * BLOCK_GROUPS);
        let products = 2 * groups * GROUP_ROWS * size_of::<f32>();
        Scratch { private: self.products_offset(bounds) + products, ..acts }
    }

    pub(crate) fn run(&self, step: &StepView<'_>, worker: Worker<'_>) {
        let rows = step.rows();
        let (gate, up) = (step.weight(self.gate), step.weight(self.up));
        // SAFETY: an earlier task wrote all rows of x.
        let x = unsafe { step.floats(self.x, rows * gate.cols) };
        let prepared = self.acts.prepare(step, worker, rows, &|row| &x[row * gate.cols..][..gate.cols]);
        let bucket = Bounds { rows: step.plan.bucket.rows as usize, outs: 0, threads: worker.threads, pages: 0 };
        let held: *mut f32 = step.private(worker.tid).wrapping_add(self.products_offset(&bucket)).cast();
        let groups = block_groups(gate, rows);
        let stride = groups * GROUP_ROWS;
        for block in worker.chunks(groups_of(gate.rows), groups) {
            for (i, w) in [gate, up].into_iter().enumerate() {
                // Column 16 * start of the product is column 0 of the held block.
                let start = held.wrapping_add(i * rows * stride).wrapping_sub(block.start * GROUP_ROWS);
                let output = Output { start, stride };
                let (weights, input) = (packed(w), prepared.input(w));
                let args =
                    MatmulArgs { weights, input, rows, groups: block.clone(), bias: None, residual: None, output };
                // SAFETY: the columns of the block lie inside this thread's private memory.
                unsafe { step.kernels.matmul(&args) };
            }
            // SAFETY: both products were just written; the output's columns are this thread's.
            unsafe { self.multiply(step, (held, stride), rows, block.start * GROUP_ROWS, block.end * GROUP_ROWS) };
        }
    }

    /// # Safety
    /// `held` has gate and up products of `rows` rows, `stride` floats apart and at least `to - from` long; columns
    /// `from..to` of the output are the caller's.
    unsafe fn multiply(
        &self,
        step: &StepView<'_>,
        (held, stride): (*const f32, usize),
        rows: usize,
        from: usize,
        to: usize,
    ) {
        let cols = step.weight(self.gate).rows;
        let len = to.min(cols) - from;
        let out: *mut f32 = step.address(self.out).cast();
        for row in 0..rows {
            // SAFETY: guaranteed by the caller.
            let args = unsafe {
                GateArgs {
                    gate: std::slice::from_raw_parts(held.add(row * stride), len),
                    up: std::slice::from_raw_parts(held.add((rows + row) * stride), len),
                    out: std::slice::from_raw_parts_mut(out.add(row * cols + from), len),
                }
            };
            match self.activation {
                Activation::Silu => step.kernels.silu_mul(args),
                Activation::Gelu => step.kernels.gelu_mul(args),
            }
        }
    }
}
