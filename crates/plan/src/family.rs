//! Plans, and the family that shares weights, states and arena between them.

use crate::bucket::Bucket;
use crate::check::Check;
use crate::loc::{InputId, OutputId};
use crate::step::{StepInput, StepOutput};
use crate::target::Layout;
use crate::task::Task;
use aio_ir::{Dims, KvShape, Op, Sym, TensorType, slots};
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
    /// Its type. The symbols `pages` and `slots` are the sizes of the pools.
    #[serde(with = "crate::wire::tensor_type")]
    pub ty: TensorType,
}

/// What a state is for, which follows from its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Keys and values of a layer, by pages.
    Pages(KvShape),
    /// Another record for each page.
    PageRecord,
    /// Recurrent state: a record for each slot.
    Slot,
    /// One tensor, or one entry for each sequence of the step.
    Plain,
}

/// Sizes of the pools that a device allocates for a family's states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolSizes {
    /// KV pages.
    pub pages: u32,
    /// Slots of recurrent state, including slot 0, which stays zero.
    pub slots: u32,
}

impl PoolSizes {
    /// A pool of pages only.
    pub const fn pages(pages: u32) -> PoolSizes {
        PoolSizes { pages, slots: 0 }
    }
}

impl StateDesc {
    /// What the state is for.
    pub fn role(&self) -> Role {
        match (self.kv_shape(), self.ty.shape.dims().first()) {
            (Some(kv), _) => Role::Pages(kv),
            (None, Some(&dim)) if dim == Sym::Pages.into() => Role::PageRecord,
            (None, Some(&dim)) if dim == Sym::Slots.into() => Role::Slot,
            _ => Role::Plain,
        }
    }

    /// The KV shape of the state, or `None` if it is not a KV cache.
    pub fn kv_shape(&self) -> Option<KvShape> {
        KvShape::of(&self.ty)
    }

    /// Whether its outermost dimension is the pages of the pool.
    pub fn is_paged(&self) -> bool {
        matches!(self.role(), Role::Pages(_) | Role::PageRecord)
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
    /// Positions in a KV page, if the family has KV pages and all layers agree.
    pub fn page_positions(&self) -> Option<u32> {
        let mut sizes = self.states.iter().filter_map(StateDesc::kv_shape).map(|kv| kv.positions);
        let first = sizes.next()?;
        sizes.all(|size| size == first).then_some(first)
    }

    /// Drafts of a sequence that a step may have: the least room of a slot state for pending rows. `None` if the family
    /// has no slots.
    pub fn slot_room(&self) -> Option<u32> {
        let bodies = self.plans.iter().flat_map(|p| &p.tasks).map(|t| &t.body);
        let nodes = bodies.flat_map(|body| body.nodes().map(move |(_, node)| (body, node)));
        let room = nodes.filter_map(|(body, node)| {
            let ty = |operand: usize| body.ty(node.input(operand));
            match node.op {
                Op::Conv => slots::ConvShape::of(ty(0), ty(2)).map(|s| s.room),
                Op::DeltaRule => slots::DeltaShape::of(ty(0), ty(1), ty(3)).map(|s| s.room),
                _ => None,
            }
        });
        room.min().map(|room| u32::try_from(room).unwrap_or(u32::MAX))
    }

    /// Upper bounds for the sizes of states with pools of these sizes, over all plans.
    pub fn state_bounds(&self, pools: PoolSizes) -> Dims {
        let PoolSizes { pages, slots } = pools;
        let bounds = self.plans.iter().map(|p| p.bucket.bounds());
        bounds.fold(Dims { pages, slots, ..Dims::default() }, |all, b| Dims {
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
