//! `reduce`: folds one dimension to 1, each result element independently.

use super::single::{Node, Single};
use super::tensor::OpTensor;
use crate::pool::Worker;
use crate::step::StepView;
use aio_ir::float::{maximum, minimum};

/// See the module documentation.
pub(crate) struct Reduce {
    kind: &'static str,
    axis: usize,
    x: OpTensor,
    out: OpTensor,
}

impl Reduce {
    pub(crate) fn new(node: &Node<'_>) -> Reduce {
        let (kind, axis) = (node.node.word("kind"), node.node.int("axis") as usize);
        Reduce { kind, axis, x: node.input(0).clone(), out: node.outs[0].clone() }
    }

    fn fold(&self, column: impl Iterator<Item = f32>, size: usize) -> f32 {
        match self.kind {
            "max" => column.fold(f32::NEG_INFINITY, maximum),
            "min" => column.fold(f32::INFINITY, minimum),
            // In Rust an empty sum is -0.
            "sum" if size == 0 => 0.0,
            "sum" => column.map(f64::from).sum::<f64>() as f32,
            _ => (column.map(f64::from).sum::<f64>() / size as f64) as f32,
        }
    }
}

impl Single for Reduce {
    fn run(&self, step: &StepView<'_>, worker: Worker<'_>) {
        let dims = self.x.extents(step);
        let size = dims[self.axis];
        let inner: usize = dims[self.axis + 1..].iter().product();
        let mine = worker.share(self.out.extents(step).elems());
        // SAFETY: an earlier task or the caller wrote x; elements of the result are shared out.
        let (x, out) = unsafe { (self.x.f32s(step), self.out.part::<f32>(step, mine.clone())) };
        for (at, out) in mine.zip(out) {
            let first = at / inner * size * inner + at % inner;
            *out = self.fold((0..size).map(|s| x[first + s * inner]), size);
        }
    }
}
