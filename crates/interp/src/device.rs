//! The oracle as a device: evaluates each task's body.

use crate::eval::evaluate;
use crate::tensor::Tensor;
use aio_backend::{
    Bindings, Counters, Data, Device, DeviceError, Executable, LoadOptions, Pending, StepReport, Tally, WeightSet,
    WeightSource, null, weights,
};
use aio_ir::{Dims, ValueId, verify};
use aio_plan::{Loc, Plan, PlanFamily, PoolSizes, StepTime, Target, Task, TaskId, Traffic};
use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A device that runs the bodies of plans. See the crate's front page.
#[derive(Debug, Default)]
pub struct InterpDevice {
    tally: Arc<Tally>,
}

/// A model on the oracle: weights in the file's form, and states.
struct Resident {
    weights: Vec<Vec<u8>>,
    states: Mutex<Vec<Vec<u8>>>,
    /// Whether each state is paged.
    paged: Vec<bool>,
    pools: PoolSizes,
}

struct InterpExecutable {
    family: Arc<PlanFamily>,
    plan: Plan,
    traffic: Traffic,
    /// Submissions per step.
    submissions: u64,
    resident: Arc<Resident>,
    tally: Arc<Tally>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The guarded value is replaced as a whole, so a panic elsewhere cannot leave it half-written.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(e: impl std::fmt::Display) -> DeviceError {
    DeviceError::Failed(e.to_string())
}

impl Device for InterpDevice {
    fn target(&self) -> Target {
        null::permissive_target("interp")
    }

    fn counters(&self) -> Counters {
        self.tally.read()
    }

    fn upload(
        &self,
        family: &PlanFamily,
        source: &dyn WeightSource,
        pools: PoolSizes,
    ) -> Result<WeightSet, DeviceError> {
        let copy = |w: &aio_plan::WeightDesc| Ok(weights::checked(source, &w.name, &w.ty)?.to_vec());
        let dims = family.state_bounds(pools);
        // What a file says of its sizes is refused as a whole before any of it is allocated.
        let held =
            family.weights.iter().map(|w| w.ty.bytes(&dims)).chain(family.states.iter().map(|s| s.ty.bytes(&dims)));
        let total = held.chain([Some(family.arena_bytes)]).try_fold(0u64, |sum, bytes| sum.checked_add(bytes?));
        if total.is_none_or(|bytes| bytes > isize::MAX as u64) {
            return Err(failed("the family's weights, states and arena are too large".to_owned()));
        }
        let state = |s: &aio_plan::StateDesc| {
            let bytes = s.ty.bytes(&dims).and_then(|b| usize::try_from(b).ok());
            let zeroed = |bytes: usize| bytemuck::allocation::try_zeroed_vec::<u8>(bytes).ok();
            bytes.and_then(zeroed).ok_or_else(|| failed(format!("state `{}` is too large", s.name)))
        };
        let weights = family.weights.iter().map(copy).collect::<Result<_, _>>()?;
        let states = family.states.iter().map(state).collect::<Result<_, _>>()?;
        let paged = family.states.iter().map(|s| s.is_paged()).collect();
        Ok(WeightSet::new(Resident { weights, states: Mutex::new(states), paged, pools }))
    }

    fn load(
        &self,
        family: &PlanFamily,
        plan: &Plan,
        weights: &WeightSet,
        options: &LoadOptions,
    ) -> Result<Box<dyn Executable>, DeviceError> {
        let shared = PlanFamily { plans: Vec::new(), ..family.clone() };
        Ok(Box::new(InterpExecutable {
            family: Arc::new(shared),
            traffic: Traffic::of(family, plan),
            plan: plan.clone(),
            submissions: options.submission.submissions(plan),
            resident: weights.get()?,
            tally: Arc::clone(&self.tally),
        }))
    }

    fn copy_pages(&self, weights: &WeightSet, pages: &[(u32, u32)]) -> Result<(), DeviceError> {
        let resident = weights.get::<Resident>()?;
        if let Some(&(from, to)) = pages.iter().find(|(from, to)| *from.max(to) >= resident.pools.pages) {
            return Err(failed(format!("page {} is not below {}", from.max(to), resident.pools.pages)));
        }
        for (state, _) in lock(&resident.states).iter_mut().zip(&resident.paged).filter(|(_, paged)| **paged) {
            let size = state.len() / resident.pools.pages.max(1) as usize;
            for &(from, to) in pages {
                state.copy_within(from as usize * size..(from as usize + 1) * size, to as usize * size);
            }
        }
        Ok(())
    }

    fn download_state(&self, weights: &WeightSet, state: usize) -> Result<Vec<u8>, DeviceError> {
        let resident = weights.get::<Resident>()?;
        let states = lock(&resident.states);
        states.get(state).cloned().ok_or_else(|| failed(format!("there is no state {state}")))
    }
}

impl Executable for InterpExecutable {
    fn submit<'a>(&'a mut self, bindings: &'a mut Bindings<'_, '_>) -> Result<Pending<'a>, DeviceError> {
        let started = Instant::now();
        bindings.check(&self.plan, self.resident.pools)?;
        let mut step = Execution {
            exe: self,
            dims: bindings.dims,
            states: lock(&self.resident.states).clone(),
            buffers: vec![Vec::new(); self.plan.buffers.len()],
            outputs: vec![Vec::new(); self.plan.outputs.len()],
        };
        for (i, task) in self.plan.tasks.iter().enumerate() {
            step.task(TaskId::new(i), task, bindings.inputs)?;
        }
        let Execution { states, outputs, .. } = step;
        for (words, bytes) in bindings.outputs.iter_mut().zip(&outputs) {
            bytemuck::cast_slice_mut::<u32, u8>(words)[..bytes.len()].copy_from_slice(bytes);
        }
        // States are replaced only now, so a failed step leaves them unchanged.
        *lock(&self.resident.states) = states;
        let time = StepTime::Measured(started.elapsed().as_secs_f64());
        let report = StepReport::new(&self.traffic, bindings.load(&self.plan), self.submissions, time);
        self.tally.add(&report, self.plan.tasks.len() as u64);
        Ok(Pending::Done(report))
    }
}

/// A step in progress.
struct Execution<'a> {
    exe: &'a InterpExecutable,
    dims: Dims,
    states: Vec<Vec<u8>>,
    buffers: Vec<Vec<u8>>,
    outputs: Vec<Vec<u8>>,
}

impl Execution<'_> {
    fn task(&mut self, id: TaskId, task: &Task, inputs: &[Option<Data<'_>>]) -> Result<(), DeviceError> {
        let body = verify(&task.body).map_err(failed)?;
        let locs: Vec<Loc> = task.operands.iter().copied().filter(|s| *s != Loc::Absent).collect();
        // The pools' sizes come from the resident model, the other dimensions from the step.
        let PoolSizes { pages, slots } = self.exe.resident.pools;
        let dims = Dims { pages, slots, ..self.dims };
        let results = evaluate(body, &dims, |value: ValueId, v| {
            let loc = locs[value.index()];
            let mut bytes = self.bytes(loc, inputs)?;
            if let (Loc::State(_), Cow::Borrowed(all)) = (loc, &bytes) {
                // A state has room for the largest step.
                bytes = Cow::Borrowed(all.get(..v.ty.bytes(&dims)? as usize)?);
            }
            Tensor::from_bytes(&v.ty, &dims, bytes)
        });
        let results = results.map_err(|e| failed(format!("{id} ({}): {e}", task.kind.name().name())))?;
        let owned: Vec<_> = results.iter().map(Tensor::to_bytes).collect();
        drop(results);
        for (loc, bytes) in task.results.iter().zip(owned) {
            match loc {
                Loc::Buffer(b) => self.buffers[b.index()] = bytes,
                Loc::Output(o) => self.outputs[o.index()] = bytes,
                Loc::State(s) => self.states[s.index()][..bytes.len()].copy_from_slice(&bytes),
                _ => unreachable!("L008: results have a place"),
            }
        }
        Ok(())
    }

    fn bytes<'s>(&'s self, loc: Loc, inputs: &'s [Option<Data<'s>>]) -> Option<Cow<'s, [u8]>> {
        let bytes = match loc {
            Loc::Buffer(b) => &self.buffers[b.index()],
            Loc::Output(o) => &self.outputs[o.index()],
            Loc::Weight(w) => &self.exe.resident.weights[w.index()],
            Loc::State(s) => &self.states[s.index()],
            Loc::Input(i) => return inputs[i.index()].map(|d| Cow::Borrowed(d.bytes())),
            Loc::Absent => return None,
        };
        debug_assert!(!matches!(loc, Loc::Weight(w) if w.index() >= self.exe.family.weights.len()), "L001");
        Some(Cow::Borrowed(bytes))
    }
}
