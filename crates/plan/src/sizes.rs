//! Rule L012 of the plan verifier: the sizes by which kernels of a fused kind index agree with its operands.
//!
//! Kernels take a kind's numbers and the shapes of its weights as they are, so plans that come from a file are held to
//! what the compiler writes: heads times head size are the rows of a projection, vectors are as long as their matrix.

use crate::family::{Plan, PlanFamily};
use crate::kind::{AttendSpec, HeadSpec, QkvSpec, TaskKind};
use crate::task::{Slot, Task};
use aio_ir::{DType, Node, Op, TensorType};

/// Whether they agree. The task's body is valid, its slots are in range and of the body's types.
pub(crate) fn fit(family: &PlanFamily, plan: &Plan, task: &Task) -> bool {
    let t = Sizes { family, plan, task };
    match task.kind {
        TaskKind::Qkv(spec) => t.qkv(&spec),
        TaskKind::Attend(spec) => t.attend(&spec),
        TaskKind::Linear(_) => t.vectors(2, &[(1, 1), (3, 0)]),
        TaskKind::GateUp(_) => t.vectors(2, &[(1, 1)]) && t.matrix(2) == t.matrix(3),
        TaskKind::Head(spec) => t.vectors(3, &[(2, 1)]) && t.head(&spec),
        TaskKind::Op(op) => task.body.nodes().len() == 1 && t.node(op).is_some(),
    }
}

struct Sizes<'a> {
    family: &'a PlanFamily,
    plan: &'a Plan,
    task: &'a Task,
}

impl Sizes<'_> {
    fn node(&self, op: Op) -> Option<&Node> {
        self.task.body.nodes().map(|(_, n)| n).find(|n| n.op == op)
    }

    fn ty(&self, slot: Slot) -> Option<&TensorType> {
        match slot {
            Slot::Buffer(b) => Some(&self.plan.buffers[b.index()].ty),
            Slot::Input(i) => Some(&self.plan.inputs[i.index()].ty),
            Slot::Output(o) => Some(&self.plan.outputs[o.index()].ty),
            Slot::Weight(w) => Some(&self.family.weights[w.index()].ty),
            Slot::State(s) => Some(&self.family.states[s.index()].ty),
            Slot::Absent => None,
        }
    }

    /// Rows and columns of an operand of two known dimensions.
    fn matrix(&self, place: usize) -> Option<[u64; 2]> {
        match self.ty(self.task.operands[place])?.shape.dims() {
            [rows, cols] => Some([rows.known()?, cols.known()?]),
            _ => None,
        }
    }

    /// Whether an operand is absent or has so many elements for each step.
    fn is_long(&self, place: usize, elems: Option<u64>) -> bool {
        self.ty(self.task.operands[place]).is_none_or(|ty| elems.is_some() && ty.shape.factors().0 == elems)
    }

    /// Whether vectors (place, axis) are as long as a matrix along that axis.
    fn vectors(&self, matrix: usize, vectors: &[(usize, usize)]) -> bool {
        let Some(sizes) = self.matrix(matrix) else { return false };
        vectors.iter().all(|&(place, axis)| self.is_long(place, Some(sizes[axis])))
    }

    /// Whether a state's dimensions are those of pages of these heads.
    fn pages(&self, place: usize, kv_heads: u32, head_dim: u32) -> bool {
        let Some(ty) = self.ty(self.task.operands[place]) else { return false };
        let known = |axis: usize| ty.shape.dims().get(axis).and_then(|d| d.known());
        known(2) == Some(kv_heads.into()) && known(4) == Some(head_dim.into())
    }

    fn qkv(&self, spec: &QkvSpec) -> bool {
        let (Some([q, cols]), Some(k), Some(v)) = (self.matrix(2), self.matrix(3), self.matrix(4)) else {
            return false;
        };
        let size = u64::from(spec.head_dim);
        let kv = u64::from(spec.kv_heads).checked_mul(size);
        let (head, half) = (Some(size), Some(u64::from(spec.rope.dims / 2)));
        divides(spec.kv_heads, spec.heads)
            && size > 0
            && u64::from(spec.heads).checked_mul(size) == Some(q)
            && k == v
            && Some(k[0]) == kv
            && k[1] == cols
            && self.pages(12, spec.kv_heads, spec.head_dim)
            && spec.rope.dims <= spec.head_dim
            && self.node(Op::Rope).is_some_and(|n| n.int("dims") == i64::from(spec.rope.dims))
            && self.is_long(1, Some(cols))
            && self.is_long(5, Some(q))
            && self.is_long(6, kv)
            && self.is_long(7, kv)
            && self.is_long(8, head)
            && self.is_long(9, head)
            && self.is_long(11, half)
    }

    fn attend(&self, spec: &AttendSpec) -> bool {
        let width = u64::from(spec.heads).checked_mul(spec.head_dim.into());
        divides(spec.kv_heads, spec.heads)
            && spec.head_dim > 0
            && self.is_long(0, width)
            && self.pages(1, spec.kv_heads, spec.head_dim)
            && self.is_long(5, Some(spec.heads.into()))
    }

    /// The result is a token, or the logits of the whole vocabulary.
    fn head(&self, spec: &HeadSpec) -> bool {
        let (Some([vocabulary, _]), Some(out)) = (self.matrix(3), self.ty(self.task.results[0])) else { return false };
        let (dtype, width) = if spec.argmax { (DType::U32, 1) } else { (DType::F32, vocabulary) };
        out.dtype == dtype && out.shape.factors().0 == Some(width)
    }
}

fn divides(part: u32, whole: u32) -> bool {
    part > 0 && whole > 0 && whole.is_multiple_of(part)
}
