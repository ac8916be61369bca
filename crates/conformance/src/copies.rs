//! Copies of a plan's tasks in one plan, each with its own weights and states, run one after the other in one submission.
//!
//! Times the tasks as a step of a model runs them, with the weights in caches or not: copies that together exceed the caches
//! are read from memory in every run, as a model's layers are.

use crate::runner::{Bound, POOLS, step_cost};
use crate::{Case, Outcome, POOL_PAGES, Weights, driver};
use aio_backend::{Device, DeviceError, Executable, LoadOptions};
use aio_ir::{Cost, Dims};
use aio_plan::{
    Binding, Buffer, BufferId, InputId, Loc, OutputId, Plan, PlanFamily, StateId, StepInput, StepTime, Task, WeightId,
};

/// Compiles a case for its first step.
///
/// # Errors
/// The outcome, if the device does not run it.
pub fn case_family(case: &Case, device: &dyn Device) -> Result<PlanFamily, Outcome> {
    driver::compiled(case, device, case.bucket_of(0)).map(|(_, family)| family)
}

/// Bytes that each copy of a family's first plan has for itself: weights, states, and inputs if they are separate.
pub fn copy_bytes(case: &Case, family: &PlanFamily) -> u64 {
    let dims = Dims { pages: POOLS.pages, slots: POOLS.slots, ..case.steps[0].dims() };
    let weights = family.weights.iter().map(|w| &w.ty).chain(family.states.iter().map(|s| &s.ty));
    let inputs = family.plans[0].inputs.iter().filter(|b| separate(family, b)).map(|b| &b.ty);
    weights.chain(inputs).map(|ty| ty.bytes(&dims).unwrap_or(0)).sum()
}

/// Cost of one copy in the case's first step.
pub fn copy_cost(case: &Case, family: &PlanFamily) -> Cost {
    step_cost(&family.plans[0], &case.steps[0])
}

/// Whether each copy gets its own input. Activations are in the caches when a task that streams weights or keys begins;
/// where a task has neither, its inputs are what it streams.
fn separate(family: &PlanFamily, input: &Binding) -> bool {
    let streams = !family.states.is_empty() || family.weights.iter().any(|w| w.ty.shape.rank() > 1);
    !streams && StepInput::from_name(&input.name).is_none()
}

/// The numbers of things in a plan, by which those of a copy are moved.
#[derive(Clone, Copy)]
struct Sizes {
    weights: usize,
    states: usize,
    buffers: usize,
    outputs: usize,
}

/// A family whose one plan has `copies` copies of the tasks of another's first plan.
fn repeated(family: &PlanFamily, copies: usize) -> PlanFamily {
    let plan = &family.plans[0];
    let sizes = Sizes {
        weights: family.weights.len(),
        states: family.states.len(),
        buffers: plan.buffers.len(),
        outputs: plan.outputs.len(),
    };
    let (inputs, places) = inputs(family, copies);
    let many = |copy: usize, name: &str| if copy == 0 { name.to_owned() } else { format!("{name} #{copy}") };
    let mut all = PlanFamily { weights: Vec::new(), states: Vec::new(), plans: Vec::new(), ..family.clone() };
    let (mut buffers, mut outputs, mut tasks) = (Vec::<Buffer>::new(), Vec::<Binding>::new(), Vec::<Task>::new());
    for (copy, places) in places.iter().enumerate() {
        let named = |name: &str| many(copy, name);
        all.weights.extend(family.weights.iter().map(|w| aio_plan::WeightDesc { name: named(&w.name), ..w.clone() }));
        all.states.extend(family.states.iter().map(|s| aio_plan::StateDesc { name: named(&s.name), ..s.clone() }));
        buffers.extend(plan.buffers.iter().cloned());
        outputs.extend(plan.outputs.iter().map(|o| Binding { name: named(&o.name), ..o.clone() }));
        tasks.extend(plan.tasks.iter().map(|task| moved(task, copy, sizes, places)));
    }
    let plan = Plan { inputs, outputs, buffers, tasks, ..plan.clone() };
    all.plans.push(plan.with_checks());
    all
}

/// The inputs of all copies, and for each copy the place of each input.
fn inputs(family: &PlanFamily, copies: usize) -> (Vec<Binding>, Vec<Vec<usize>>) {
    let own = &family.plans[0].inputs;
    let mut all = own.clone();
    let mut places = vec![(0..own.len()).collect::<Vec<_>>()];
    for copy in 1..copies {
        let mut place = |(i, input): (usize, &Binding)| {
            if !separate(family, input) {
                return i;
            }
            all.push(Binding { name: format!("{} #{copy}", input.name), ..input.clone() });
            all.len() - 1
        };
        places.push(own.iter().enumerate().map(&mut place).collect());
    }
    (all, places)
}

/// A task of a copy.
fn moved(task: &Task, copy: usize, sizes: Sizes, inputs: &[usize]) -> Task {
    let loc = |loc: &Loc| match *loc {
        Loc::Absent => Loc::Absent,
        Loc::Input(i) => Loc::Input(InputId::new(inputs[i.index()])),
        Loc::Weight(w) => Loc::Weight(WeightId::new(copy * sizes.weights + w.index())),
        Loc::State(s) => Loc::State(StateId::new(copy * sizes.states + s.index())),
        Loc::Buffer(b) => Loc::Buffer(BufferId::new(copy * sizes.buffers + b.index())),
        Loc::Output(o) => Loc::Output(OutputId::new(copy * sizes.outputs + o.index())),
    };
    let (operands, results) = (task.operands.iter().map(loc).collect(), task.results.iter().map(loc).collect());
    Task { operands, results, ..task.clone() }
}

/// Copies of a plan, loaded on a device.
pub struct Copies {
    plan: Plan,
    bound: Bound,
    executable: Box<dyn Executable>,
    count: usize,
}

impl Copies {
    /// Loads `count` copies, at least one, of the family's first plan, to run the case's first step.
    ///
    /// # Errors
    /// The errors of [`Device::upload`] and [`Device::load`].
    pub fn load(case: &Case, family: &PlanFamily, device: &dyn Device, count: usize) -> Result<Copies, DeviceError> {
        let count = count.max(1);
        let all = repeated(family, count);
        let set = device.upload(&all, &Weights::alike(family), POOLS)?;
        // Pages that were never written may all be one page of zeros in the caches.
        let pages: Vec<(u32, u32)> = (0..POOL_PAGES).map(|to| (u32::from(to == 0), to)).collect();
        if all.states.iter().any(|s| s.is_paged()) {
            device.copy_pages(&set, &pages)?;
        }
        let executable = device.load(&all, &all.plans[0], &set, &LoadOptions::default())?;
        let plan = all.plans.into_iter().next().expect("a family of copies has a plan");
        Ok(Copies { bound: Bound::new(case, &plan, 0), plan, executable, count })
    }

    /// Number of copies.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Runs all copies once. Returns the time of all together.
    ///
    /// # Errors
    /// The device's errors.
    pub fn run(&mut self) -> Result<StepTime, DeviceError> {
        self.bound.run(&self.plan, &mut *self.executable)
    }

    /// The outputs of each copy in the last run, as words.
    pub fn outputs(&self) -> impl Iterator<Item = &[Vec<u32>]> {
        self.bound.outputs.chunks((self.bound.outputs.len() / self.count).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::SENTINEL;
    use crate::{CaseStep, matching};
    use aio_interp::InterpDevice;

    #[test]
    fn each_copy_does_what_the_case_does() {
        let device = InterpDevice::default();
        for name in ["linear-norm-q4_0", "qkv-plain-q8_0", "head-argmax-f16", "op-add-both-f32", "embed-q4_0"] {
            let cases = matching(name);
            let case = cases.iter().find(|c| c.name == name).unwrap_or_else(|| panic!("{name}"));
            let case = Case { steps: vec![CaseStep::at(3, 5)], ..case.clone() };
            let family = case_family(&case, &device).expect("the oracle runs it");
            let many = repeated(&family, 3);
            aio_plan::verify(&many).unwrap_or_else(|e| panic!("{name}: {e:?}"));
            assert_eq!(many.plans[0].tasks.len(), 3 * family.plans[0].tasks.len());
            let mut copies = Copies::load(&case, &family, &device, 3).expect("the oracle loads it");
            copies.run().expect("the oracle runs it");
            let outputs: Vec<_> = copies.outputs().collect();
            assert_eq!(outputs.len(), 3);
            assert!(outputs.iter().all(|copy| *copy == outputs[0]), "{name}");
            assert!(outputs[0].iter().all(|words| words[0] != SENTINEL), "{name}: nothing was written");
            let mut one = Copies::load(&case, &family, &device, 1).expect("the oracle loads it");
            one.run().expect("the oracle runs it");
            assert_eq!(one.outputs().next(), Some(outputs[0]), "{name}");
        }
    }

    #[test]
    fn copies_share_activations_but_not_what_they_stream() {
        let device = InterpDevice::default();
        let family = |name: &str| {
            let case = matching(name).swap_remove(0);
            let case = Case { steps: vec![CaseStep::at(1, 0)], ..case };
            let family = case_family(&case, &device).expect("the oracle runs it");
            (copy_bytes(&case, &family), repeated(&family, 4))
        };
        let (bytes, linear) = family("linear-q4_0");
        assert_eq!((linear.plans[0].inputs.len(), linear.weights.len(), bytes), (1, 4, 264 * 256 / 32 * 18));
        let (bytes, add) = family("op-add-same-f32");
        assert_eq!((add.plans[0].inputs.len(), add.weights.len(), bytes), (8, 0, 2 * 3 * 40 * 4));
        let (_, qkv) = family("qkv-plain-q8_0");
        assert_eq!(qkv.states.len(), 4, "{:?}", qkv.states);
    }
}
