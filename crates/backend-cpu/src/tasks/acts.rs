//! The left operand of products: rows, normed if asked, quantised for block-format weights.
//!
//! With few rows every thread prepares all of them, which costs less than a barrier; with more, the threads share the work.
//! Either way a row's bits depend only on that row.

use crate::activation::{ActBlock, act_blocks, act_row};
use crate::bounds::{Bounds, Scratch};
use crate::format::layout;
use crate::kernels::matmul::Input;
use crate::kernels::rows::{NormArgs, QuantizeArgs};
use crate::pool::Worker;
use crate::step::StepView;
use crate::weights::Weight;
use aio_plan::Loc;
use std::ops::Range;

/// Up to this many rows, each thread prepares all of them.
pub(super) const PRIVATE_ROWS: usize = 4;

/// How a task prepares its rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acts {
    /// Elements of a row.
    pub cols: usize,
    /// Norm weight and epsilon.
    pub norm: Option<(Loc, f32)>,
    /// Some weight matrix wants quantised blocks.
    blocks: bool,
    /// Some weight matrix wants f32 rows.
    plain: bool,
}

/// Prepared rows.
pub(crate) struct Prepared<'a> {
    blocks: &'a [ActBlock],
    plain: &'a [f32],
}

impl<'a> Prepared<'a> {
    /// In the form a weight's kernels take.
    pub(crate) fn input(&self, weight: &Weight) -> Input<'a> {
        if layout(weight.dtype).is_some() { Input::Quantized(self.blocks) } else { Input::Plain(self.plain) }
    }
}

/// The source of row `i` of the operand.
pub(crate) type RowSource<'s> = &'s (dyn Fn(usize) -> &'s [f32] + Sync);

impl Acts {
    /// For products with these matrices, which have equal column counts.
    pub(crate) fn new<'w>(norm: Option<(Loc, f32)>, matrices: impl IntoIterator<Item = &'w Weight>) -> Acts {
        let mut acts = Acts { cols: 0, norm, blocks: false, plain: false };
        for w in matrices {
            acts.cols = w.cols;
            acts.blocks |= layout(w.dtype).is_some();
            acts.plain |= layout(w.dtype).is_none();
        }
        acts
    }

    fn bytes(&self, rows: usize) -> usize {
        let blocks = if self.blocks { act_blocks(rows, self.cols) * size_of::<ActBlock>() } else { 0 };
        blocks.next_multiple_of(64) + self.plain_rows(rows) * self.row_bytes()
    }

    fn row_bytes(&self) -> usize {
        (self.cols * size_of::<f32>()).next_multiple_of(64)
    }

    /// f32 rows are kept only if kernels take them; otherwise a single row serves as the norm's output.
    fn plain_rows(&self, rows: usize) -> usize {
        if self.plain { rows } else { usize::from(self.norm.is_some()) }
    }

    /// Scratch memory for up to `rows` rows.
    pub(crate) fn scratch(&self, bounds: &Bounds, rows: usize) -> Scratch {
        let private = self.bytes(rows.min(PRIVATE_ROWS));
        let shared = if rows > PRIVATE_ROWS { self.bytes(rows) + bounds.threads * self.row_bytes() } else { 0 };
        Scratch { private, shared: shared.next_multiple_of(64), held: 0 }
    }

    /// Prepares `rows` rows. All threads call it; with many rows it contains a barrier.
    pub(crate) fn prepare<'s>(
        &self,
        step: &'s StepView<'_>,
        worker: Worker<'_>,
        rows: usize,
        source: RowSource<'_>,
    ) -> Prepared<'s> {
        let alone = rows <= PRIVATE_ROWS;
        let base = if alone { step.private(worker.tid) } else { step.shared() };
        let blocks_len = if self.blocks { act_blocks(rows, self.cols) } else { 0 };
        let blocks: *mut ActBlock = base.cast();
        let plain: *mut f32 = base.wrapping_add((blocks_len * size_of::<ActBlock>()).next_multiple_of(64)).cast();
        let mine = if alone { 0..rows } else { worker.share(rows) };
        let spare = if alone { 0 } else { worker.tid };
        self.rows(step, mine, rows, spare, source, blocks, plain);
        if !alone {
            worker.barrier();
        }
        let plain_len = if self.plain { self.plain_rows(rows) * self.row_bytes() / size_of::<f32>() } else { 0 };
        // SAFETY: `scratch` reserves this much; every row was written by this thread, or by others before the barrier, and
        // nothing writes to it again before the task ends.
        unsafe {
            Prepared {
                blocks: std::slice::from_raw_parts(blocks, blocks_len),
                plain: std::slice::from_raw_parts(plain, plain_len),
            }
        }
    }

    /// Prepares some rows.
    #[expect(clippy::too_many_arguments, reason = "places computed once by `prepare`, its only caller")]
    fn rows(
        &self,
        step: &StepView<'_>,
        mine: Range<usize>,
        rows: usize,
        spare: usize,
        source: RowSource<'_>,
        blocks: *mut ActBlock,
        plain: *mut f32,
    ) {
        for row in mine {
            let place = if self.plain { row * self.cols } else { spare * self.row_bytes() / size_of::<f32>() };
            let x = source(row);
            let x = if self.plain || self.norm.is_some() {
                // SAFETY: each row, or each thread's spare row, has its own place inside the scratch memory.
                let out = unsafe { std::slice::from_raw_parts_mut(plain.add(place), self.cols) };
                self.norm_or_copy(step, x, out);
                &*out
            } else {
                x
            };
            if self.blocks {
                let (first, stride) = act_row(row, rows, self.cols);
                // SAFETY: rows have disjoint blocks, all inside the scratch memory.
                unsafe { step.kernels.quantize(QuantizeArgs { x, out: blocks.add(first), stride }) };
            }
        }
    }

    fn norm_or_copy(&self, step: &StepView<'_>, x: &[f32], out: &mut [f32]) {
        match self.norm {
            None => out.copy_from_slice(x),
            Some((weight, eps)) => {
                let weight = step.weight(weight).f32s();
                step.kernels.norm(NormArgs { x, weight, eps, out });
            }
        }
    }
}
