//! Plans, and the family that shares weights, states and arena between them.

use crate::bucket::Bucket;
use crate::check::Check;
use crate::loc::{InputId, OutputId};
use crate::step::{StepInput, StepOutput};
use crate::target::Layout;
use crate::task::Task;
use aio_ir::{DType, Dim, Dims, PAGE_POSITIONS, Sym, TensorType};
use serde::{Deserialize, Serialize};

/// A weight as the device stores it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WeightDesc {
    /// Its name in the model file.
    pub name: String,
    /// Its type in the model file.
    #[serde(with = "crate::wire::tensor_type")]
    pub ty: TensorType,
    /// How the device lays it out.
    pub layout: Layout,
}

/// A state that the device keeps between steps.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StateDesc {
    /// Its name in the graph.
    pub name: String,
    /// Its type. The symbol `pages` is the size of the pool.
    #[serde(with = "crate::wire::tensor_type")]
    pub ty: TensorType,
}

/// Shape of one layer's KV state: `f16[pages, 2, heads, PAGE_POSITIONS, head_dim]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvShape {
    /// Key and value heads.
    pub heads: u32,
    /// Elements of a head.
    pub head_dim: u32,
}

impl StateDesc {
    /// The KV shape of the state, or `None` if it is not a KV cache.
    pub fn kv_shape(&self) -> Option<KvShape> {
        let [
            Dim::Sym(Sym::Pages),
            Dim::Const(2),
            Dim::Const(heads @ 1..),
            Dim::Const(PAGE_POSITIONS),
            Dim::Const(size @ 1..),
        ] = *self.ty.shape.dims()
        else {
            return None;
        };
        let shape = KvShape { heads: u32::try_from(heads).ok()?, head_dim: u32::try_from(size).ok()? };
        (self.ty.dtype == DType::F16).then_some(shape)
    }

    /// Whether its outermost dimension is the pages of the pool.
    pub fn is_paged(&self) -> bool {
        self.ty.shape.dims().first() == Some(&Sym::Pages.into())
    }
}

/// An input or output that a step binds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Binding {
    /// Its name in the graph.
    pub name: String,
    /// Its type.
    #[serde(with = "crate::wire::tensor_type")]
    pub ty: TensorType,
    /// Whether a step may leave it out. Always false for outputs.
    pub optional: bool,
}

/// A buffer in the arena.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Buffer {
    /// Its type. Sizes are the bucket's upper bounds.
    #[serde(with = "crate::wire::tensor_type")]
    pub ty: TensorType,
    /// Byte offset in the arena.
    pub offset: u64,
    /// Size in bytes at the bucket's bounds.
    pub bytes: u64,
}

/// A flat list of tasks for one bucket.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The bucket it is for.
    pub bucket: Bucket,
    /// Inputs, by [`InputId`].
    pub inputs: Vec<Binding>,
    /// Outputs, by [`OutputId`].
    pub outputs: Vec<Binding>,
    /// Arena buffers, by [`BufferId`](crate::BufferId).
    pub buffers: Vec<Buffer>,
    /// Tasks in order of execution, by [`TaskId`](crate::TaskId).
    pub tasks: Vec<Task>,
    /// Checks of each step's bindings; see [`Plan::with_checks`].
    pub checks: Vec<Check>,
    /// Bytes of the arena that this plan uses.
    pub arena_bytes: u64,
    /// Peak bytes of live buffers; no arena can be smaller.
    pub arena_lower_bound: u64,
}

impl Plan {
    /// The id of this step input, if the plan has it.
    pub fn step_input(&self, input: StepInput) -> Option<InputId> {
        self.input(input.name()).map(InputId::new)
    }

    /// The id of this step output, if the plan has it.
    pub fn step_output(&self, output: StepOutput) -> Option<OutputId> {
        self.output(output.name()).map(OutputId::new)
    }

    /// Index of an input by name.
    pub fn input(&self, name: &str) -> Option<usize> {
        self.inputs.iter().position(|b| b.name == name)
    }

    /// Index of an output by name.
    pub fn output(&self, name: &str) -> Option<usize> {
        self.outputs.iter().position(|b| b.name == name)
    }
}

impl PlanFamily {
    /// Upper bounds for the sizes of states with a pool of `pages` pages, over all plans.
    pub fn state_bounds(&self, pages: u32) -> Dims {
        let bounds = self.plans.iter().map(|p| p.bucket.bounds());
        bounds.fold(Dims { pages, ..Dims::default() }, |all, b| Dims {
            rows: all.rows.max(b.rows),
            seqs: all.seqs.max(b.seqs),
            outs: all.outs.max(b.outs),
            ..all
        })
    }
}

/// All plans of a model for a target.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanFamily {
    /// The model graph's name.
    pub model: String,
    /// The target's name.
    pub target: String,
    /// Weights, by [`WeightId`](crate::WeightId).
    pub weights: Vec<WeightDesc>,
    /// States, by [`StateId`](crate::StateId).
    pub states: Vec<StateDesc>,
    /// Plans, one per bucket.
    pub plans: Vec<Plan>,
    /// Size in bytes of the arena shared by all plans.
    pub arena_bytes: u64,
    /// Alignment of buffers in bytes.
    pub alignment: u64,
}
