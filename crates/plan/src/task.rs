//! Tasks: the work of one kernel each.

use crate::bucket::Bucket;
use crate::kinds::TaskKind;
use crate::loc::Loc;
use aio_ir::{Cost, Graph, entity_id};
use smallvec::SmallVec;
use std::sync::Arc;

entity_id! {
    /// A task of a plan.
    TaskId, "t"
}

/// The work of one kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// The kind, which a back end maps to a kernel.
    pub kind: TaskKind,
    /// Its meaning. Declared value `i` is the `i`-th operand that is not absent, and result `i` is output `i`. Final
    /// states are updated in place and follow the outputs among the results. Tasks with the same meaning may share a
    /// body.
    pub body: Arc<Graph>,
    /// Operands in the kind's order.
    pub operands: SmallVec<[Loc; 8]>,
    /// Results in the kind's order.
    pub results: SmallVec<[Loc; 2]>,
    /// Cost of a full bucket with an empty context.
    pub cost: Cost,
    /// Additional cost per position of context, for tasks that read the KV cache.
    pub cost_per_position: Cost,
}

impl Task {
    /// Sets the costs, which are those of its verified body.
    pub(crate) fn with_costs(self, (cost, cost_per_position): (Cost, Cost)) -> Task {
        Task { cost, cost_per_position, ..self }
    }

    /// Makes a task of a plan for this bucket. Its costs are computed from its body.
    pub fn new(
        kind: TaskKind,
        body: Arc<Graph>,
        operands: SmallVec<[Loc; 8]>,
        results: SmallVec<[Loc; 2]>,
        bucket: Bucket,
    ) -> Task {
        let (cost, cost_per_position) = crate::cost::of_task(&body, bucket);
        Task { kind, body, operands, results, cost, cost_per_position }
    }
}
