//! Tasks: one kernel's work each.

use crate::bucket::Bucket;
use crate::kind::TaskKind;
use aio_ir::{Cost, Graph, entity_id};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::fmt;
use std::sync::Arc;

entity_id! {
    /// A buffer of a plan's arena.
    BufferId, "b"
}
entity_id! {
    /// A task of a plan.
    TaskId, "t"
}
entity_id! {
    /// A weight of a family.
    WeightId, "w"
}
entity_id! {
    /// A state of a family.
    StateId, "s"
}
entity_id! {
    /// An input that a step binds.
    InputId, "in"
}
entity_id! {
    /// An output that a step binds.
    OutputId, "out"
}

/// Where an operand or result lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "crate::artefact::wire::WireSlot", try_from = "crate::artefact::wire::WireSlot")]
pub enum Slot {
    /// In the arena.
    Buffer(BufferId),
    /// In what the step binds.
    Input(InputId),
    /// In what the step binds for results.
    Output(OutputId),
    /// A weight.
    Weight(WeightId),
    /// A state, read or updated in place.
    State(StateId),
    /// Nowhere: an optional operand that the model lacks.
    Absent,
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Slot::Buffer(id) => write!(f, "{id}"),
            Slot::Input(id) => write!(f, "{id}"),
            Slot::Output(id) => write!(f, "{id}"),
            Slot::Weight(id) => write!(f, "{id}"),
            Slot::State(id) => write!(f, "{id}"),
            Slot::Absent => f.write_str("_"),
        }
    }
}

/// One kernel's work.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// What a back end maps to a kernel.
    pub kind: TaskKind,
    /// What it means. Declared value `i` is the `i`-th operand that is not absent; result `i` is output `i`; final
    /// states are updated in place and follow the outputs among the results. Tasks that mean the same may share one.
    pub body: Arc<Graph>,
    /// Operands in the kind's order.
    pub operands: SmallVec<[Slot; 8]>,
    /// Results in the kind's order.
    pub results: SmallVec<[Slot; 2]>,
    /// Cost of a full bucket whose context is empty.
    pub cost: Cost,
    /// What each position of the context adds to that, for tasks that read the KV cache.
    pub cost_per_position: Cost,
}

impl Task {
    /// The same with the costs of its body, which has been verified.
    pub(crate) fn with_costs(self, (cost, cost_per_position): (Cost, Cost)) -> Task {
        Task { cost, cost_per_position, ..self }
    }

    /// A task of a plan for this bucket; its costs are those of its body.
    pub fn new(
        kind: TaskKind,
        body: Arc<Graph>,
        operands: SmallVec<[Slot; 8]>,
        results: SmallVec<[Slot; 2]>,
        bucket: Bucket,
    ) -> Task {
        let (cost, cost_per_position) = crate::cost::of_task(&body, bucket);
        Task { kind, body, operands, results, cost, cost_per_position }
    }
}
