//! The encoding of plans in the section `plans` of an artefact: postcard of the types declared here.
//!
//! Types of `aio-ir` are stored by their names in the text form. Task bodies are stored as texts, each once: the layers
//! of a model share them, so a family of a thousand tasks parses a dozen graphs. [`crate::verify`] checks what is read
//! before it is returned. Called by [`super::write`] and [`super::read`].

use super::ArtefactError;
use crate::bucket::Bucket;
use crate::checks::checks;
use crate::family::{Binding, Buffer, Plan, PlanFamily, StateDesc, WeightDesc};
use crate::kinds::TaskKind;
use crate::loc::Loc;
use crate::task::Task;
use crate::verify::verify_tasks;
use aio_ir::{Cost, Graph};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::sync::Arc;

#[derive(Serialize, Deserialize)]
struct WireTask {
    kind: TaskKind,
    /// Index in the family's list of bodies.
    body: u32,
    operands: SmallVec<[Loc; 8]>,
    results: SmallVec<[Loc; 2]>,
}

#[derive(Serialize, Deserialize)]
struct WirePlan {
    bucket: Bucket,
    inputs: Vec<Binding>,
    outputs: Vec<Binding>,
    buffers: Vec<Buffer>,
    tasks: Vec<WireTask>,
    arena_bytes: u64,
    arena_lower_bound: u64,
}

#[derive(Serialize, Deserialize)]
struct WireFamily {
    model: String,
    target: String,
    weights: Vec<WeightDesc>,
    states: Vec<StateDesc>,
    bodies: Vec<String>,
    plans: Vec<WirePlan>,
    arena_bytes: u64,
    alignment: u64,
}

/// Distinct body texts, in order of first use.
#[derive(Default)]
struct Bodies {
    texts: Vec<String>,
    places: HashMap<String, u32>,
}

impl Bodies {
    fn place(&mut self, body: &Graph) -> u32 {
        let text = aio_ir::text::print(body);
        *self.places.entry(text).or_insert_with_key(|text| {
            self.texts.push(text.clone());
            self.texts.len() as u32 - 1
        })
    }
}

/// Encodes a family. The same family gives the same bytes.
pub fn encode(family: &PlanFamily) -> Vec<u8> {
    let mut bodies = Bodies::default();
    let plans = family.plans.iter().map(|plan| wire_plan(plan, &mut bodies)).collect();
    let wire = WireFamily {
        model: family.model.clone(),
        target: family.target.clone(),
        weights: family.weights.clone(),
        states: family.states.clone(),
        bodies: bodies.texts,
        plans,
        arena_bytes: family.arena_bytes,
        alignment: family.alignment,
    };
    postcard::to_allocvec(&wire).expect("every part of a family has a serialised form")
}

fn wire_plan(plan: &Plan, bodies: &mut Bodies) -> WirePlan {
    let task = |t: &Task| WireTask {
        kind: t.kind,
        body: bodies.place(&t.body),
        operands: t.operands.clone(),
        results: t.results.clone(),
    };
    WirePlan {
        bucket: plan.bucket,
        inputs: plan.inputs.clone(),
        outputs: plan.outputs.clone(),
        buffers: plan.buffers.clone(),
        tasks: plan.tasks.iter().map(task).collect(),
        arena_bytes: plan.arena_bytes,
        arena_lower_bound: plan.arena_lower_bound,
    }
}

/// Decodes and verifies a family. The bytes may be anything.
///
/// # Errors
/// [`ArtefactError::Plans`] if the bytes are not a family, [`ArtefactError::Rule`] if the family breaks a plan rule.
pub fn decode(bytes: &[u8]) -> Result<PlanFamily, ArtefactError> {
    let bad = |reason: String| ArtefactError::Plans { reason };
    let (wire, rest): (WireFamily, &[u8]) = postcard::take_from_bytes(bytes).map_err(|e| bad(e.to_string()))?;
    if !rest.is_empty() {
        return Err(bad(format!("{} bytes are left over", rest.len())));
    }
    let parse = |text: &String| match aio_ir::text::parse(text) {
        Ok(parsed) => Ok(Arc::new(parsed.graph)),
        Err(e) => Err(bad(format!("the body of a task: {e}"))),
    };
    let bodies = wire.bodies.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let WireFamily { model, target, weights, states, bodies: _, plans, arena_bytes, alignment } = wire;
    let plans = plans.into_iter().map(|p| plan(p, &bodies)).collect::<Result<_, _>>()?;
    let family = PlanFamily { model, target, weights, states, plans, arena_bytes, alignment };
    match verify_tasks(&family) {
        Ok(()) => Ok(complete(family)),
        Err(errors) => Err(ArtefactError::Rule(errors.into_iter().next().expect("an error was found"))),
    }
}

/// Adds checks and costs, which follow from verified bodies. Tasks share bodies, so each is costed once per plan.
fn complete(mut family: PlanFamily) -> PlanFamily {
    for plan in &mut family.plans {
        let mut known = HashMap::new();
        let costs = |task: Task| {
            let cost =
                *known.entry(Arc::as_ptr(&task.body)).or_insert_with(|| crate::cost::of_task(&task.body, plan.bucket));
            task.with_costs(cost)
        };
        plan.tasks = std::mem::take(&mut plan.tasks).into_iter().map(costs).collect();
        plan.checks = checks(&plan.tasks);
    }
    family
}

fn plan(wire: WirePlan, bodies: &[Arc<Graph>]) -> Result<Plan, ArtefactError> {
    let task = |t: WireTask| {
        let body = bodies.get(t.body as usize).cloned();
        let body = body.ok_or_else(|| ArtefactError::Plans { reason: format!("there is no body {}", t.body) })?;
        let (cost, cost_per_position) = (Cost::default(), Cost::default());
        Ok(Task { kind: t.kind, body, operands: t.operands, results: t.results, cost, cost_per_position })
    };
    Ok(Plan {
        bucket: wire.bucket,
        inputs: wire.inputs,
        outputs: wire.outputs,
        buffers: wire.buffers,
        tasks: wire.tasks.into_iter().map(task).collect::<Result<_, ArtefactError>>()?,
        checks: Vec::new(),
        arena_bytes: wire.arena_bytes,
        arena_lower_bound: wire.arena_lower_bound,
    })
}
