//! Tasks: one kernel's work each.

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

/// One kernel's work.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// What a back end maps to a kernel.
    pub kind: TaskKind,
    /// What it means. Declared value `i` is the `i`-th operand that is not absent; result `i` is output `i`; final
    /// states are updated in place and follow the outputs among the results. Tasks that mean the same may share one.
    pub body: Arc<Graph>,
    /// Operands in the kind's order.
    pub operands: SmallVec<[Loc; 8]>,
    /// Results in the kind's order.
    pub results: SmallVec<[Loc; 2]>,
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
        operands: SmallVec<[Loc; 8]>,
        results: SmallVec<[Loc; 2]>,
        bucket: Bucket,
    ) -> Task {
        let (cost, cost_per_position) = crate::cost::of_task(&body, bucket);
        Task { kind, body, operands, results, cost, cost_per_position }
    }
}
