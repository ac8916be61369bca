//! Ops that pick or replace slices by index: `embed`, `gather`, `scatter`.

use super::single::{Cx, Node, Single};
use super::tensor::OpTensor;
use crate::pool::Worker;
use crate::step::StepView;
use crate::tensor_loc::TensorLoc;
use crate::unpack::unpack_row;
use aio_ir::{Op, quant};
use aio_plan::{Layout, Loc};

/// `embed`: rows of a float table, decoded.
pub(crate) struct Embed {
    table: OpTensor,
    /// The table's location, if it is a packed weight.
    packed: Option<Loc>,
    ids: OpTensor,
    out: OpTensor,
}

impl Embed {
    pub(crate) fn new(cx: &Cx<'_>, node: &Node<'_>) -> Embed {
        let (table, ids) = (node.input(0).clone(), node.input(1).clone());
        let packed = match table.place {
            TensorLoc::Planned(loc @ Loc::Weight(w)) if cx.resident.weights[w.index()].layout == Layout::Packed => {
                Some(loc)
            }
            _ => None,
        };
        Embed { table, packed, ids, out: node.outs[0].clone() }
    }
}

impl Single for Embed {
    fn run(&self, step: &StepView<'_>, worker: Worker<'_>) {
        // SAFETY: an earlier task or the caller wrote them.
        let ids = unsafe { self.ids.indices(step) };
        let table = self.table.extents(step);
        let (rows, cols) = (table[0], table[1]);
        for i in worker.share(ids.len()) {
            // SAFETY: the result has a row for each id, and rows are shared out.
            let out = unsafe { self.out.part::<f32>(step, i * cols..(i + 1) * cols) };
            let Some(row) = step.fault.check(Op::Embed, "token", ids.get(i), rows) else { continue };
            match self.packed {
                Some(loc) => {
                    let w = step.weight(loc);
                    unpack_row(w.dtype, &w.bytes, row, out);
                }
                None => {
                    // SAFETY: an earlier task wrote the table, if it is no weight.
                    let bytes = unsafe { self.table.bytes(step) }.unwrap_or(&[]);
                    let len = bytes.len() / rows;
                    let row = &bytes[row * len..][..len];
                    quant::dequantize(self.table.dtype, row, out).expect("V013: rows are whole blocks");
                }
            }
        }
    }
}

/// `gather`: slices of the first dimension, in stored form.
pub(crate) struct Gather {
    x: OpTensor,
    index: OpTensor,
    out: OpTensor,
}

impl Gather {
    pub(crate) fn new(node: &Node<'_>) -> Gather {
        let (x, index) = (node.input(0).clone(), node.input(1).clone());
        Gather { x, index, out: node.outs[0].clone() }
    }
}

impl Single for Gather {
    fn run(&self, step: &StepView<'_>, worker: Worker<'_>) {
        // SAFETY: earlier tasks or the caller wrote the operands.
        let (x, index) = unsafe { (self.x.bytes(step).unwrap_or(&[]), self.index.indices(step)) };
        let rows = self.x.extents(step)[0];
        let len = x.len().checked_div(rows).unwrap_or(0);
        for i in worker.share(index.len()) {
            let Some(row) = step.fault.check(Op::Gather, "row", index.get(i), rows) else { continue };
            // SAFETY: the result has a slice for each index, and slices are shared out.
            unsafe { self.out.part::<u8>(step, i * len..(i + 1) * len) }.copy_from_slice(&x[row * len..][..len]);
        }
    }
}

/// `scatter`: a copy with some slices replaced. Each thread owns slices of the result, so the last write wins.
pub(crate) struct Scatter {
    x: OpTensor,
    index: OpTensor,
    updates: OpTensor,
    out: OpTensor,
}

impl Scatter {
    pub(crate) fn new(node: &Node<'_>) -> Scatter {
        let (x, index) = (node.input(0).clone(), node.input(1).clone());
        Scatter { x, index, updates: node.input(2).clone(), out: node.outs[0].clone() }
    }
}

impl Single for Scatter {
    fn run(&self, step: &StepView<'_>, worker: Worker<'_>) {
        // SAFETY: earlier tasks or the caller wrote the operands.
        let (x, index, updates) = unsafe {
            (self.x.bytes(step).unwrap_or(&[]), self.index.indices(step), self.updates.bytes(step).unwrap_or(&[]))
        };
        let rows = self.x.extents(step)[0];
        let len = x.len().checked_div(rows).unwrap_or(0);
        let mine = worker.share(rows);
        // SAFETY: slices of the result are shared out.
        let out = unsafe { self.out.part::<u8>(step, mine.start * len..mine.end * len) };
        out.copy_from_slice(&x[mine.start * len..mine.end * len]);
        for i in 0..index.len() {
            let Some(row) = step.fault.check(Op::Scatter, "row", index.get(i), rows) else { continue };
            if mine.contains(&row) {
                out[(row - mine.start) * len..][..len].copy_from_slice(&updates[i * len..][..len]);
            }
        }
    }
}
