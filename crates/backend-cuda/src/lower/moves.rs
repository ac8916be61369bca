//! Ops that move boxes of elements: slices, transposed tensors, parts of a concatenation.

use super::Lowering;
use super::locs::small;
use crate::args::{CopyArgs, Dim, Tensor};
use aio_backend::DeviceError;
use aio_ir::Attr;
use aio_plan::Task;
use bytemuck::Zeroable;

impl Lowering<'_> {
    /// Copies all of `x` to all of `out`, in the same order.
    fn copy_args(&self, out: Tensor, x: Tensor) -> CopyArgs {
        let mut args = CopyArgs { step: self.header(), out, x, ..CopyArgs::zeroed() };
        for (i, axis) in args.perm.iter_mut().enumerate() {
            *axis = i as u32;
        }
        args
    }

    fn copy_box(&mut self, task: &Task, value: aio_ir::ValueId, args: &CopyArgs) {
        let blocks = self.blocks(self.elems(task, value).div_ceil(256));
        self.call("op_copy", [blocks, 1], 0, args);
    }

    pub(super) fn slice(&mut self, task: &Task) -> Result<(), DeviceError> {
        let node = self.node(task);
        let mut args = self.copy_args(self.output(task, 0)?, self.input(task, 0)?);
        let (axis, start) = (node.int("axis") as usize, node.int("start") as u64);
        args.from[axis] = Dim { value: small(task, start)?, symbol: 0 };
        self.copy_box(task, node.results[0], &args);
        Ok(())
    }

    pub(super) fn transpose(&mut self, task: &Task) -> Result<(), DeviceError> {
        let node = self.node(task);
        let mut args = self.copy_args(self.output(task, 0)?, self.input(task, 0)?);
        if let Attr::Ints(perm) = node.attr("perm") {
            for (place, &axis) in args.perm.iter_mut().zip(perm) {
                *place = axis as u32;
            }
        }
        self.copy_box(task, node.results[0], &args);
        Ok(())
    }

    pub(super) fn concat(&mut self, task: &Task) -> Result<(), DeviceError> {
        let node = self.node(task);
        let axis = node.int("axis") as usize;
        let (out, a, b) = (self.output(task, 0)?, self.input(task, 0)?, self.input(task, 1)?);
        let first = CopyArgs { box_of_x: 1, ..self.copy_args(out, a) };
        self.copy_box(task, node.input(0), &first);
        let mut second = CopyArgs { box_of_x: 1, ..self.copy_args(out, b) };
        second.to[axis] = a.dims[axis];
        self.copy_box(task, node.input(1), &second);
        Ok(())
    }
}
