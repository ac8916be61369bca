//! The rows of a report: one for each task, from its body, its operands and its costs at the size of the step.

use crate::place::{Place, places};
use crate::predict::{Arithmetic, Nature, Work, predict};
use crate::report::{TaskRow, TensorRow};
use crate::subject::{Machine, StepSize, Subject};
use aio_ir::{Dims, Op, TensorType, ValueId};
use aio_plan::{Bucket, KindName, Loc, Plan, PlanFamily, Role, Tail, Task, cost};

/// The rows of all tasks of the subject's plan.
pub(crate) fn rows(subject: &Subject<'_>, machine: &Machine) -> Vec<TaskRow> {
    let plan = subject.plan();
    let tasks = plan.tasks.iter().zip(places(subject.family, &plan.tasks)).enumerate();
    tasks.map(|(i, (task, place))| row(subject, machine, i, task, place)).collect()
}

fn row(subject: &Subject<'_>, machine: &Machine, index: usize, task: &Task, place: Place) -> TaskRow {
    let family = subject.family;
    let step = subject.step;
    let work = work(family, task, subject.plan().bucket, step);
    let (predicted_seconds, bound) = predict(&work, nature(family, task, step, machine), machine);
    let values = Values { subject, task };
    TaskRow {
        index,
        kind: task.kind.name().name().to_owned(),
        name: name(subject, task),
        layer: place.layer,
        block: place.block,
        fused_from: task.body.nodes().map(|(_, n)| n.op.mnemonic().to_owned()).collect(),
        dtype: dtype(family, task),
        weights: values.operands(|loc| matches!(loc, Loc::Weight(_))),
        operands: values.operands(|loc| !matches!(loc, Loc::Weight(_))),
        results: values.results(),
        intensity: work.intensity(),
        work,
        predicted_seconds,
        bound,
        kernel: None,
        measured: None,
    }
}

/// Predicted seconds of all tasks in a step of this size, and of the step.
pub(crate) fn step_seconds(subject: &Subject<'_>, step: StepSize, machine: &Machine) -> f64 {
    let (family, plan) = (subject.family, subject.plan());
    let bare = Machine { kernels: Vec::new(), ..machine.clone() };
    let seconds = |task: &Task| {
        let work = work(family, task, plan.bucket, step);
        // Rates of kernels are those of the report's own rows.
        let known = if step.rows == subject.step.rows { machine } else { &bare };
        predict(&work, nature(family, task, step, known), known).0
    };
    plan.tasks.iter().map(seconds).sum::<f64>() + machine.step_seconds
}

/// Operands of a task that are not absent, with their values in its body.
fn present(task: &Task) -> impl Iterator<Item = (Loc, ValueId)> + '_ {
    let locs = task.operands.iter().filter(|loc| **loc != Loc::Absent);
    locs.enumerate().map(|(i, loc)| (*loc, ValueId::new(i)))
}

/// The values that the task's results are, with their locations. Final states follow the outputs.
fn results(task: &Task) -> impl Iterator<Item = (Loc, ValueId)> + '_ {
    task.results.iter().copied().zip(task.body.roots())
}

/// What a task moves and computes. The costs of its body are divided by where its operands and results are.
fn work(family: &PlanFamily, task: &Task, bucket: Bucket, step: StepSize) -> Work {
    let bucket = step.bucket(bucket);
    let (cost, more) = cost::of_task(&task.body, bucket);
    let context = u64::from(step.context);
    let dims = bucket.bounds();
    let moved = |(loc, value): &(Loc, ValueId)| match loc {
        Loc::Buffer(_) | Loc::Input(_) | Loc::Output(_) => task.body.ty(*value).bytes(&dims).unwrap_or(0),
        _ => 0,
    };
    let record = |loc: &Loc| match *loc {
        Loc::State(s) if family.states[s.index()].role() == Role::Slot => {
            let one = Dims { slots: 1, ..dims };
            family.states[s.index()].ty.bytes(&one).unwrap_or(0).saturating_mul(step.seqs.into())
        }
        _ => 0,
    };
    let slots: u64 = task.operands.iter().map(record).sum();
    let written: u64 = results(task).map(|r| moved(&r)).sum::<u64>().min(cost.bytes_written);
    let has_weights = task.operands.iter().any(|loc| matches!(loc, Loc::Weight(_)));
    let not_read: u64 = present(task).map(|o| moved(&o)).sum();
    let weight_bytes = if has_weights { weights_read(family, task, cost.bytes_read, not_read + slots) } else { 0 };
    let read = cost.bytes_read.saturating_sub(weight_bytes + slots);
    let kept = cost.bytes_written.saturating_sub(written) + slots + context.saturating_mul(more.bytes_read);
    Work {
        weight_bytes,
        kv_bytes: kept,
        activation_bytes: read + written,
        flops: cost.flops.saturating_add(context.saturating_mul(more.flops)),
    }
}

/// Bytes of weights that a task reads. Of tables and experts it reads a part, so these follow from the task's cost.
fn weights_read(family: &PlanFamily, task: &Task, read: u64, others: u64) -> u64 {
    let whole = |(loc, _): (Loc, ValueId)| match loc {
        Loc::Weight(w) => family.weights[w.index()].ty.bytes(&Dims::default()).unwrap_or(0),
        _ => 0,
    };
    let all: u64 = present(task).map(whole).sum();
    all.min(read.saturating_sub(if all > read { others } else { 0 }))
}

/// Steps of up to so many rows norm each row on every thread, which is cheaper than a barrier.
const OWN_NORMS: u32 = 4;

/// Elements that each thread norms.
fn normed(task: &Task, step: StepSize, machine: &Machine) -> f64 {
    let dims = step.bucket(Bucket::new(step.rows, step.outs, Tail::Argmax)).bounds();
    let norms = task.body.nodes().filter(|(_, n)| matches!(n.op, Op::RmsNorm | Op::LayerNorm));
    let elements: u64 = norms.map(|(_, n)| task.body.ty(n.input(0)).shape.elems(&dims).unwrap_or(0)).sum();
    let share = if step.rows > OWN_NORMS { f64::from(machine.threads.max(1)) } else { 1.0 };
    elements as f64 / share
}

fn nature(family: &PlanFamily, task: &Task, step: StepSize, machine: &Machine) -> Nature {
    let is_product = task.kind.name() != KindName::Op(Op::Embed);
    Nature {
        arithmetic: arithmetic(family, task),
        normed: normed(task, step, machine),
        ops: ops(task) as f64,
        kernel: machine.kernel(&dtype(family, task)).filter(|_| is_product),
    }
}

/// Ops of a task's body that are no views of another value.
fn ops(task: &Task) -> usize {
    task.body.nodes().filter(|(_, n)| n.op != Op::Reshape).count()
}

/// Ops of all tasks of a plan that move or compute anything.
pub fn plan_ops(plan: &Plan) -> usize {
    plan.tasks.iter().map(ops).sum()
}

/// Products with weights in block formats run on integers.
fn arithmetic(family: &PlanFamily, task: &Task) -> Arithmetic {
    let quantized = |loc: &Loc| matches!(*loc, Loc::Weight(w) if family.weights[w.index()].ty.dtype.is_quantized());
    match task.kind.name() {
        KindName::Attend | KindName::Op(Op::Attend) => Arithmetic::Attention,
        _ if task.operands.iter().any(quantized) => Arithmetic::Blocks,
        _ => Arithmetic::Plain,
    }
}

/// The element type that a task is about.
fn dtype(family: &PlanFamily, task: &Task) -> String {
    let size = |ty: &TensorType| ty.bytes(&Dims::default()).unwrap_or(0);
    let weights = task.operands.iter().filter_map(|loc| match *loc {
        Loc::Weight(w) => Some(&family.weights[w.index()].ty),
        _ => None,
    });
    let state = || {
        task.operands.iter().find_map(|loc| match *loc {
            Loc::State(s) => Some(&family.states[s.index()].ty),
            _ => None,
        })
    };
    let result = || task.body.roots().next().map(|v| task.body.ty(v));
    let ty = weights.max_by_key(|ty| size(ty)).or_else(state).or_else(result);
    ty.map_or("-".to_owned(), |ty| ty.dtype.to_string())
}

/// The names of a task's matrices; without any, of a vector, of its state, or of its first result.
fn name(subject: &Subject<'_>, task: &Task) -> String {
    let family = subject.family;
    let kind: KindName = task.kind.name();
    let weight = |loc: &Loc| match *loc {
        Loc::Weight(w) => Some(family.weights[w.index()].name.as_str()),
        _ => None,
    };
    let places = task.operands.iter().enumerate();
    let matrices: Vec<&str> = places.filter(|(i, _)| kind.is_matrix(*i)).filter_map(|(_, loc)| weight(loc)).collect();
    if !matrices.is_empty() {
        return joined(&matrices);
    }
    let state = || {
        task.operands.iter().find_map(|loc| match *loc {
            Loc::State(s) => Some(family.states[s.index()].name.clone()),
            _ => None,
        })
    };
    let vector = task.operands.iter().find_map(weight).map(|name| joined(&[name]));
    let result = || task.results.first().map_or(String::new(), |loc| located(subject, *loc));
    vector.or_else(state).unwrap_or_else(result)
}

/// Names of weights in few letters: without endings, and without what all begin with after the first.
fn joined(names: &[&str]) -> String {
    let bare: Vec<&str> = names.iter().map(|n| n.strip_suffix(".weight").unwrap_or(n)).collect();
    let first = bare[0];
    let stem = first.rfind('.').map_or("", |end| &first[..=end]);
    let rest = bare[1..].iter().map(|n| n.strip_prefix(stem).unwrap_or(n));
    std::iter::once(first).chain(rest).collect::<Vec<_>>().join(" + ")
}

/// The name of a location.
fn located(subject: &Subject<'_>, loc: Loc) -> String {
    let plan = subject.plan();
    match loc {
        Loc::Weight(w) => subject.family.weights[w.index()].name.clone(),
        Loc::State(s) => subject.family.states[s.index()].name.clone(),
        Loc::Input(i) => plan.inputs[i.index()].name.clone(),
        Loc::Output(o) => plan.outputs[o.index()].name.clone(),
        Loc::Buffer(_) | Loc::Absent => loc.to_string(),
    }
}

/// A task's operands and results as rows.
struct Values<'a, 's> {
    subject: &'a Subject<'s>,
    task: &'a Task,
}

impl Values<'_, '_> {
    fn operands(&self, wanted: impl Fn(&Loc) -> bool) -> Vec<TensorRow> {
        present(self.task).filter(|(loc, _)| wanted(loc)).map(|(loc, value)| self.row(loc, value)).collect()
    }

    fn results(&self) -> Vec<TensorRow> {
        results(self.task).map(|(loc, value)| self.row(loc, value)).collect()
    }

    fn row(&self, loc: Loc, value: ValueId) -> TensorRow {
        let ty = self.task.body.ty(value);
        let dims = Dims { pages: 1, slots: 1, ..self.subject.step.bucket(self.subject.plan().bucket).bounds() };
        let layout = match loc {
            Loc::Weight(w) => Some(self.subject.family.weights[w.index()].layout.name().to_owned()),
            _ => None,
        };
        TensorRow {
            name: located(self.subject, loc),
            dtype: ty.dtype.to_string(),
            shape: ty.shape.dims().iter().map(ToString::to_string).collect(),
            bytes: ty.bytes(&dims).unwrap_or(0),
            layout,
        }
    }
}

/// Whether a task is a lone op that turns block formats into plain numbers.
pub(crate) fn unpacks(task: &Task) -> bool {
    task.kind.name() == KindName::Op(Op::Dequantize)
}
