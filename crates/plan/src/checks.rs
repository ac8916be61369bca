//! Derives the checks of a plan's steps from its tasks.
//!
//! The compiler emits them, the reader of artefacts derives them again, and the verifier compares (L020), so a file
//! cannot leave one out.

use crate::check::Check;
use crate::family::Plan;
use crate::loc::{InputId, Loc};
use crate::task::Task;
use aio_ir::infer::full_axis;
use aio_ir::slots::{ConvShape, DeltaShape};
use aio_ir::{Def, Dim, Graph, KvShape, Node, Op, Sym, ValueId};
use std::collections::HashSet;

/// The checks of a plan whose tasks are sound, each once, in order of the tasks.
pub(crate) fn checks(tasks: &[Task]) -> Vec<Check> {
    let (mut all, mut seen, mut full) = (Vec::new(), HashSet::new(), HashSet::new());
    let mut add = |check: Check| {
        let new = match check {
            Check::NotEmpty { sym, .. } => full.insert(sym),
            _ => seen.insert(check.clone()),
        };
        if new {
            all.push(check);
        }
    };
    for task in tasks {
        for sym in [Sym::Pages, Sym::Slots] {
            if task.body.values().any(|(_, v)| v.ty.shape.dims().contains(&sym.into())) {
                add(Check::Pool { sym });
            }
        }
        let bound = Bound::new(task);
        for (_, node) in task.body.nodes() {
            not_empty(&task.body, node).into_iter().for_each(&mut add);
            bound.paged_rows(node).into_iter().for_each(&mut add);
            bound.slots(node).into_iter().for_each(&mut add);
            bound.below(task, node).into_iter().for_each(&mut add);
        }
    }
    all
}

impl Plan {
    /// The same plan with the checks that its tasks need.
    pub fn with_checks(self) -> Plan {
        Plan { checks: checks(&self.tasks), ..self }
    }
}

/// The check of the axis along which a node needs elements, if its size is a symbol. Shape rules reject a constant 0.
fn not_empty(graph: &Graph, node: &Node) -> Option<Check> {
    let shape = &graph.ty((*node.inputs.first()?)?).shape;
    let axis = full_axis(node.op, &node.attrs, shape.rank())?;
    match shape.dims()[axis.axis] {
        Dim::Sym(sym) => Some(Check::NotEmpty { sym, axis }),
        Dim::Const(_) => None,
    }
}

/// The operand of an op that holds indices, what they index, and the operand whose first dimension bounds them.
const fn indices(op: Op) -> Option<(usize, &'static str, usize)> {
    match op {
        Op::Embed => Some((op.place("ids"), "token", op.place("table"))),
        Op::Gather | Op::Scatter => Some((op.place("index"), "row", op.place("x"))),
        Op::Matmul => Some((op.place("experts"), "expert", op.place("w"))),
        _ => None,
    }
}

/// The inputs that the values declared by a task's body stand for.
struct Bound<'a> {
    body: &'a Graph,
    inputs: Vec<Option<InputId>>,
}

impl<'a> Bound<'a> {
    fn new(task: &'a Task) -> Bound<'a> {
        let mut locs = task.operands.iter().filter(|loc| **loc != Loc::Absent);
        let declared = |def: Def| !matches!(def, Def::Node { .. });
        let of = |def: Def| match declared(def).then(|| locs.next()).flatten() {
            Some(Loc::Input(input)) => Some(*input),
            _ => None,
        };
        Bound { body: &task.body, inputs: task.body.values().map(|(_, v)| v.def).map(of).collect() }
    }

    /// The input at an operand of a node, if the step binds it.
    fn input(&self, node: &Node, place: usize) -> Option<InputId> {
        let value: ValueId = (*node.inputs.get(place)?)?;
        self.inputs[value.index()]
    }

    fn paged_rows(&self, node: &Node) -> Option<Check> {
        let op = node.op;
        if !matches!(op, Op::Attend | Op::PageWrite) {
            return None;
        }
        let at = |operand| self.input(node, op.place(operand));
        let page = KvShape::of(self.body.ty(node.operand("kv")))?.positions;
        Some(Check::PagedRows { table: at("table")?, row_seq: at("row_seq")?, positions: at("positions")?, page })
    }

    fn slots(&self, node: &Node) -> Option<Check> {
        let ty = |operand| self.body.ty(node.operand(operand));
        let room = match node.op {
            Op::Conv => ConvShape::of(ty("state"), ty("weight"))?.room,
            Op::DeltaRule => DeltaShape::of(ty("state"), ty("q"), ty("v"))?.room,
            _ => return None,
        };
        let at = |operand| self.input(node, node.op.place(operand));
        let room = u32::try_from(room).unwrap_or(u32::MAX);
        Some(Check::Slots { slots: at("slots")?, slot_rows: at("slot_rows")?, row_seq: at("row_seq")?, room })
    }

    fn below(&self, task: &Task, node: &Node) -> Option<Check> {
        let (index, what, of) = indices(node.op)?;
        let input = self.input(node, index)?;
        let bounded: ValueId = (*node.inputs.get(of)?)?;
        let below = *self.body.ty(bounded).shape.dims().first()?;
        Some(Check::Below { input, task: task.kind.name().name(), what, below })
    }
}
