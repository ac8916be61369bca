//! A single node: the context it is bound in, and its kernel.

use super::tensor::OpTensor;
use crate::bounds::{Bounds, Scratch};
use crate::pool::Worker;
use crate::resident::Resident;
use crate::step::StepView;
use aio_plan::{Plan, Task};
use smallvec::SmallVec;

/// A node bound to a kernel. All threads run it at once.
pub(crate) trait Single: Send + Sync {
    /// Scratch memory it needs in a step within the bounds.
    fn scratch(&self, _: &Bounds) -> Scratch {
        Scratch::default()
    }

    /// This thread's share.
    fn run(&self, step: &StepView<'_>, worker: Worker<'_>);
}

/// The context in which a node is bound.
pub(crate) struct Cx<'a> {
    pub task: &'a Task,
    pub plan: &'a Plan,
    pub resident: &'a Resident,
}

/// A node with the tensors of its operands and results.
pub(crate) struct Node<'a> {
    pub node: &'a aio_ir::Node,
    pub inputs: SmallVec<[Option<OpTensor>; 6]>,
    pub outs: SmallVec<[OpTensor; 2]>,
}

impl Node<'_> {
    pub(super) fn input(&self, i: usize) -> &OpTensor {
        self.inputs[i].as_ref().expect("V003: required operands are present")
    }
}
