//! Rows picked by index: of the packed embedding table, or of a buffer.

use super::unsupported;
use crate::pool::Worker;
use crate::step::Step;
use crate::unpack::unpack_row;
use aio_backend::DeviceError;
use aio_plan::{Plan, Slot, Task};

/// `embed`: rows of a packed table, decoded.
pub(crate) struct Embed {
    table: Slot,
    ids: Slot,
    out: Slot,
}

impl Embed {
    pub(crate) fn new(task: &Task) -> Embed {
        Embed { table: task.operands[0], ids: task.operands[1], out: task.results[0] }
    }

    pub(crate) fn run(&self, step: &Step<'_>, worker: Worker<'_>) {
        let table = step.weight(self.table);
        let out: *mut f32 = step.address(self.out).cast();
        let ids = step.words(self.ids);
        for row in worker.share(ids.len()) {
            // SAFETY: the result has a row for each id, and rows are shared out.
            let out = unsafe { std::slice::from_raw_parts_mut(out.add(row * table.cols), table.cols) };
            // The engine refuses ids beyond the vocabulary; clamping keeps a stray one inside the table.
            let id = (ids[row] as usize).min(table.rows - 1);
            unpack_row(table.dtype, &table.bytes, id, out);
        }
    }
}

/// `gather` of f32 rows.
pub(crate) struct Gather {
    x: Slot,
    index: Slot,
    out: Slot,
    cols: usize,
}

impl Gather {
    pub(crate) fn new(task: &Task, plan: &Plan) -> Result<Gather, DeviceError> {
        let (x, index, out) = (task.operands[0], task.operands[1], task.results[0]);
        let cols = match (x, plan.input("out_rows")) {
            (Slot::Buffer(b), Some(i)) if index == Slot::Input(aio_plan::InputId::new(i)) => {
                super::fits::row_width(&plan.buffers[b.index()].ty, aio_ir::Sym::Rows)
            }
            _ => None,
        };
        let cols = cols.ok_or_else(|| unsupported(task, "anything but output rows of an f32 buffer"))?;
        Ok(Gather { x, index, out, cols: cols as usize })
    }

    pub(crate) fn run(&self, step: &Step<'_>, worker: Worker<'_>) {
        // SAFETY: an earlier task wrote all rows of x.
        let x = unsafe { step.floats(self.x, step.rows() * self.cols) };
        let out: *mut f32 = step.address(self.out).cast();
        let index = step.words(self.index);
        for i in worker.share(index.len()) {
            let row = &x[index[i] as usize * self.cols..][..self.cols];
            // SAFETY: the result has a row for each index, and rows are shared out.
            unsafe { std::slice::from_raw_parts_mut(out.add(i * self.cols), self.cols) }.copy_from_slice(row);
        }
    }
}
