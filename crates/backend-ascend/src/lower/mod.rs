//! Lowers a plan to operators for one captured shape: each task becomes a few, with every address and size filled in.
//!
//! Products and attention compute with halves, so values between fused tasks are halves; single ops keep f32 where their
//! operands have it. A task takes its operands in whatever type they have and converts where it must.
//!
//! Lowering is a pure function of plan, shape and addresses. It runs once with placeholders, to measure, and again with
//! the addresses. Before anything is uploaded, the first run alone collects the forms of weights that a family needs.

mod attention;
mod host;
mod ops;
mod products;
mod results;
mod rows;

pub(crate) use host::{HostTask, HostValues, words};
pub(crate) use ops::has_operator;
pub(crate) use results::{Results, Source};
pub(crate) use rows::{attentions, pads};

use crate::acl::Call;
use crate::error::DEVICE;
use crate::shape::{Lengths, Shape};
use crate::stage::{Places, Section, Stage, Step};
use crate::states::StatesMap;
use crate::view::{Elem, View};
use crate::weights::WeightsMap;
use aio_backend::DeviceError;
use aio_ir::{DType, Dims, TensorType, ValueId};
use aio_plan::{Loc, Plan, PlanFamily, Task, TaskKind, WeightId};
use std::collections::{HashMap, HashSet};

/// Alignment of scratch tensors in bytes.
const ALIGNMENT: u64 = 512;

/// Base addresses on the device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bases {
    pub arena: u64,
    pub scratch: u64,
    pub stage: u64,
    pub results: u64,
}

impl Bases {
    /// Placeholders for programs of which only the sizes are needed.
    pub(crate) const NOWHERE: Bases = Bases { arena: 1 << 12, scratch: 1 << 12, stage: 1 << 12, results: 1 << 12 };
}

/// A family on a device.
#[derive(Clone, Copy)]
pub(crate) struct Model<'a> {
    pub family: &'a PlanFamily,
    pub weights: &'a WeightsMap,
    pub states: &'a StatesMap,
    /// Whether an operator rotates queries and keys.
    pub rotates: bool,
    /// Numbers of a weight that the host keeps; `None` while forms are collected.
    pub vectors: Option<&'a HashMap<WeightId, Vec<f32>>>,
}

/// A lowered plan.
#[derive(Debug)]
pub(crate) struct Program {
    /// Operators in order; those before all tasks first.
    pub calls: Vec<Call>,
    /// For each task, the number of calls at its end.
    pub ends: Vec<usize>,
    pub stage: Stage,
    pub results: Results,
    /// What the host computes after the device has finished.
    pub host: Vec<HostTask>,
    /// Where rows are, if the plan has attention.
    pub places: Option<Places>,
    pub scratch_bytes: u64,
}

impl Program {
    /// Lowers a plan for a shape.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`] with the task's kind.
    pub(crate) fn new(model: &Model<'_>, plan: &Plan, shape: &Shape, bases: Bases) -> Result<Program, DeviceError> {
        Lowering::new(*model, plan, shape, bases).run()
    }

    /// Places among the calls of those that each replay updates.
    pub(crate) fn updated(&self, lengths: Lengths) -> Vec<usize> {
        let attention = |(i, call): (usize, &Call)| matches!(call, Call::Attention(_)).then_some(i);
        match lengths {
            Lengths::Bucket => Vec::new(),
            Lengths::Patch => self.calls.iter().enumerate().filter_map(attention).collect(),
        }
    }
}

impl Program {
    /// Where the host has tokens of the step's output rows.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = Loc> {
        let best = |(loc, source): &(Loc, Source)| matches!(source, Source::Best { .. }).then_some(*loc);
        let sampled = |task: &HostTask| if let HostTask::Sample { token, .. } = task { Some(*token) } else { None };
        self.results.sources.iter().filter_map(best).chain(self.host.iter().filter_map(sampled))
    }

    /// The attention of a step with its own lengths, where they are patched: places among the calls, and the calls.
    pub(crate) fn patched(&self, step: &Step<'_, '_, '_>) -> Vec<(usize, Call)> {
        let Some(places) = self.places else { return Vec::new() };
        let with_lengths = |place: usize| {
            let Call::Attention(call) = &self.calls[place] else { return None };
            let (totals, seen) = step.lengths(places, &step.shape.groups[call.group]);
            Some((place, Call::Attention(Box::new(call.of_lengths(totals, seen)))))
        };
        self.updated(step.shape.lengths).into_iter().filter_map(with_lengths).collect()
    }
}

/// A plan being lowered.
struct Lowering<'a> {
    model: Model<'a>,
    plan: &'a Plan,
    shape: &'a Shape,
    dims: Dims,
    bases: Bases,
    /// What is at each buffer, output and input so far.
    views: HashMap<Loc, View>,
    /// Values that only the host has.
    hosted: HashSet<Loc>,
    /// Calls before all tasks, and those of tasks.
    prelude: Vec<Call>,
    calls: Vec<Call>,
    ends: Vec<usize>,
    stage: Stage,
    results: Results,
    host: Vec<HostTask>,
    places: Option<Places>,
    /// Scratch that lives for the whole step ends here; the current task's begins here.
    kept: u64,
    /// The end of the current task's scratch, and the furthest end so far.
    scratch: u64,
    most: u64,
    /// A normed value that the last task left for the next: the value, its norm, the result.
    normed: Option<(Loc, Loc, View)>,
    /// Masks of groups and windows.
    masks: Vec<((usize, u32), View)>,
    /// Index of the current task.
    task: usize,
}

impl<'a> Lowering<'a> {
    fn new(model: Model<'a>, plan: &'a Plan, shape: &'a Shape, bases: Bases) -> Lowering<'a> {
        Lowering {
            model,
            plan,
            shape,
            dims: shape.sizes(),
            bases,
            views: HashMap::new(),
            hosted: HashSet::new(),
            prelude: Vec::new(),
            calls: Vec::new(),
            ends: Vec::new(),
            stage: Stage::at(bases.stage),
            results: Results::at(bases.results),
            host: Vec::new(),
            places: None,
            kept: 0,
            scratch: 0,
            most: 0,
            normed: None,
            masks: Vec::new(),
            task: 0,
        }
    }

    fn run(mut self) -> Result<Program, DeviceError> {
        self.reserve();
        for (i, task) in self.plan.tasks.iter().enumerate() {
            self.task = i;
            self.scratch = self.kept;
            self.lower(task)?;
            self.ends.push(self.calls.len());
        }
        self.outputs()?;
        let Lowering { mut prelude, calls, ends, stage, results, host, places, most, .. } = self;
        let before = prelude.len();
        prelude.extend(calls);
        // Nothing to write, nothing to launch.
        let mut kept = 0;
        let mut seen = vec![0; prelude.len() + 1];
        for (i, call) in prelude.iter().enumerate() {
            kept += usize::from(call.written().elements() > 0);
            seen[i + 1] = kept;
        }
        prelude.retain(|call| call.written().elements() > 0);
        let ends = ends.into_iter().map(|end| seen[end + before]).collect();
        Ok(Program { calls: prelude, ends, stage, results, host, places, scratch_bytes: most })
    }

    fn lower(&mut self, task: &'a Task) -> Result<(), DeviceError> {
        match task.kind {
            TaskKind::Qkv(spec) => self.qkv(task, &spec),
            TaskKind::Attend(spec) => self.attend(task, &spec),
            TaskKind::Linear(spec) => self.linear(task, spec.norm_eps),
            TaskKind::GateUp(spec) => self.gate_up(task, &spec),
            TaskKind::Head(spec) => self.head(task, &spec),
            TaskKind::Experts(_) => Err(unsupported(task, "it has no kernel")),
            TaskKind::Op(op) => self.op(task, op),
        }
    }

    /// The type of a location; `None` if it is absent.
    fn ty(&self, loc: Loc) -> Option<&'a TensorType> {
        match loc {
            Loc::Buffer(b) => Some(&self.plan.buffers[b.index()].ty),
            Loc::Input(i) => Some(&self.plan.inputs[i.index()].ty),
            Loc::Output(o) => Some(&self.plan.outputs[o.index()].ty),
            Loc::Weight(w) => Some(&self.model.family.weights[w.index()].ty),
            Loc::State(s) => Some(&self.model.family.states[s.index()].ty),
            Loc::Absent => None,
        }
    }

    /// Sizes of a type in this shape.
    fn sizes(&self, ty: &TensorType) -> Vec<i64> {
        ty.shape.resolve(&self.dims).iter().map(|&n| n as i64).collect()
    }

    /// The operand at a place, with whatever type it has on the device.
    fn value(&mut self, task: &Task, loc: Loc) -> Result<View, DeviceError> {
        let view = self.found(task, loc)?;
        // A reshape moves nothing, so a buffer may have another shape than the operand.
        let operands = task.operands.iter().filter(|l| **l != Loc::Absent).enumerate();
        let places = operands.filter(|(_, l)| **l == loc).map(|(i, _)| self.sizes(task.body.ty(ValueId::new(i))));
        let mut shapes: Vec<_> = places.collect();
        shapes.dedup();
        match &shapes[..] {
            [dims] if dims.iter().product::<i64>() as usize == view.elements() => Ok(view.shaped(dims.iter().copied())),
            [_] | [] => Ok(view),
            _ => Err(unsupported(task, "one value under two shapes")),
        }
    }

    fn found(&mut self, task: &Task, loc: Loc) -> Result<View, DeviceError> {
        if let Some(view) = self.views.get(&loc) {
            return Ok(view.clone());
        }
        if self.hosted.contains(&loc) {
            return Err(unsupported(task, "an operand that the host computes after the step"));
        }
        let ty = self.ty(loc).ok_or_else(|| unsupported(task, "an operand that is absent"))?;
        let elem = Elem::of(ty.dtype).ok_or_else(|| unsupported(task, format!("elements of {}", ty.dtype)));
        let view = match loc {
            Loc::Input(i) if self.plan.inputs[i.index()].optional => {
                return Err(unsupported(task, "an input that may not be bound"));
            }
            Loc::Input(i) => {
                let dims = self.sizes(ty);
                self.stage.section(Section::Input(i), elem?, dims)
            }
            Loc::Weight(w) => self.model.weights.plain(self.model.family, w, elem?, ty.dtype)?,
            Loc::State(s) => {
                let own = self.model.states.own(s.index());
                let at = own.ok_or_else(|| unsupported(task, "keys and values in whole"))?;
                View::dense(at, elem?, self.sizes(ty))
            }
            _ => return Err(unsupported(task, format!("an operand in {loc} that no task writes"))),
        };
        Ok(view)
    }

    /// An operand as f32.
    fn full(&mut self, task: &Task, loc: Loc) -> Result<View, DeviceError> {
        if let Some(view) = self.float_weight(loc, Elem::F32)? {
            return Ok(view);
        }
        let view = self.value(task, loc)?;
        self.converted(view, Elem::F32)
    }

    /// An operand as halves.
    fn half(&mut self, task: &Task, loc: Loc) -> Result<View, DeviceError> {
        if let Some(view) = self.float_weight(loc, Elem::F16)? {
            return Ok(view);
        }
        let view = self.value(task, loc)?;
        self.converted(view, Elem::F16)
    }

    /// A weight of floats of any type, decoded to this one.
    fn float_weight(&self, loc: Loc, elem: Elem) -> Result<Option<View>, DeviceError> {
        match loc {
            Loc::Weight(w) if self.ty(loc).is_some_and(|ty| ty.dtype.is_float()) => {
                self.model.weights.plain(self.model.family, w, elem, DType::F32).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// A float tensor in another float type.
    fn converted(&mut self, view: View, elem: Elem) -> Result<View, DeviceError> {
        if view.elem == elem || !view.elem.is_float() {
            return Ok(view);
        }
        let to = self.temp(elem, &view.dims.clone());
        self.calls.push(Call::Cast { from: view, to: to.clone() });
        Ok(to)
    }

    /// A vector of halves among the weights, if it is there.
    fn vector(&mut self, task: &Task, loc: Loc) -> Result<Option<View>, DeviceError> {
        match loc {
            Loc::Absent => Ok(None),
            _ => self.half(task, loc).map(Some),
        }
    }

    /// Scratch for the current task.
    fn temp(&mut self, elem: Elem, dims: &[i64]) -> View {
        let view = View::dense(self.bases.scratch + self.scratch, elem, dims.iter().copied());
        self.scratch = (self.scratch + view.bytes() as u64).next_multiple_of(ALIGNMENT);
        self.most = self.most.max(self.scratch);
        view
    }

    /// Scratch for the whole step, to be taken before the first task runs.
    fn keep(&mut self, elem: Elem, dims: &[i64]) -> View {
        let view = View::dense(self.bases.scratch + self.kept, elem, dims.iter().copied());
        self.kept = (self.kept + view.bytes() as u64).next_multiple_of(ALIGNMENT);
        self.scratch = self.scratch.max(self.kept);
        self.most = self.most.max(self.kept);
        view
    }

    /// The place of a result, with elements of this type.
    fn result(&mut self, task: &Task, index: usize, elem: Elem) -> Result<View, DeviceError> {
        let loc = task.results[index];
        let ty = self.ty(loc).ok_or_else(|| unsupported(task, "a result that is absent"))?;
        let root = task.body.roots().nth(index).ok_or_else(|| unsupported(task, "a result that its body lacks"))?;
        let dims = self.sizes(task.body.ty(root));
        let view = match loc {
            Loc::Buffer(b) => View::dense(self.bases.arena + self.plan.buffers[b.index()].offset, elem, dims),
            Loc::Output(_) => self.results.tensor(loc, elem, dims),
            Loc::State(s) => {
                let (own, kept) = (self.model.states.own(s.index()), Elem::of(ty.dtype));
                let at = own.filter(|_| kept == Some(elem)).ok_or_else(|| unsupported(task, "a state of this type"))?;
                View::dense(at, elem, dims)
            }
            _ => return Err(unsupported(task, format!("a result in {loc}"))),
        };
        let bytes = ty.bytes(&self.dims).unwrap_or(0) as usize;
        if view.bytes() > bytes {
            return Err(unsupported(task, format!("a result of {} bytes where there are {bytes}", view.bytes())));
        }
        self.views.insert(loc, view.clone());
        Ok(view)
    }

    /// Sees to it that outputs that no device task wrote come from the host.
    fn outputs(&mut self) -> Result<(), DeviceError> {
        for (i, output) in self.plan.outputs.iter().enumerate() {
            let loc = Loc::Output(aio_plan::OutputId::new(i));
            if !self.views.contains_key(&loc) && !self.hosted.contains(&loc) {
                let reason = format!("output `{}` that no task writes", output.name);
                return Err(DeviceError::Unsupported { device: DEVICE.to_owned(), kind: "output", reason });
            }
        }
        Ok(())
    }
}

/// The error of a task without a suitable operator.
fn unsupported(task: &Task, reason: impl Into<String>) -> DeviceError {
    DeviceError::Unsupported { device: DEVICE.to_owned(), kind: task.kind.name().name(), reason: reason.into() }
}
