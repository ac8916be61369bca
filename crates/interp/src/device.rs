//! The oracle as a device: evaluates each task's body.

use crate::eval::evaluate;
use crate::tensor::Tensor;
use aio_backend::{
    Bindings, Counters, Data, Device, DeviceError, Executable, FullAxes, LoadOptions, Pending, WeightSet, WeightSource,
    null, weights,
};
use aio_ir::{Dims, Sym, ValueId, verify};
use aio_plan::{Loc, Plan, PlanFamily, PoolSizes, Target, Task, TaskId};
use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A device that runs the bodies of plans. See the crate's front page.
#[derive(Debug, Default)]
pub struct InterpDevice {
    counters: Arc<Mutex<Counters>>,
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
    full: FullAxes,
    /// Whether a value's size depends on the number of pages.
    has_pages: bool,
    family: Arc<PlanFamily>,
    plan: Plan,
    /// Submissions per step.
    submissions: u64,
    resident: Arc<Resident>,
    counters: Arc<Mutex<Counters>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The guarded value is replaced as a whole, so a panic elsewhere cannot leave it half-written.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn has_pages(plan: &Plan) -> bool {
    let mut values = plan.tasks.iter().flat_map(|t| t.body.values());
    values.any(|(_, v)| v.ty.shape.dims().contains(&Sym::Pages.into()))
}

fn failed(e: impl std::fmt::Display) -> DeviceError {
    DeviceError::Failed(e.to_string())
}

impl Device for InterpDevice {
    fn target(&self) -> Target {
        null::permissive_target("interp")
    }

    fn counters(&self) -> Counters {
        *lock(&self.counters)
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
            full: FullAxes::of(plan),
            has_pages: has_pages(plan),
            plan: plan.clone(),
            submissions: options.submission.submissions(plan),
            resident: weights.get()?,
            counters: Arc::clone(&self.counters),
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
        bindings.check(&self.plan)?;
        self.full.check(&bindings.dims)?;
        self.check_pages(&bindings.dims)?;
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
        let mut counters = lock(&self.counters);
        counters.submissions += self.submissions;
        counters.syncs += self.submissions;
        counters.launches += self.plan.tasks.len() as u64;
        counters.bytes_read += self.plan.tasks.iter().map(|t| t.cost.bytes_read).sum::<u64>();
        counters.bytes_written += self.plan.tasks.iter().map(|t| t.cost.bytes_written).sum::<u64>();
        Ok(Pending::Done)
    }
}

impl InterpExecutable {
    /// All values of a step have one number of pages, so it must be the pool's.
    fn check_pages(&self, dims: &Dims) -> Result<(), DeviceError> {
        let pool = self.resident.pools.pages;
        if !self.has_pages || dims.pages == pool {
            return Ok(());
        }
        let message = format!("the step has {}, the oracle's pool {pool}", dims.pages);
        Err(DeviceError::Binding { name: "pages".to_owned(), message })
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
