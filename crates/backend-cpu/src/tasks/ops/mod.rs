//! Single ops: a node by itself, for any shape and every element type the oracle supports.
//!
//! An unfused plan consists of these. A fused task whose kernels do not fit its operands also runs as the single ops of its
//! body. One file per group of ops; kernels divide whole result elements, rows or heads between threads.

mod cache;
mod choose;
mod convert;
mod elements;
mod elementwise;
mod layout;
mod linear;
mod lookup;
mod norm;
mod position;
mod reduce;
mod sample;
mod single;
mod tensor;
mod walk;

pub(crate) use single::Cx;

use crate::bounds::{Bounds, Scratch};
use crate::error::unsupported;
use crate::pool::Worker;
use crate::step::StepView;
use crate::tensor_loc::TensorLoc;
use aio_backend::DeviceError;
use aio_ir::{Def, Dim, Group, Op, ValueId};
use aio_plan::{Loc, Task};
use single::{Node, Single};
use tensor::{MAX_RANK, OpTensor};

/// A task that runs node by node, with a barrier between nodes.
pub(crate) struct Nodes {
    kernels: Vec<Box<dyn Single>>,
    held_bytes: usize,
}

impl Nodes {
    /// Binds the nodes of a task's body.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`] for tensors with too many dimensions, and for values of unbounded size.
    pub(crate) fn new(cx: &Cx<'_>) -> Result<Nodes, DeviceError> {
        let task = cx.task;
        let mut places = BodyLocs::of(task);
        let mut kernels = Vec::new();
        for (_, node) in task.body.nodes() {
            let view = node.op == Op::Reshape && places.get(node.results[0]).is_none();
            if view {
                let place = places.get(node.input(0));
                places.set(node.results[0], place);
                continue;
            }
            for &result in &node.results {
                if places.get(result).is_none() {
                    places.hold(result, cx)?;
                }
            }
            let bound = places.node(node, cx)?;
            kernels.push(kernel(cx, &bound));
        }
        Ok(Nodes { kernels, held_bytes: places.held_bytes })
    }

    pub(crate) fn scratch(&self, bounds: &Bounds) -> Scratch {
        let all = self.kernels.iter().map(|k| k.scratch(bounds)).fold(Scratch::default(), Scratch::max);
        Scratch { held: self.held_bytes, ..all }
    }

    pub(crate) fn run(&self, step: &StepView<'_>, worker: Worker<'_>) {
        for (i, kernel) in self.kernels.iter().enumerate() {
            if i > 0 {
                worker.barrier();
            }
            kernel.run(step, worker);
        }
    }
}

/// Locations of a body's values as they become known.
struct BodyLocs<'a> {
    task: &'a Task,
    of: Vec<Option<TensorLoc>>,
    held_bytes: usize,
}

impl<'a> BodyLocs<'a> {
    /// Declared values correspond to the operands that are present, roots to the results.
    fn of(task: &'a Task) -> BodyLocs<'a> {
        let body = &task.body;
        let mut places = BodyLocs { task, of: vec![None; body.values().len()], held_bytes: 0 };
        let declared = body.values().filter(|(_, v)| !matches!(v.def, Def::Node { .. })).map(|(id, _)| id);
        let operands = task.operands.iter().filter(|s| **s != Loc::Absent);
        for (value, loc) in declared.zip(operands).chain(body.roots().zip(&task.results)) {
            places.set(value, Some(TensorLoc::Planned(*loc)));
        }
        places
    }

    fn get(&self, value: ValueId) -> Option<TensorLoc> {
        self.of[value.index()]
    }

    fn set(&mut self, value: ValueId, place: Option<TensorLoc>) {
        self.of[value.index()] = place;
    }

    /// Reserves scratch memory for a value that never leaves the task; states keep their location.
    fn hold(&mut self, value: ValueId, cx: &Cx<'_>) -> Result<(), DeviceError> {
        let ty = self.task.body.ty(value);
        let bytes = ty.bytes(&cx.plan.bucket.bounds()).and_then(|b| usize::try_from(b).ok());
        let bytes = bytes.ok_or_else(|| unsupported(cx.task, format!("a value of {ty}, which is too large")))?;
        self.set(value, Some(TensorLoc::Held(self.held_bytes)));
        self.held_bytes += bytes.next_multiple_of(64);
        Ok(())
    }

    fn node<'n>(&self, node: &'n aio_ir::Node, cx: &Cx<'_>) -> Result<Node<'n>, DeviceError> {
        if node.op.spec().group == Group::Slots {
            return Err(unsupported(cx.task, "it has no kernel"));
        }
        let inputs = node.inputs.iter().map(|v| v.map(|v| self.tensor(v, cx)).transpose());
        let inputs = inputs.collect::<Result<_, _>>()?;
        if node.op == Op::Attend && self.task.body.ty(node.results[0]).shape.last().known().is_none() {
            return Err(unsupported(cx.task, "heads of a size that depends on the step"));
        }
        let symbols = |v: ValueId| {
            self.task.body.ty(v).shape.dims().iter().filter_map(|d| if let Dim::Sym(s) = d { Some(*s) } else { None })
        };
        let unbounded = |v: ValueId| symbols(v).any(|s| !s.has_bound());
        if node.op == Op::Matmul && node.results.iter().any(|&v| unbounded(v)) {
            return Err(unsupported(cx.task, "a product whose number of rows no bucket bounds"));
        }
        let outs = node.results.iter().map(|&v| self.tensor(v, cx)).collect::<Result<_, _>>()?;
        Ok(Node { node, inputs, outs })
    }

    fn tensor(&self, value: ValueId, cx: &Cx<'_>) -> Result<OpTensor, DeviceError> {
        let ty = self.task.body.ty(value);
        let place = self.get(value).expect("operands come before their users");
        let symbols = || ty.shape.dims().iter().filter_map(|d| if let Dim::Sym(s) = d { Some(*s) } else { None });
        let unbounded = symbols().any(|s| !s.has_bound());
        if ty.shape.rank() > MAX_RANK {
            return Err(unsupported(cx.task, format!("a value of {ty}, of more than {MAX_RANK} dimensions")));
        }
        match place {
            TensorLoc::Held(_) | TensorLoc::Planned(Loc::Buffer(_)) if unbounded => {
                Err(unsupported(cx.task, format!("a computed value of {ty}, whose size no bucket bounds")))
            }
            _ => Ok(OpTensor::new(place, ty)),
        }
    }
}

/// The kernel of a node.
fn kernel(cx: &Cx<'_>, node: &Node<'_>) -> Box<dyn Single> {
    use Op::*;
    match node.node.op {
        Fill | Iota => Box::new(layout::Source::new(node)),
        Embed => Box::new(lookup::Embed::new(cx, node)),
        Gather => Box::new(lookup::Gather::new(node)),
        Scatter => Box::new(lookup::Scatter::new(node)),
        Matmul => linear::matmul(cx, node),
        Add | Sub | Mul | Div | Min | Max | Compare | Select | Neg | Silu | Gelu | Relu | Tanh | Sigmoid | Exp
        | Log | Sqrt | Rsqrt | Sin | Cos => Box::new(elementwise::Elementwise::new(node)),
        RmsNorm | LayerNorm | Softmax => Box::new(norm::RowNorm::new(node)),
        Rope => Box::new(position::Rope::new(cx, node)),
        PageWrite => Box::new(cache::PageWrite::new(node)),
        Attend => Box::new(cache::Attend::new(node)),
        Commit => Box::new(cache::Commit::new(node)),
        Slice | Reshape | Transpose | Broadcast => Box::new(layout::Copy::new(node)),
        Concat => Box::new(layout::Concat::new(node)),
        Cast => Box::new(convert::Cast::new(node)),
        Quantize | Dequantize => Box::new(convert::Blocks::new(node)),
        Reduce => Box::new(reduce::Reduce::new(node)),
        Cumsum => Box::new(norm::Cumsum::new(node)),
        Argmax => Box::new(choose::Argmax::new(node)),
        TopK => Box::new(choose::TopK::new(node)),
        Sample => Box::new(sample::Sample::new(cx, node)),
        Verify => Box::new(choose::Verify::new(node)),
        Conv | DeltaRule => unreachable!("`BodyLocs::node` refuses them"),
    }
}
