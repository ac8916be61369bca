//! `sample`: the chain of `aio_ir::sampling` on each row.
//!
//! In a step with fewer rows than threads, each row's vocabulary is divided into parts. Threads survey the parts, and draw
//! from them if nothing filters; then one thread per row does the rest (`chain`). Rows changed by bias or penalties are
//! not divided. The division does not affect the tokens: surveys and arg-max are the same however they are joined.

mod chain;
#[cfg(test)]
mod tests;

use super::single::{Cx, Node, Single};
use super::tensor::OpTensor;
use crate::bounds::{Bounds, Scratch};
use crate::kernels::choose::{BLOCK_TOKENS, NoisyArgs, Surveyed};
use crate::kernels::rows::Best;
use crate::pool::Worker;
use crate::step::StepView;
use aio_ir::SAMPLE_PARAMS;
use aio_ir::sampling::{SampleParams, SampleRow, sample};
use chain::{Chain, Work, is_adjusted, is_unfiltered};
use std::ops::Range;

/// See the module documentation.
pub(crate) struct Sample {
    logits: OpTensor,
    params: OpTensor,
    noise: OpTensor,
    recent: OpTensor,
    bias: Option<OpTensor>,
    out: OpTensor,
    /// Rows and tokens of the largest step, for which memory is laid out.
    rows: usize,
    vocabulary: usize,
}

/// The operands of a step.
struct SampleInputs<'s> {
    logits: &'s [f32],
    params: &'s [f32],
    noise: &'s [u32],
    recent: &'s [i32],
    look_back: usize,
    bias: Option<&'s [f32]>,
    rows: usize,
    vocabulary: usize,
}

impl<'s> SampleInputs<'s> {
    fn logits(&self, row: usize) -> &'s [f32] {
        &self.logits[row * self.vocabulary..][..self.vocabulary]
    }

    fn row(&self, row: usize) -> SampleRow<'s> {
        let width = SAMPLE_PARAMS as usize;
        SampleRow {
            params: SampleParams::from_row(&self.params[row * width..][..width]),
            noise: std::array::from_fn(|i| self.noise[row * 4 + i]),
            recent: &self.recent[row * self.look_back..][..self.look_back],
            bias: self.bias.map(|b| &b[row * self.vocabulary..][..self.vocabulary]),
        }
    }
}

/// Number of parts per row.
fn parts(rows: usize, threads: usize) -> usize {
    if rows < threads { threads.div_ceil(rows.max(1)) } else { 1 }
}

impl Sample {
    pub(crate) fn new(cx: &Cx<'_>, node: &Node<'_>) -> Sample {
        let logits = node.input(0).clone();
        let size = logits.extents_at(&cx.plan.bucket.bounds());
        let [params, noise, recent] = [1, 2, 3].map(|i| node.input(i).clone());
        let bias = node.inputs.get(4).cloned().flatten();
        let (rows, vocabulary) = (size.rows(), size.last());
        Sample { logits, params, noise, recent, bias, out: node.outs[0].clone(), rows, vocabulary }
    }

    fn operands<'s>(&self, step: &StepView<'s>) -> SampleInputs<'s> {
        let size = self.logits.extents(step);
        // SAFETY: earlier tasks or the caller wrote all operands.
        unsafe {
            SampleInputs {
                logits: self.logits.f32s(step),
                params: self.params.f32s(step),
                noise: self.noise.values(step).unwrap_or(&[]),
                recent: self.recent.values(step).unwrap_or(&[]),
                look_back: self.recent.extents(step).last(),
                bias: self.bias.as_ref().and_then(|b| b.values(step)),
                rows: size.rows(),
                vocabulary: size.last(),
            }
        }
    }

    fn blocks(&self) -> usize {
        self.vocabulary.div_ceil(BLOCK_TOKENS)
    }

    /// Bytes of the surveys of all rows; the parts' best tokens follow them.
    fn survey_bytes(&self) -> usize {
        (self.rows * self.blocks() * size_of::<f32>()).next_multiple_of(64)
    }

    /// The survey of some blocks of a row.
    ///
    /// # Safety
    /// Nothing writes to it while the slice lives, and nothing else uses it if this slice is written to.
    #[expect(clippy::mut_from_ref, reason = "threads write disjoint parts of what the step's pointers lead to")]
    unsafe fn survey<'s>(&self, step: &'s StepView<'_>, row: usize, blocks: Range<usize>) -> &'s mut [f32] {
        let start = step.shared().cast::<f32>().wrapping_add(row * self.blocks() + blocks.start);
        // SAFETY: `scratch` reserves an entry for each block of each row; the rest is guaranteed by the caller.
        unsafe { std::slice::from_raw_parts_mut(start, blocks.len()) }
    }

    /// Location of a part's best token. All parts lie inside the memory reserved by `scratch`.
    fn best(&self, step: &StepView<'_>, item: usize) -> *mut Best {
        step.shared().wrapping_add(self.survey_bytes()).cast::<Best>().wrapping_add(item)
    }

    /// Surveys a part of a row, and draws from it if nothing filters.
    fn part(&self, step: &StepView<'_>, all: &SampleInputs<'_>, item: usize, parts: usize) {
        let (row, part) = (item / parts, item % parts);
        let blocks = all.vocabulary.div_ceil(BLOCK_TOKENS);
        let share = |part: usize| blocks * part / parts;
        let blocks = share(part)..share(part + 1);
        let first = blocks.start * BLOCK_TOKENS;
        let x = &all.logits(row)[first..(blocks.end * BLOCK_TOKENS).min(all.vocabulary)];
        // SAFETY: each part has one owner, which alone uses its survey before the barrier.
        let maxima = unsafe { self.survey(step, row, blocks) };
        step.kernels.survey(x, maxima);
        let SampleRow { params, noise, .. } = all.row(row);
        if is_unfiltered(&params, all.vocabulary) {
            let (part, temperature) = (Surveyed { x, maxima }, params.temperature);
            let best = step.kernels.noisy_best(NoisyArgs { part, first: first as u32, temperature, noise });
            // SAFETY: each part has one owner and its own place.
            unsafe { self.best(step, item).write(best) };
        }
    }

    /// The token of a row whose parts are finished.
    fn joined(&self, step: &StepView<'_>, all: &SampleInputs<'_>, row: usize, parts: usize, work: Work<'_>) -> u32 {
        let sample_row = all.row(row);
        if is_unfiltered(&sample_row.params, all.vocabulary) {
            // SAFETY: all parts were written, by this thread or before the barrier.
            let best = (row * parts..(row + 1) * parts).map(|item| unsafe { self.best(step, item).read() });
            return best.fold(Best::NONE, Best::or).index;
        }
        // SAFETY: as above; nothing writes to them any more.
        let maxima = unsafe { self.survey(step, row, 0..all.vocabulary.div_ceil(BLOCK_TOKENS)) };
        Chain { kernels: step.kernels, row: &sample_row }.surveyed(Surveyed { x: all.logits(row), maxima }, work)
    }

    /// Rows of unbounded size, which no model has: computed by the definition, on the heap.
    fn unbounded(&self, step: &StepView<'_>, worker: Worker<'_>, all: &SampleInputs<'_>) {
        let mut list = Vec::new();
        for row in worker.share(all.rows) {
            self.write(step, row, sample(all.logits(row), &all.row(row), &mut list));
        }
    }

    fn write(&self, step: &StepView<'_>, row: usize, token: u32) {
        // SAFETY: the result has a word for each row, and each row is given to one thread.
        unsafe { self.out.part(step, row..row + 1).copy_from_slice(&[token]) };
    }
}

impl Single for Sample {
    fn scratch(&self, bounds: &Bounds) -> Scratch {
        let items = self.rows.max(2 * bounds.threads);
        let shared = self.survey_bytes() + items * size_of::<Best>();
        Scratch { private: Work::bytes(self.vocabulary), shared, held: 0 }
    }

    fn run(&self, step: &StepView<'_>, worker: Worker<'_>) {
        let all = self.operands(step);
        if all.rows > self.rows || all.vocabulary > self.vocabulary {
            return self.unbounded(step, worker, &all);
        }
        let parts = parts(all.rows, worker.threads);
        // SAFETY: this thread's private memory, as much as `scratch` asked for.
        let work = || unsafe { Work::at(step.private(worker.tid), all.vocabulary) };
        for item in worker.chunks(all.rows * parts, 1).flatten() {
            let row = item / parts;
            let sample_row = all.row(row);
            if is_adjusted(&sample_row) {
                if item % parts == 0 {
                    let chain = Chain { kernels: step.kernels, row: &sample_row };
                    self.write(step, row, chain.adjusted(all.logits(row), work()));
                }
                continue;
            }
            self.part(step, &all, item, parts);
            if parts == 1 {
                self.write(step, row, self.joined(step, &all, row, parts, work()));
            }
        }
        if parts == 1 {
            return;
        }
        worker.barrier();
        for row in worker.share(all.rows).filter(|&row| !is_adjusted(&all.row(row))) {
            self.write(step, row, self.joined(step, &all, row, parts, work()));
        }
    }
}
