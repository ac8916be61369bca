//! The last norm and the projection onto the vocabulary, with a fused arg-max if only the token is needed.

use super::acts::Acts;
use super::linear::{chunk_groups, groups_from, packed};
use crate::bounds::{Bounds, Scratch};
use crate::format::GROUP_ROWS;
use crate::kernels::matmul::{MatmulArgs, Output};
use crate::kernels::rows::Best;
use crate::pack::groups_of;
use crate::pool::Worker;
use crate::step::StepView;
use crate::weights::Weight;
use aio_plan::kinds::head;
use aio_plan::{HeadSpec, Loc, Task};

/// Groups of 16 logits held at once when only their arg-max is needed.
const BLOCK_GROUPS: usize = 16;

/// See the module documentation.
pub(crate) struct Head {
    acts: Acts,
    x: Loc,
    rows: Loc,
    w: Loc,
    out: Loc,
    argmax: bool,
}

impl Head {
    pub(crate) fn new<'w>(task: &Task, spec: HeadSpec, weight: impl Fn(Loc) -> Option<&'w Weight>) -> Head {
        let head::Operands { x, out_rows, norm, w } = head::Operands::of(&task.operands);
        let acts = Acts::new(Some((norm, spec.norm_eps)), weight(w));
        Head { acts, x, rows: out_rows, w, out: task.results[head::OUT.out], argmax: spec.argmax }
    }

    pub(crate) fn first_weights<'s>(&self, step: &StepView<'s>, worker: Worker<'_>) -> &'s [u8] {
        let w = step.weight(self.w);
        groups_from(w, worker.share(groups_of(w.rows)).start)
    }

    /// Held logits follow the prepared rows in private memory.
    fn held_offset(&self, bounds: &Bounds) -> usize {
        self.acts.scratch(bounds, bounds.outs).private.next_multiple_of(64)
    }

    /// Each thread's best token of each row follows the prepared rows in shared memory.
    fn best_offset(&self, bounds: &Bounds) -> usize {
        self.acts.scratch(bounds, bounds.outs).shared.next_multiple_of(64)
    }

    pub(crate) fn scratch(&self, bounds: &Bounds) -> Scratch {
        let acts = self.acts.scratch(bounds, bounds.outs);
        if !self.argmax {
            return acts;
        }
        let held = bounds.outs * BLOCK_GROUPS * GROUP_ROWS * size_of::<f32>();
        let best = bounds.outs * bounds.threads * size_of::<Best>();
        Scratch { private: self.held_offset(bounds) + held, shared: self.best_offset(bounds) + best, held: 0 }
    }

    pub(crate) fn run(&self, step: &StepView<'_>, worker: Worker<'_>) {
        let (index, w) = (step.words(self.rows), step.weight(self.w));
        if index.is_empty() {
            return;
        }
        // SAFETY: an earlier task wrote all rows of x.
        let x = unsafe { step.floats(self.x, step.rows() * w.cols) };
        let source = |i: usize| &x[index[i] as usize * w.cols..][..w.cols];
        let prepared = self.acts.prepare(step, worker, index.len(), &source);
        let output = Output { start: step.address(self.out).cast(), stride: w.rows };
        let (input, rows) = (prepared.input(w), index.len());
        let args = MatmulArgs { weights: packed(w), input, rows, groups: 0..0, bias: None, residual: None, output };
        if self.argmax {
            self.best(step, worker, args);
        } else {
            for groups in worker.chunks(groups_of(w.rows), chunk_groups(w, rows)) {
                // SAFETY: the result has a row of `w.rows` floats for each output row; each chunk of columns has one
                // owner.
                unsafe { step.kernels.matmul(&MatmulArgs { groups, ..args.clone() }) };
            }
        }
    }

    /// The arg-max of each row: first over the columns each thread claims, then joined; the lowest index wins ties.
    fn best(&self, step: &StepView<'_>, worker: Worker<'_>, args: MatmulArgs<'_>) {
        let rows = args.rows;
        let bucket = &step.plan.bucket;
        let bounds =
            Bounds { rows: bucket.rows as usize, outs: bucket.outs as usize, threads: worker.threads, pages: 0 };
        let held: *mut f32 = step.private(worker.tid).wrapping_add(self.held_offset(&bounds)).cast();
        let table: *mut Best = step.shared().wrapping_add(self.best_offset(&bounds)).cast();
        let stride = BLOCK_GROUPS * GROUP_ROWS;
        // SAFETY: each thread has its own `rows` entries of the table.
        let mine = unsafe { std::slice::from_raw_parts_mut(table.add(worker.tid * bounds.outs), rows) };
        mine.fill(Best::NONE);
        for block in worker.chunks(groups_of(args.weights.rows), BLOCK_GROUPS) {
            let from = block.start * GROUP_ROWS;
            let len = (block.end * GROUP_ROWS).min(args.weights.rows) - from;
            let output = Output { start: held.wrapping_sub(from), stride };
            // SAFETY: the block's columns lie inside this thread's private memory.
            unsafe { step.kernels.matmul(&MatmulArgs { groups: block, output, ..args.clone() }) };
            for (row, best) in mine.iter_mut().enumerate() {
                // SAFETY: the product was just written.
                let logits = unsafe { std::slice::from_raw_parts(held.add(row * stride), len) };
                *best = best.or(step.kernels.argmax(logits, from as u32));
            }
        }
        worker.barrier();
        if worker.tid == 0 {
            let out: *mut u32 = step.address(self.out).cast();
            for row in 0..rows {
                // SAFETY: all threads' entries were written before the barrier.
                let all = (0..worker.threads).map(|t| unsafe { *table.add(t * bounds.outs + row) });
                let best = all.fold(Best::NONE, Best::or);
                // SAFETY: the result has a word for each output row; only this thread writes them.
                unsafe { *out.add(row) = best.index };
            }
        }
    }
}
