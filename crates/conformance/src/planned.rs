//! The tasks of a plan as cases, so that a real model's kernels are tested like those of the list.
//!
//! A task's body becomes the case's graph: operands in the arena become inputs, and weights, states and the inputs of a step
//! keep their role, so that the compiler makes the same task of it. Equal tasks become one case with a count. `extract`
//! makes a plan of one task, to take its time.

use crate::case::{Case, CaseStep, base, growing_steps, product_bound};
use aio_ir::graph::BuildError;
use aio_ir::{Attr, Builder, DType, Def, Dim, Graph, KvShape, Node, Op, Shape, Sym, TensorType, ValueId};
use aio_plan::{Bucket, KindName, Loc, Plan, PlanFamily, StepInput, StepOutput, Tail, Task, TaskId, TaskKind};

/// A case made of a plan's tasks.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedCase {
    /// The case.
    pub case: Case,
    /// Equal tasks of the plan.
    pub count: usize,
    /// The first of them.
    pub first: TaskId,
}

/// What cases are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To compare results. Keys and values that a task only reads are written first, those that it writes are read
    /// afterwards (without which the compiler would not fuse them), and steps fill some positions.
    Compare,
    /// To take the time of a step of the bucket's rows at this depth.
    Time {
        /// Positions before the step.
        depth: u32,
    },
}

/// Rows of the two sequences in the steps that come before the one of interest, where there are states.
const FILLING: [(u32, u32); 3] = [(33, 0), (30, 5), (4, 0)];

/// The tasks of a plan as cases, in order of their first task. Their steps have as many rows as the plan's bucket, all of
/// one sequence.
///
/// # Errors
/// [`BuildError`] if a node of a body cannot be applied to the operands as the case declares them.
pub fn planned_cases(family: &PlanFamily, plan: &Plan, purpose: Purpose) -> Result<Vec<PlannedCase>, BuildError> {
    let mut all: Vec<PlannedCase> = Vec::new();
    for (index, task) in plan.tasks.iter().enumerate() {
        let case = planned(family, plan, task, purpose)?;
        match all.iter_mut().find(|known| known.case.kind == case.kind && known.case.text == case.text) {
            Some(known) => known.count += 1,
            None => all.push(PlannedCase { case, count: 1, first: TaskId::new(index) }),
        }
    }
    name_apart(&mut all);
    Ok(all)
}

/// Numbers the cases whose names are equal.
fn name_apart(all: &mut [PlannedCase]) {
    for i in 1..all.len() {
        let same = all[..i].iter().filter(|c| c.case.name == all[i].case.name).count();
        if same > 0 {
            all[i].case.name = format!("{}.{}", all[i].case.name, same + 1);
        }
    }
}

fn planned(family: &PlanFamily, plan: &Plan, task: &Task, purpose: Purpose) -> Result<Case, BuildError> {
    let kind = task.kind.name();
    let weight = task.operands.iter().filter_map(|loc| weight_type(family, *loc)).max_by_key(|ty| elems(ty));
    let dtype = weight.filter(|ty| ty.shape.rank() > 1).map_or(DType::F32, |ty| ty.dtype);
    let argmax = matches!(task.kind, TaskKind::Head(spec) if spec.argmax);
    let graph = Rebuild::of(plan, task, purpose == Purpose::Compare)?;
    let case = base(name(task, weight), kind, dtype, aio_ir::text::print(&graph));
    let compare = if argmax { crate::Compare::BestToken } else { crate::Compare::Numbers };
    let tail = if argmax { Tail::Argmax } else { Tail::Logits };
    let fuse = !matches!(kind, KindName::Op(_));
    let steps = steps(&graph, plan.bucket, purpose);
    Ok(Case { tail, compare, fuse, max_nmse: bound(kind, dtype), steps, ..case })
}

/// The type of a weight.
fn weight_type(family: &PlanFamily, loc: Loc) -> Option<&TensorType> {
    if let Loc::Weight(w) = loc { Some(&family.weights[w.index()].ty) } else { None }
}

fn elems(ty: &TensorType) -> u64 {
    ty.shape.dims().iter().filter_map(|d| d.known()).product()
}

/// Kind, element type and shape: of the largest weight, or of the first operand without its rows.
fn name(task: &Task, weight: Option<&TensorType>) -> String {
    let first = || task.body.values().next().map(|(_, v)| &v.ty);
    let Some(ty) = weight.or_else(first) else { return task.kind.name().name().to_owned() };
    let sizes = ty.shape.dims().iter().filter_map(|d| d.known());
    let sizes: Vec<String> = sizes.map(|n| n.to_string()).collect();
    format!("{}-{}-{}", task.kind.name().name(), ty.dtype, sizes.join("x"))
}

/// The error bounds of the list (`lib.rs`), by kind.
fn bound(kind: KindName, weights: DType) -> f64 {
    match kind {
        KindName::Linear | KindName::Head => product_bound(weights),
        KindName::GateUp => 4.0 * product_bound(weights),
        KindName::Experts => 8.0 * product_bound(weights),
        KindName::Qkv if weights.is_quantized() => 5e-4,
        KindName::Qkv | KindName::Attend | KindName::Op(Op::Attend | Op::PageWrite) => 1e-6,
        KindName::Op(Op::Matmul) => product_bound(weights),
        KindName::Op(_) => product_bound(DType::F32),
    }
}

fn steps(graph: &Graph, bucket: Bucket, purpose: Purpose) -> Vec<CaseStep> {
    let has_state = graph.values().any(|(_, v)| v.def == Def::State);
    match purpose {
        Purpose::Time { depth } => vec![CaseStep::at(bucket.rows, depth)],
        Purpose::Compare if has_state => {
            let rows: Vec<(u32, u32)> = FILLING.into_iter().chain([(bucket.rows, 0)]).collect();
            growing_steps(&rows)
        }
        Purpose::Compare => vec![CaseStep::at(bucket.rows, 0)],
    }
}

/// A task's body with the roles that its operands have in the plan.
struct Rebuild<'a> {
    plan: &'a Plan,
    task: &'a Task,
    b: Builder,
    /// The new value of each value of the body.
    map: Vec<Option<ValueId>>,
}

impl<'a> Rebuild<'a> {
    fn of(plan: &'a Plan, task: &'a Task, fill: bool) -> Result<Graph, BuildError> {
        let map = vec![None; task.body.values().len()];
        let mut rebuild = Rebuild { plan, task, b: Builder::new("task"), map };
        rebuild.declare();
        if fill {
            rebuild.fill()?;
        }
        rebuild.nodes()?;
        rebuild.results();
        if fill {
            rebuild.read_written()?;
        }
        Ok(rebuild.b.finish())
    }

    /// Operands that are not absent, with their places, in the order in which the body declares them.
    fn declare(&mut self) {
        let present = self.task.operands.iter().enumerate().filter(|(_, loc)| **loc != Loc::Absent);
        let declared = self.task.body.values().filter(|(_, v)| !matches!(v.def, Def::Node { .. }));
        for ((id, value), (place, &loc)) in declared.zip(present) {
            let (def, name) = self.role(loc, place);
            // An input of the step may be two operands.
            let known = self.b.graph().find(&name);
            self.map[id.index()] = Some(known.unwrap_or_else(|| self.b.declare(def, &name, value.ty.clone())));
        }
    }

    fn role(&self, loc: Loc, place: usize) -> (Def, String) {
        let name = operand_name(self.task.kind.name(), place).to_owned();
        match loc {
            Loc::Input(i) => {
                let binding = &self.plan.inputs[i.index()];
                let tokens = self.plan.step_input(StepInput::Tokens) == Some(i);
                // Random tokens may exceed a small vocabulary; an `index` is below 9.
                let name = if tokens && self.vocabulary() < 1000 { "index" } else { &binding.name };
                (Def::Input { optional: binding.optional }, name.to_owned())
            }
            Loc::Weight(_) => (Def::Weight, name),
            Loc::State(_) => (Def::State, name),
            _ => (Def::Input { optional: false }, name),
        }
    }

    /// Rows of the table that the task looks tokens up in.
    fn vocabulary(&self) -> u64 {
        let table = self.task.body.values().find(|(_, v)| v.def == Def::Weight && v.ty.shape.rank() == 2);
        table.and_then(|(_, v)| v.ty.shape.dims()[0].known()).unwrap_or(0)
    }

    /// Writes keys and values before the task reads them, if it does not write them itself.
    fn fill(&mut self) -> Result<(), BuildError> {
        let read = self.task.body.nodes().find(|(_, n)| n.op == Op::Attend).map(|(_, n)| n);
        let Some(read) = read.filter(|_| self.task.body.finals.is_empty()) else { return Ok(()) };
        let pages = read.operand("kv");
        let (state, Some(kv)) = (self.mapped(pages), KvShape::of(self.task.body.ty(pages))) else { return Ok(()) };
        let each = [Dim::Sym(Sym::Rows), u64::from(kv.heads).into(), u64::from(kv.head_dim).into()];
        let [k, v] = ["k", "v"].map(|name| self.b.input(name, TensorType::f32(Shape::new(each))));
        let [table, row_seq, positions] = ["table", "row_seq", "positions"].map(|name| self.mapped(read.operand(name)));
        let written = self.b.op(Op::PageWrite, &[state, k, v, table, row_seq, positions], &[])?;
        self.b.final_state(state, written);
        self.map[pages.index()] = Some(written);
        Ok(())
    }

    /// Attends to the keys and values that a fused task wrote, instead of returning its queries.
    fn read_written(&mut self) -> Result<(), BuildError> {
        let body = &self.task.body;
        let TaskKind::Qkv(spec) = self.task.kind else { return Ok(()) };
        let Some((_, write)) = body.nodes().find(|(_, n)| n.op == Op::PageWrite) else { return Ok(()) };
        let at = |name| Some(self.mapped(write.operand(name)));
        let q = body.outputs.first().map(|o| self.mapped(o.value));
        let written = Some(self.mapped(write.results[0]));
        let operands = [q, written, at("table"), at("row_seq"), at("positions"), None];
        let scale = ("scale", Attr::F32(1.0 / (spec.head_dim.max(1) as f32).sqrt()));
        let node = self.b.apply(Op::Attend, &operands, &[scale])?;
        let attended = self.b.graph().node(node).results[0];
        let mut graph = std::mem::take(&mut self.b).finish();
        graph.outputs.clear();
        self.b = Builder::from(graph);
        self.b.output("attended", attended);
        Ok(())
    }

    fn mapped(&self, old: ValueId) -> ValueId {
        self.map[old.index()].expect("operands come before the nodes that use them")
    }

    fn nodes(&mut self) -> Result<(), BuildError> {
        let task = self.task;
        for (_, node) in task.body.nodes().filter(|(_, n)| !is_tail(task, n)) {
            let inputs: Vec<_> = node.inputs.iter().map(|i| i.map(|v| self.mapped(v))).collect();
            let id = self.b.apply_filled(node.op, &inputs, &node.attrs)?;
            let results = self.b.graph().node(id).results.clone();
            for (&old, &new) in node.results.iter().zip(&results) {
                self.map[old.index()] = Some(new);
            }
        }
        Ok(())
    }

    fn results(&mut self) {
        let body = &self.task.body;
        for output in &body.outputs {
            let logits = body.def_node(output.value).filter(|(_, n)| is_tail(self.task, n)).map(|(_, n)| n.input(0));
            let head = matches!(self.task.kind, TaskKind::Head(_));
            let name = if head { StepOutput::Logits.name() } else { &output.name };
            let value = self.mapped(logits.unwrap_or(output.value));
            self.b.output(name, value);
        }
        for f in &body.finals {
            let (state, value) = (self.mapped(f.state), self.mapped(f.value));
            self.b.final_state(state, value);
        }
    }
}

/// Whether a node is the arg-max of a head, which the case's tail adds.
fn is_tail(task: &Task, node: &Node) -> bool {
    matches!(task.kind, TaskKind::Head(_)) && node.op == Op::Argmax
}

/// The name of a kind's operand.
pub(crate) fn operand_name(kind: KindName, place: usize) -> &'static str {
    let name = match (kind, kind.spec()) {
        (_, Some(spec)) => spec.operands.get(place).map(|o| o.name),
        (KindName::Op(op), None) => op.spec().operands.get(place).map(|o| o.name),
        (_, None) => None,
    };
    name.unwrap_or("x")
}
