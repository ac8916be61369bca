//! Bytes that a step moves: the one definition behind counters, rooflines and benchmarks.

use crate::family::{Plan, PlanFamily, Role};
use crate::kinds::TaskKind;
use crate::loc::Loc;
use aio_ir::cost::distinct_experts;
use aio_ir::{Dims, Graph, Node, Op, ValueId};

/// Memory traffic of a step: weights once, keys and values per position, slots per sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes of the weights that a step reads, as stored in the model file, each once. Tables that are only looked up
    /// are excluded, since only a few rows are read.
    pub weights: u64,
    /// Bytes of keys and values per position, over all layers.
    pub kv_per_position: u64,
    /// Bytes of a slot, over all layers. A step reads and writes one for each sequence.
    pub slots_per_sequence: u64,
    /// Weights of experts, of which a step reads those that its rows pick; not part of `weights`.
    pub experts: Vec<ExpertWeights>,
}

/// Weights of experts with the same numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpertWeights {
    /// Bytes of all experts, as stored in the model file.
    pub bytes: u64,
    /// Experts of a layer.
    pub total: u64,
    /// Experts of each row.
    pub picked: u64,
}

impl ExpertWeights {
    /// Expected bytes that a step of `rows` rows reads.
    fn read(&self, rows: u64) -> u64 {
        (self.bytes as f64 / self.total.max(1) as f64 * distinct_experts(self.total, self.picked, rows)) as u64
    }
}

/// The rows of a step and the context they read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepLoad {
    /// Rows, each of which writes its keys and values.
    pub rows: u64,
    /// Positions whose keys and values the step reads, each sequence's counted once.
    pub positions: u64,
    /// Sequences, each of which reads and writes a slot.
    pub sequences: u64,
}

impl Traffic {
    /// Bytes of weights that a step of `rows` rows reads. With experts it is the expected number.
    pub fn weights_of(&self, rows: u64) -> u64 {
        self.experts.iter().fold(self.weights, |sum, e| sum.saturating_add(e.read(rows)))
    }

    /// Bytes that a step reads.
    pub fn bytes_read(&self, load: StepLoad) -> u64 {
        let kept = load.positions.saturating_mul(self.kv_per_position);
        self.weights_of(load.rows).saturating_add(kept).saturating_add(self.slots(load))
    }

    /// Bytes that a step writes.
    pub fn bytes_written(&self, load: StepLoad) -> u64 {
        load.rows.saturating_mul(self.kv_per_position).saturating_add(self.slots(load))
    }

    /// Bytes of the slots that a step reads, and as many that it writes.
    fn slots(&self, load: StepLoad) -> u64 {
        load.sequences.saturating_mul(self.slots_per_sequence)
    }

    /// The traffic of a step of a plan.
    pub fn of(family: &PlanFamily, plan: &Plan) -> Traffic {
        let one = Dims { pages: 1, slots: 1, ..Dims::default() };
        let mut traffic = Traffic::default();
        for state in &family.states {
            let bytes = state.ty.bytes(&one).unwrap_or(0);
            match state.role() {
                Role::Pages(kv) => traffic.kv_per_position += bytes / u64::from(kv.positions),
                Role::Slot => traffic.slots_per_sequence += bytes,
                Role::PageRecord | Role::Plain => {}
            }
        }
        let mut seen = vec![false; family.weights.len()];
        for task in plan.tasks.iter().filter(|t| t.kind != TaskKind::Op(Op::Embed)) {
            let locs = task.operands.iter().filter(|loc| **loc != Loc::Absent);
            for (value, loc) in locs.enumerate() {
                if let Loc::Weight(w) = *loc
                    && !std::mem::replace(&mut seen[w.index()], true)
                {
                    let bytes = family.weights[w.index()].ty.bytes(&Dims::default()).unwrap_or(0);
                    traffic.add(bytes, experts_of(&task.body, ValueId::new(value)));
                }
            }
        }
        traffic
    }

    /// Adds a weight; if it holds experts, with the number of matrices that a row reads.
    fn add(&mut self, bytes: u64, experts: Option<[u64; 2]>) {
        let Some([total, picked]) = experts else {
            self.weights += bytes;
            return;
        };
        match self.experts.iter_mut().find(|e| (e.total, e.picked) == (total, picked)) {
            Some(same) => same.bytes += bytes,
            None => self.experts.push(ExpertWeights { bytes, total, picked }),
        }
    }
}

/// The number of experts in a weight of a task's body and of those that each row picks; `None` for any other weight.
fn experts_of(body: &Graph, weight: ValueId) -> Option<[u64; 2]> {
    const W: usize = Op::Matmul.place("w");
    const EXPERTS: usize = Op::Matmul.place("experts");
    let product = |n: &&Node| n.op == Op::Matmul && n.input(W) == weight;
    let node = body.nodes().map(|(_, n)| n).find(product)?;
    let picked = body.ty(node.optional(EXPERTS)?).shape.dims().iter().skip(1).map(|d| d.known().unwrap_or(1)).product();
    Some([body.ty(weight).shape.dims().first()?.known()?, picked])
}
