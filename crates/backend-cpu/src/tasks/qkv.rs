//! Query, key and value projections, head norms, rotation and page write.
//!
//! Threads process whole heads of queries, keys and values, so norm, rotation and page write need no barrier after the
//! products.

use super::acts::{Acts, Prepared};
use super::linear::{groups_from, packed};
use super::prelude::RopeRows;
use crate::bounds::{Bounds, Scratch};
use crate::format::GROUP_ROWS;
use crate::kernels::attend::PAGE_POSITIONS;
use crate::kernels::matmul::{MatmulArgs, Output};
use crate::kernels::rows::{NormArgs, RopeArgs, RopeStyle};
use crate::pool::Worker;
use crate::step::StepView;
use crate::weights::Weight;
use aio_plan::kinds::qkv;
use aio_plan::{Loc, QkvSpec, RopePairs, Task};

/// See the module documentation.
pub(crate) struct Qkv {
    spec: QkvSpec,
    acts: Acts,
    rope: RopeRows,
    x: Loc,
    weights: [Loc; 3],
    biases: [Loc; 3],
    norms: [Loc; 2],
    positions: Loc,
    kv: Loc,
    table: Loc,
    row_seq: Loc,
    out: Loc,
}

impl Qkv {
    pub(crate) fn new<'w>(
        task: &Task,
        spec: QkvSpec,
        weight: impl Fn(Loc) -> Option<&'w Weight>,
        rope: RopeRows,
    ) -> Qkv {
        let o = qkv::Operands::of(&task.operands);
        let weights = [o.wq, o.wk, o.wv];
        let acts = Acts::new(Some((o.norm, spec.norm_eps)), weights.into_iter().filter_map(weight));
        Qkv {
            spec,
            acts,
            rope,
            x: o.x,
            weights,
            biases: [o.bq, o.bk, o.bv],
            norms: [o.q_norm, o.k_norm],
            positions: o.positions,
            kv: o.kv,
            table: o.page_table,
            row_seq: o.row_seq,
            out: task.results[qkv::OUT.q],
        }
    }

    pub(crate) fn first_weights<'s>(&self, step: &StepView<'s>, worker: Worker<'_>) -> &'s [u8] {
        let (heads, kv_heads) = (self.spec.heads as usize, self.spec.kv_heads as usize);
        let first = worker.share(heads + 2 * kv_heads).start;
        let (which, head) = match first.checked_sub(heads) {
            None => (0, first),
            Some(head) => (1 + head / kv_heads, head % kv_heads),
        };
        groups_from(step.weight(self.weights[which]), head * self.head_dim() / GROUP_ROWS)
    }

    fn head_dim(&self) -> usize {
        self.spec.head_dim as usize
    }

    /// A spare head, and one key or value head of all rows, follow the prepared rows in private memory.
    fn held_offset(&self, bounds: &Bounds) -> usize {
        self.acts.scratch(bounds, bounds.rows).private.next_multiple_of(64)
    }

    pub(crate) fn scratch(&self, bounds: &Bounds) -> Scratch {
        let acts = self.acts.scratch(bounds, bounds.rows);
        let held = (bounds.rows + 1) * self.head_dim() * size_of::<f32>();
        Scratch { private: self.held_offset(bounds) + held, ..acts }
    }

    pub(crate) fn run(&self, step: &StepView<'_>, worker: Worker<'_>) {
        let (rows, cols) = (step.rows(), self.acts.cols);
        // SAFETY: an earlier task wrote all rows of x.
        let x = unsafe { step.floats(self.x, rows * cols) };
        let prepared = self.acts.prepare(step, worker, rows, &|row| &x[row * cols..][..cols]);
        let (heads, kv_heads) = (self.spec.heads as usize, self.spec.kv_heads as usize);
        for head in worker.chunks(heads + 2 * kv_heads, 1).flatten() {
            match head.checked_sub(heads) {
                None => self.query(step, &prepared, head, worker),
                Some(head) => self.key_or_value(step, &prepared, head % kv_heads, head >= kv_heads, worker),
            }
        }
    }

    fn project(&self, step: &StepView<'_>, prepared: &Prepared<'_>, which: usize, head: usize, output: Output) {
        let w = step.weight(self.weights[which]);
        let per_head = self.head_dim() / GROUP_ROWS;
        let args = MatmulArgs {
            weights: packed(w),
            input: prepared.input(w),
            rows: step.rows(),
            groups: head * per_head..(head + 1) * per_head,
            bias: step.vector(self.biases[which]),
            residual: None,
            output,
        };
        // SAFETY: the callers own this head's columns of the output.
        unsafe { step.kernels.matmul(&args) };
    }

    /// Norm and rotation of a head in place; `spare` is a head's worth of memory.
    fn finish_head(&self, step: &StepView<'_>, row: usize, norm: Loc, head: &mut [f32], spare: &mut [f32]) {
        if let (Some(eps), Some(weight)) = (self.spec.qk_norm_eps, step.vector(norm)) {
            spare.copy_from_slice(head);
            step.kernels.norm(NormArgs { x: spare, weight, eps, out: head });
        }
        let (cos, sin) = self.rope.get(step, row);
        let style = match self.spec.rope.pairs {
            RopePairs::Adjacent => RopeStyle::Interleaved,
            RopePairs::Halves => RopeStyle::Halves,
        };
        step.kernels.rope(RopeArgs { head, cos, sin, style });
    }

    fn held(&self, step: &StepView<'_>, worker: Worker<'_>) -> *mut f32 {
        let bounds = Bounds { rows: step.plan.bucket.rows as usize, outs: 0, threads: worker.threads, pages: 0 };
        step.private(worker.tid).wrapping_add(self.held_offset(&bounds)).cast()
    }

    fn query(&self, step: &StepView<'_>, prepared: &Prepared<'_>, head: usize, worker: Worker<'_>) {
        let (hd, stride) = (self.head_dim(), self.spec.heads as usize * self.head_dim());
        let start: *mut f32 = step.address(self.out).cast();
        self.project(step, prepared, 0, head, Output { start, stride });
        // SAFETY: a head's worth of this thread's private memory.
        let spare = unsafe { std::slice::from_raw_parts_mut(self.held(step, worker), hd) };
        for row in 0..step.rows() {
            // SAFETY: the head was just written by this thread, which alone uses it.
            let q = unsafe { std::slice::from_raw_parts_mut(start.add(row * stride + head * hd), hd) };
            self.finish_head(step, row, self.norms[0], q, spare);
        }
    }

    fn key_or_value(&self, step: &StepView<'_>, prepared: &Prepared<'_>, head: usize, value: bool, worker: Worker<'_>) {
        let (hd, rows) = (self.head_dim(), step.rows());
        let held = self.held(step, worker);
        let start = held.wrapping_add(hd);
        // Column `head * hd` of the product is column 0 of the held head.
        let output = Output { start: start.wrapping_sub(head * hd), stride: hd };
        self.project(step, prepared, 1 + usize::from(value), head, output);
        let kv = step.kv_layer(step.address(self.kv), self.spec.kv_heads as usize, hd);
        let (positions, seqs) = (step.words(self.positions), step.words(self.row_seq));
        let (table, stride) = (step.words(self.table), step.dims.stride as usize);
        // SAFETY: private memory: a spare head, then the heads just written.
        let (spare, heads) = unsafe {
            let slice = |at: *mut f32, len| std::slice::from_raw_parts_mut(at, len);
            (slice(held, hd), slice(start, rows * hd))
        };
        for (row, x) in heads.chunks_exact_mut(hd).enumerate() {
            let position = positions[row] as usize;
            let page = table[seqs[row] as usize * stride + position / PAGE_POSITIONS];
            let offset = position % PAGE_POSITIONS;
            if !value {
                self.finish_head(step, row, self.norms[1], x, spare);
            }
            // SAFETY: the executable checked the page; one thread writes a head's keys, one its values.
            unsafe { if value { kv.write_value(page, offset, head, x) } else { kv.write_key(page, offset, head, x) } }
        }
    }
}
