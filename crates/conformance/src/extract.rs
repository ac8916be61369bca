//! One task of a plan as a plan of its own, with the task's own kind, so that its kernel can be timed.
//!
//! Buffers of the arena become inputs and outputs. Names are those of the kind's operands, by which inputs get their values.

use crate::planned::operand_name;
use aio_ir::Op;
use aio_ir::{Shape, TensorType};
use aio_plan::{Binding, Bucket, InputId, KindName, Loc, OutputId, Plan, PlanFamily, StateDesc, StateId};
use aio_plan::{StepInput, Task, TaskId, WeightDesc, WeightId};

/// A family with one plan, which has one task: that of another plan, for steps within `bucket`.
///
/// # Panics
/// If the plan has no such task, or is not sound.
pub fn extract(family: &PlanFamily, plan: &Plan, task: TaskId, bucket: Bucket) -> PlanFamily {
    let task = &plan.tasks[task.index()];
    let mut apart = Apart::of(family, plan, task);
    let operands = task.operands.iter().enumerate().map(|(place, &loc)| apart.operand(place, loc)).collect();
    let results = task.results.iter().map(|&loc| apart.result(loc)).collect();
    let only = Task::new(task.kind, task.body.clone(), operands, results, bucket);
    let Apart { inputs, outputs, weights, states, .. } = apart;
    let alone = Plan {
        bucket,
        inputs: inputs.into_iter().map(|(_, binding)| binding).collect(),
        outputs,
        buffers: Vec::new(),
        tasks: vec![only],
        checks: Vec::new(),
        arena_bytes: 0,
        arena_lower_bound: 0,
    };
    let weight = |(w, name): &(WeightId, &str)| {
        let kept = family.weights[w.index()].clone();
        WeightDesc { name: (*name).to_owned(), ..kept }
    };
    let state = |(s, name): &(StateId, &str)| {
        let kept = family.states[s.index()].clone();
        StateDesc { name: (*name).to_owned(), ..kept }
    };
    PlanFamily {
        model: family.model.clone(),
        target: family.target.clone(),
        weights: weights.iter().map(weight).collect(),
        states: states.iter().map(state).collect(),
        plans: vec![alone.with_checks()],
        arena_bytes: 0,
        alignment: family.alignment,
    }
}

/// The locations of a task, numbered anew.
struct Apart<'a> {
    family: &'a PlanFamily,
    plan: &'a Plan,
    task: &'a Task,
    /// Where each input was.
    inputs: Vec<(Loc, Binding)>,
    outputs: Vec<Binding>,
    weights: Vec<(WeightId, &'static str)>,
    states: Vec<(StateId, &'static str)>,
}

impl<'a> Apart<'a> {
    fn of(family: &'a PlanFamily, plan: &'a Plan, task: &'a Task) -> Apart<'a> {
        let (inputs, outputs, weights, states) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Apart { family, plan, task, inputs, outputs, weights, states }
    }

    fn operand(&mut self, place: usize, loc: Loc) -> Loc {
        let name = operand_name(self.task.kind.name(), place);
        match loc {
            Loc::Absent => Loc::Absent,
            Loc::Weight(w) => Loc::Weight(WeightId::new(number(&mut self.weights, w, name))),
            Loc::State(s) => Loc::State(StateId::new(number(&mut self.states, s, name))),
            Loc::Input(_) | Loc::Buffer(_) | Loc::Output(_) => {
                let known = self.inputs.iter().position(|(known, _)| *known == loc);
                let at = known.unwrap_or_else(|| {
                    let binding = self.bound(name, loc);
                    self.inputs.push((loc, binding));
                    self.inputs.len() - 1
                });
                Loc::Input(InputId::new(at))
            }
        }
    }

    /// An input in place of a location.
    fn bound(&self, name: &str, loc: Loc) -> Binding {
        let binding = match loc {
            Loc::Input(i) => self.plan.inputs[i.index()].clone(),
            _ => Binding { name: name.to_owned(), ty: self.type_of(loc), optional: false },
        };
        // Random tokens may exceed a small vocabulary; an `index` is below 9.
        let looked_up = self.task.kind.name() == KindName::Op(Op::Embed);
        let small = looked_up && binding.name == StepInput::Tokens.name() && self.vocabulary() < 1000;
        if small { Binding { name: "index".to_owned(), ..binding } } else { binding }
    }

    /// Rows of the table that the task looks tokens up in.
    fn vocabulary(&self) -> u64 {
        let table = self.task.operands.iter().find_map(|loc| match loc {
            Loc::Weight(w) => self.family.weights[w.index()].ty.shape.dims().first()?.known(),
            _ => None,
        });
        table.unwrap_or(0)
    }

    fn type_of(&self, loc: Loc) -> TensorType {
        match loc {
            Loc::Buffer(b) => self.plan.buffers[b.index()].ty.clone(),
            Loc::Input(i) => self.plan.inputs[i.index()].ty.clone(),
            Loc::Output(o) => self.plan.outputs[o.index()].ty.clone(),
            Loc::Weight(w) => self.family.weights[w.index()].ty.clone(),
            Loc::State(s) => self.family.states[s.index()].ty.clone(),
            Loc::Absent => TensorType::f32(Shape::consts(&[])),
        }
    }

    fn result(&mut self, loc: Loc) -> Loc {
        if let Loc::State(s) = loc {
            return Loc::State(StateId::new(number(&mut self.states, s, "state")));
        }
        let name = format!("r{}", self.outputs.len());
        self.outputs.push(Binding { name, ty: self.type_of(loc), optional: false });
        Loc::Output(OutputId::new(self.outputs.len() - 1))
    }
}

/// The place of an id in a list, to which it is added with its name if it is new.
fn number<I: Copy + PartialEq>(all: &mut Vec<(I, &'static str)>, id: I, name: &'static str) -> usize {
    all.iter().position(|(known, _)| *known == id).unwrap_or_else(|| {
        all.push((id, name));
        all.len() - 1
    })
}
