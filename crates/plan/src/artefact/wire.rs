//! How plans lie in the section `plans` of an artefact: postcard of what is declared here.
//!
//! Types of `aio-ir` go by their names in the text form, bodies of tasks as texts of which each stands there once: the
//! layers of a model share them, so a family of a thousand tasks parses a dozen graphs. What is read is checked by
//! [`crate::verify`] before anybody gets it. Called by [`super::write`] and [`super::read`].

use super::ArtefactError;
use crate::bucket::Bucket;
use crate::family::{Binding, Buffer, Plan, PlanFamily, StateDesc, WeightDesc};
use crate::kind::TaskKind;
use crate::task::{BufferId, InputId, OutputId, Slot, StateId, Task, WeightId};
use aio_ir::{Cost, Graph};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::sync::Arc;

/// The largest index that an id can have.
const MAX_INDEX: u32 = u32::MAX - 1;

/// A [`Slot`]: its kind and its index.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum WireSlot {
    Buffer(u32),
    Input(u32),
    Output(u32),
    Weight(u32),
    State(u32),
    Absent,
}

impl From<Slot> for WireSlot {
    fn from(slot: Slot) -> WireSlot {
        match slot {
            Slot::Buffer(id) => WireSlot::Buffer(id.index() as u32),
            Slot::Input(id) => WireSlot::Input(id.index() as u32),
            Slot::Output(id) => WireSlot::Output(id.index() as u32),
            Slot::Weight(id) => WireSlot::Weight(id.index() as u32),
            Slot::State(id) => WireSlot::State(id.index() as u32),
            Slot::Absent => WireSlot::Absent,
        }
    }
}

impl TryFrom<WireSlot> for Slot {
    type Error = &'static str;

    fn try_from(slot: WireSlot) -> Result<Slot, &'static str> {
        let index = |i: u32| if i < MAX_INDEX { Ok(i as usize) } else { Err("an index out of range") };
        Ok(match slot {
            WireSlot::Buffer(i) => Slot::Buffer(BufferId::new(index(i)?)),
            WireSlot::Input(i) => Slot::Input(InputId::new(index(i)?)),
            WireSlot::Output(i) => Slot::Output(OutputId::new(index(i)?)),
            WireSlot::Weight(i) => Slot::Weight(WeightId::new(index(i)?)),
            WireSlot::State(i) => Slot::State(StateId::new(index(i)?)),
            WireSlot::Absent => Slot::Absent,
        })
    }
}

/// An op by its mnemonic.
pub(crate) mod op {
    use aio_ir::Op;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(op: &Op, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(op.mnemonic())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Op, D::Error> {
        Op::from_mnemonic(<&str>::deserialize(d)?).ok_or_else(|| D::Error::custom("an unknown op"))
    }
}

/// A tensor type: the element type's name and the dimensions, symbols by name.
pub(crate) mod tensor_type {
    use aio_ir::{DType, Dim, Shape, Sym, TensorType};
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
    use smallvec::SmallVec;

    #[derive(Serialize, Deserialize)]
    enum WireDim<'a> {
        Const(u64),
        Sym(&'a str),
    }

    #[derive(Serialize, Deserialize)]
    struct WireType<'a> {
        dtype: &'a str,
        #[serde(borrow)]
        dims: SmallVec<[WireDim<'a>; 4]>,
    }

    pub(crate) fn serialize<S: Serializer>(ty: &TensorType, s: S) -> Result<S::Ok, S::Error> {
        let dim = |d: &Dim| match *d {
            Dim::Const(n) => WireDim::Const(n),
            Dim::Sym(s) => WireDim::Sym(s.name()),
        };
        WireType { dtype: ty.dtype.name(), dims: ty.shape.dims().iter().map(dim).collect() }.serialize(s)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<TensorType, D::Error> {
        let wire = WireType::deserialize(d)?;
        let dtype = DType::from_name(wire.dtype).ok_or_else(|| D::Error::custom("an unknown element type"))?;
        let dim = |d: &WireDim<'_>| match *d {
            WireDim::Const(n) => Ok(Dim::Const(n)),
            WireDim::Sym(name) => {
                Sym::from_name(name).map(Dim::Sym).ok_or_else(|| D::Error::custom("an unknown symbol"))
            }
        };
        let dims = wire.dims.iter().map(dim).collect::<Result<Vec<_>, _>>()?;
        Ok(TensorType::new(dtype, Shape::new(dims)))
    }
}

#[derive(Serialize, Deserialize)]
struct WireTask {
    kind: TaskKind,
    /// Place in the family's list of bodies.
    body: u32,
    operands: SmallVec<[Slot; 8]>,
    results: SmallVec<[Slot; 2]>,
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

/// Texts of bodies, each once, in order of first use.
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

/// A family as the bytes of a section; the same family gives the same bytes.
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

/// Reads a family back and verifies it. The bytes may be anything.
///
/// # Errors
/// [`ArtefactError::Plans`] if they are no family, [`ArtefactError::Rule`] if it breaks a rule of plans.
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
    match crate::verify(&family) {
        Ok(()) => Ok(with_costs(family)),
        Err(errors) => Err(ArtefactError::Rule(errors.into_iter().next().expect("an error was found"))),
    }
}

/// Costs follow from verified bodies; tasks share those, so each is counted once a plan.
fn with_costs(mut family: PlanFamily) -> PlanFamily {
    for plan in &mut family.plans {
        let mut known = HashMap::new();
        let costs = |task: Task| {
            let cost =
                *known.entry(Arc::as_ptr(&task.body)).or_insert_with(|| crate::cost::of_task(&task.body, plan.bucket));
            task.with_costs(cost)
        };
        plan.tasks = std::mem::take(&mut plan.tasks).into_iter().map(costs).collect();
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
        arena_bytes: wire.arena_bytes,
        arena_lower_bound: wire.arena_lower_bound,
    })
}
