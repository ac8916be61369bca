//! Attention over pages.
//!
//! Work is divided into items: some rows of one sequence, one key-value head, one split of 256 positions. The thread that
//! computes the only split of a row finishes the row; otherwise splits are joined in order after a barrier.

use crate::bounds::{Bounds, Scratch};
use crate::kernels::attend::{
    ATTEND_SCRATCH_LEN, AttendArgs, AttendRule, CombineArgs, PAGE_POSITIONS, Partials, SPLIT_POSITIONS, partials_len,
};
use crate::pool::Worker;
use crate::step::StepView;
use aio_plan::kinds::attend;
use aio_plan::{AttendSpec, Loc, Task};
use std::ops::Range;

/// Maximum rows of an item.
const ITEM_ROWS: usize = 8;
/// The same when there would be few items per thread: the few keys and values are then read more often.
const FEW_ITEM_ROWS: usize = 2;
/// Enough items per thread.
const ITEMS: usize = 4;
/// Approximate memory limit of partial results; more rows go in several passes.
const PARTIAL_BYTES: usize = 32 << 20;

/// See the module documentation.
pub(crate) struct Attend {
    spec: AttendSpec,
    rule: AttendRule,
    q: Loc,
    kv: Loc,
    table: Loc,
    positions: Loc,
    sinks: Loc,
    out: Loc,
}

/// Some rows of one sequence.
struct Block {
    seq: usize,
    rows: Range<usize>,
    splits: Range<usize>,
}

/// The rows of a pass and their division into blocks.
#[derive(Clone)]
struct Pass {
    rows: Range<usize>,
    item_rows: usize,
}

impl Attend {
    pub(crate) fn new(task: &Task, spec: AttendSpec) -> Attend {
        let o = attend::Operands::of(&task.operands);
        let rule = AttendRule {
            scale: spec.scale,
            window: (spec.window > 0).then_some(spec.window),
            soft_cap: (spec.soft_cap > 0.0).then_some(spec.soft_cap),
        };
        let out = task.results[attend::OUT.out];
        Attend { spec, rule, q: o.q, kv: o.kv, table: o.page_table, positions: o.positions, sinks: o.sinks, out }
    }

    fn partial_floats(&self, rows: usize, splits: usize) -> usize {
        partials_len(rows, self.spec.heads as usize, splits, self.spec.head_dim as usize)
    }

    /// Rows of one pass with this many splits: a multiple of an item's rows, so that no pass divides an item.
    fn pass_rows(&self, splits: usize) -> usize {
        let row = self.partial_floats(1, splits.max(1)) * size_of::<f32>();
        (PARTIAL_BYTES / row / ITEM_ROWS * ITEM_ROWS).max(ITEM_ROWS)
    }

    pub(crate) fn scratch(&self, bounds: &Bounds) -> Scratch {
        let all = (bounds.pages * PAGE_POSITIONS).div_ceil(SPLIT_POSITIONS).max(1);
        // Fewer splits allow more rows per pass, so the maximum may be at either end.
        let need = |splits: usize| self.partial_floats(self.pass_rows(splits).min(bounds.rows), splits);
        let shared = (1..=all).map(need).max().unwrap_or(0) * size_of::<f32>();
        Scratch { private: ATTEND_SCRATCH_LEN * size_of::<f32>(), shared, held: 0 }
    }

    pub(crate) fn run(&self, step: &StepView<'_>, worker: Worker<'_>) {
        let positions = step.words(self.positions);
        let last = positions.iter().copied().max().unwrap_or(0);
        let splits = self.rule.splits(last).end;
        let pass = self.pass_rows(splits);
        for first in (0..step.rows()).step_by(pass) {
            let rows = first..(first + pass).min(step.rows());
            if first > 0 {
                // The partial results of the last pass are still being joined.
                worker.barrier();
            }
            let items = rows.len().div_ceil(ITEM_ROWS) * splits * self.spec.kv_heads as usize;
            let item_rows = if items < ITEMS * worker.threads { FEW_ITEM_ROWS } else { ITEM_ROWS };
            self.pass(step, worker, Pass { rows, item_rows }, splits);
        }
    }

    /// Divides rows into blocks of one sequence, at multiples of `item_rows` of the step's rows.
    fn blocks<'s>(&'s self, step: &'s StepView<'_>, pass: &Pass) -> impl Iterator<Item = Block> + 's {
        let positions = step.words(self.positions);
        let Pass { rows, item_rows } = pass.clone();
        step.runs.iter().flat_map(move |run| {
            let run_rows = run.rows.start.max(rows.start)..run.rows.end.min(rows.end);
            let first = run_rows.start / item_rows;
            let last = if run_rows.is_empty() { first } else { run_rows.end.div_ceil(item_rows) };
            (first..last).map(move |item| {
                let rows = run_rows.start.max(item * item_rows)..run_rows.end.min((item + 1) * item_rows);
                let seen = rows.clone().map(|r| self.rule.splits(positions[r]));
                let splits = seen.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0);
                Block { seq: run.seq, rows, splits }
            })
        })
    }

    fn pass(&self, step: &StepView<'_>, worker: Worker<'_>, pass: Pass, splits: usize) {
        let kv_heads = self.spec.kv_heads as usize;
        let partials = Partials { start: step.shared().cast(), splits };
        let (mut items, mut joined_later) = (0, false);
        for block in self.blocks(step, &pass) {
            items += block.splits.len() * kv_heads;
            joined_later |= block.splits.len() > 1;
        }
        // A share's items come in order, so the search for a block continues from the previous one.
        let (mut blocks, mut block, mut first) = (self.blocks(step, &pass), None::<Block>, 0);
        for item in worker.chunks(items, 1).flatten() {
            if item < first {
                (blocks, block, first) = (self.blocks(step, &pass), None, 0);
            }
            let block = loop {
                let here = block.as_ref().map_or(0, |b| b.splits.len() * kv_heads);
                match block {
                    Some(ref found) if item < first + here => break found,
                    _ => (first, block) = (first + here, blocks.next()),
                }
                debug_assert!(block.is_some(), "items are counted over the same blocks");
            };
            let (split, kv_head) = (block.splits.start + (item - first) / kv_heads, (item - first) % kv_heads);
            self.item(step, worker, block, kv_head, split, partials, pass.rows.start);
        }
        if joined_later {
            worker.barrier();
            self.join(step, worker, &pass, partials);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the coordinates of an item, spelled out by its only caller")]
    fn item(
        &self,
        step: &StepView<'_>,
        worker: Worker<'_>,
        block: &Block,
        kv_head: usize,
        split: usize,
        partials: Partials,
        pass_start: usize,
    ) {
        let (heads, hd) = (self.spec.heads as usize, self.spec.head_dim as usize);
        let kv = step.kv_layer(step.address(self.kv), self.spec.kv_heads as usize, hd);
        // SAFETY: an earlier task wrote all queries.
        let q = unsafe { step.floats(self.q, step.rows() * heads * hd) };
        let stride = step.dims.stride as usize;
        let offset = self.partial_floats(block.rows.start - pass_start, partials.splits);
        let here = Partials { start: partials.start.wrapping_add(offset), splits: partials.splits };
        // SAFETY: this thread's private memory.
        let scratch = unsafe { std::slice::from_raw_parts_mut(step.private(worker.tid).cast(), ATTEND_SCRATCH_LEN) };
        let args = AttendArgs {
            kv,
            pages: &step.words(self.table)[block.seq * stride..][..stride],
            positions: &step.words(self.positions)[block.rows.clone()],
            q: &q[block.rows.start * heads * hd..block.rows.end * heads * hd],
            q_heads: heads,
            kv_head,
            split,
            rule: self.rule,
            partials: here,
            scratch,
        };
        // SAFETY: the executable checked the pages; one thread owns an item's partial results.
        unsafe { step.kernels.attend(args) };
        if block.splits.len() == 1 {
            let group = heads / self.spec.kv_heads as usize;
            for row in block.rows.clone() {
                for head in kv_head * group..(kv_head + 1) * group {
                    self.combine(step, row, head, partials, pass_start);
                }
            }
        }
    }

    /// Joins the splits of all rows that have more than one item.
    fn join(&self, step: &StepView<'_>, worker: Worker<'_>, pass: &Pass, partials: Partials) {
        let (heads, first) = (self.spec.heads as usize, pass.rows.start);
        let mine = worker.share(pass.rows.len() * heads);
        for block in self.blocks(step, pass).filter(|b| b.splits.len() > 1) {
            for row in block.rows {
                for head in (0..heads).filter(|head| mine.contains(&((row - first) * heads + head))) {
                    self.combine(step, row, head, partials, first);
                }
            }
        }
    }

    fn combine(&self, step: &StepView<'_>, row: usize, head: usize, partials: Partials, pass_start: usize) {
        let (heads, hd) = (self.spec.heads as usize, self.spec.head_dim as usize);
        let start: *mut f32 = step.address(self.out).cast();
        // SAFETY: the result has an element range for each row and head, and one thread joins each.
        let out = unsafe { std::slice::from_raw_parts_mut(start.add((row * heads + head) * hd), hd) };
        let position = step.words(self.positions)[row];
        let splits = self.rule.splits(position);
        let index = (row - pass_start) * heads + head;
        let sink = step.vector(self.sinks).map(|s| s[head]);
        // SAFETY: this row's splits were filled by this thread, or by others before the barrier.
        unsafe { step.kernels.combine(CombineArgs { partials, index, splits, sink, out }) };
    }
}
