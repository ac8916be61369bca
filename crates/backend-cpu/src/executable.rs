//! A plan bound to kernels: one object per task, run by all threads, with a barrier between tasks.

use crate::activation::MAX_PANEL_ROWS;
use crate::bounds::{Bounds, Scratch};
use crate::engine::Engine;
use crate::memory::prefetch;
use crate::pool::Worker;
use crate::resident::Resident;
use crate::step::{Fault, SequenceRows, StepView};
use crate::tasks::{Lowered, Prelude, lower, reads_pages};
use aio_backend::timeline::StepRecord;
use aio_backend::{Bindings, DeviceError, Executable, Pending, StepReport, Submission};
use aio_ir::{Sym, TensorType};
use aio_plan::{Plan, PlanFamily, PoolSizes, StateDesc, StepInput, StepTime, Traffic};
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Instant;

/// See the module documentation.
pub(crate) struct CpuExecutable {
    engine: Arc<Engine>,
    resident: Arc<Resident>,
    /// Without its tasks, which are bound in `tasks`.
    plan: Plan,
    submission: Submission,
    /// Submissions per step.
    submissions: u64,
    prelude: Prelude,
    tasks: Vec<Lowered>,
    /// For each task, the next one that streams weights.
    next_weights: Vec<Option<usize>>,
    /// Whether a step without rows has nothing to do.
    needs_rows: bool,
    /// Whether tasks work on the rows of each sequence.
    by_sequence: bool,
    offsets: Offsets,
    runs: Vec<SequenceRows>,
    traffic: Traffic,
}

/// Byte offsets of the parts of scratch memory; the threads' private parts start at 0.
#[derive(Clone, Copy, Debug)]
struct Offsets {
    private_bytes: usize,
    prelude: usize,
    held: usize,
    shared: usize,
}

/// A plan's tasks bound to a model, and the scratch memory they need.
pub(crate) struct Bound {
    prelude: Prelude,
    tasks: Vec<Lowered>,
    offsets: Offsets,
    /// Total scratch memory.
    pub bytes: usize,
}

impl Bound {
    /// # Errors
    /// [`DeviceError::Unsupported`].
    pub(crate) fn new(
        family: &PlanFamily,
        plan: &Plan,
        resident: &Resident,
        threads: usize,
    ) -> Result<Bound, DeviceError> {
        let mut prelude = Prelude::default();
        let tasks = plan.tasks.iter().map(|t| lower(t, family, plan, resident, &mut prelude));
        let tasks = tasks.collect::<Result<Vec<_>, _>>()?;
        let (rows, outs) = (plan.bucket.rows as usize, plan.bucket.outs as usize);
        let bounds = Bounds { rows, outs, threads, pages: resident.pages as usize };
        let need = tasks.iter().map(|t| t.scratch(&bounds)).fold(Scratch::default(), Scratch::max);
        let private_bytes = need.private.next_multiple_of(64);
        let held = private_bytes * threads + prelude.bytes(&bounds);
        let shared = held + need.held.next_multiple_of(64);
        let offsets = Offsets { private_bytes, prelude: private_bytes * threads, held, shared };
        Ok(Bound { prelude, tasks, offsets, bytes: shared + need.shared })
    }
}

impl CpuExecutable {
    pub(crate) fn new(
        engine: Arc<Engine>,
        family: &PlanFamily,
        plan: &Plan,
        resident: Arc<Resident>,
        submission: Submission,
    ) -> Result<CpuExecutable, DeviceError> {
        let Bound { prelude, tasks, offsets, bytes } = Bound::new(family, plan, &resident, engine.pool.threads())?;
        resident.reserve_scratch(bytes)?;
        let by_sequence = plan.tasks.iter().any(|t| reads_pages(t, plan));
        let runs = room_for(if by_sequence { plan.bucket.rows } else { 0 })?;
        Ok(CpuExecutable {
            engine,
            resident,
            plan: without_tasks(plan),
            submission,
            submissions: submission.submissions(plan),
            prelude,
            next_weights: next_weights(&tasks),
            tasks,
            needs_rows: plan.outputs.iter().all(|o| has_rows(&o.ty)) && family.states.iter().all(StateDesc::is_paged),
            by_sequence,
            offsets,
            runs,
            traffic: Traffic::of(family, plan),
        })
    }

    /// Collects the rows of each sequence, if tasks work by them.
    fn collect_runs(&mut self, bindings: &Bindings<'_, '_>) {
        self.runs.clear();
        // If no task reads it this way, the name means something else.
        let row_seq = if self.by_sequence { bindings.words(&self.plan, StepInput::RowSeq) } else { &[] };
        for (row, &seq) in row_seq.iter().enumerate() {
            match self.runs.last_mut() {
                Some(run) if run.seq == seq as usize => run.rows.end = row + 1,
                _ => self.runs.push(SequenceRows { seq: seq as usize, rows: row..row + 1 }),
            }
        }
    }

    /// Counts a step that began at `started`.
    fn report(&self, bindings: &Bindings<'_, '_>, started: Instant) -> StepReport {
        let time = StepTime::Measured(started.elapsed().as_secs_f64());
        let report = StepReport::new(&self.traffic, bindings.load(&self.plan), self.submissions, time);
        self.engine.tally.add(&report, self.tasks.len() as u64);
        if self.engine.pool.recorder().is_on() {
            self.keep(bindings, &report, started);
        }
        report
    }

    /// Adds a step to the device's timeline.
    fn keep(&self, bindings: &Bindings<'_, '_>, report: &StepReport, started: Instant) {
        let recorder = self.engine.pool.recorder();
        let load = bindings.load(&self.plan);
        self.engine.record.add(StepRecord {
            bucket: self.plan.bucket,
            rows: bindings.dims.rows,
            positions: load.positions,
            bytes_read: report.bytes_read,
            tasks: self.tasks.len() as u32,
            start_ns: recorder.nanoseconds(started),
            end_ns: recorder.nanoseconds(Instant::now()),
            marks: recorder.take(),
        });
    }
}

/// Whether a tensor is empty in a step without rows.
fn has_rows(ty: &TensorType) -> bool {
    [Sym::Rows, Sym::Outs].iter().any(|&sym| ty.shape.dims().contains(&sym.into()))
}

/// A list with room for the runs of `rows` rows, so that no step grows it.
fn room_for(rows: u32) -> Result<Vec<SequenceRows>, DeviceError> {
    let mut runs: Vec<SequenceRows> = Vec::new();
    let bytes = u64::from(rows) * size_of::<SequenceRows>() as u64;
    let lack = |_| DeviceError::OutOfMemory { what: "the runs of a step's rows".to_owned(), bytes };
    runs.try_reserve_exact(rows as usize).map_err(lack)?;
    Ok(runs)
}

/// The plan without its tasks, which are bound separately: an engine has a dozen plans of hundreds of tasks.
fn without_tasks(plan: &Plan) -> Plan {
    let Plan { bucket, inputs, outputs, buffers, tasks: _, checks, arena_bytes, arena_lower_bound } = plan;
    Plan {
        bucket: *bucket,
        inputs: inputs.clone(),
        outputs: outputs.clone(),
        buffers: buffers.clone(),
        tasks: Vec::new(),
        checks: checks.clone(),
        arena_bytes: *arena_bytes,
        arena_lower_bound: *arena_lower_bound,
    }
}

/// Bytes of the next task's weights that a thread prefetches before the barrier: as much as memory delivers while the
/// threads prepare their rows. Prefetching delays the last thread to arrive.
const AHEAD_BYTES: usize = 8 << 10;
/// Bytes it prefetches while it waits, at no cost.
const IDLE_BYTES: usize = 32 << 10;
/// Bytes it prefetches between two looks at the barrier.
const IDLE_STEP: usize = 256;
/// Steps with more rows are not memory-bound: they read the weights more than once.
const AHEAD_ROWS: usize = MAX_PANEL_ROWS;

/// Ends a stage, prefetching the weights this thread reads next. Returns whether it stays in the team.
fn meet(worker: &mut Worker<'_>, weights: &[u8]) -> bool {
    let (now, later) = weights[..weights.len().min(AHEAD_BYTES + IDLE_BYTES)].split_at(weights.len().min(AHEAD_BYTES));
    prefetch(now);
    let mut steps = later.chunks(IDLE_STEP);
    worker.next_stage(|| steps.next().map(prefetch).is_some())
}

fn next_weights(tasks: &[Lowered]) -> Vec<Option<usize>> {
    let next = |i: usize| (i + 1..tasks.len()).find(|&next| tasks[next].has_weights());
    (0..tasks.len()).map(next).collect()
}

impl CpuExecutable {
    /// Runs the tasks of a step, in one program or one program per task.
    fn run(&self, step: &StepView<'_>) {
        let pool = &self.engine.pool;
        let crossed = match self.submission {
            Submission::Graph => {
                pool.recorder().set_first_task(0);
                pool.run_stages(&|worker| self.run_from(step, worker))
            }
            Submission::Task => {
                let one = |i| {
                    pool.recorder().set_first_task(i);
                    pool.run_stages(&|worker| self.run_task(step, worker, i))
                };
                (0..self.tasks.len()).map(one).fold(0, u32::wrapping_add)
            }
        };
        self.engine.tally.update(|counters| counters.barriers += u64::from(crossed));
    }

    /// A thread's part of a step, from the stage it joins; each task is a stage.
    fn run_from(&self, step: &StepView<'_>, mut worker: Worker<'_>) {
        for i in worker.stage()..self.tasks.len() {
            self.run_task(step, worker, i);
            let ahead = self.next_weights[i].filter(|_| step.rows() <= AHEAD_ROWS);
            let weights = ahead.map_or(&[][..], |next| self.tasks[next].first_weights(step, worker));
            if i + 1 < self.tasks.len() && !meet(&mut worker, weights) {
                return;
            }
        }
    }

    fn run_task(&self, step: &StepView<'_>, worker: Worker<'_>, i: usize) {
        if i == 0 && self.prelude.run(step, worker) {
            worker.barrier();
        }
        self.tasks[i].run(step, worker);
    }
}

impl Executable for CpuExecutable {
    fn submit<'a>(&'a mut self, bindings: &'a mut Bindings<'_, '_>) -> Result<Pending<'a>, DeviceError> {
        let started = Instant::now();
        let pools = PoolSizes { pages: self.resident.pages, slots: self.resident.slots };
        bindings.check(&self.plan, pools)?;
        self.collect_runs(bindings);
        let resident = Arc::clone(&self.resident);
        let mut mutable = resident.lock();
        let outputs: SmallVec<[*mut u32; 4]> = bindings.outputs.iter_mut().map(|o| o.as_mut_ptr()).collect();
        let mutable = &mut *mutable;
        let (states, kv_page_stride) = (mutable.states.addresses(), mutable.states.page_stride());
        // The only allocations a step can make: lists that outgrow their inline storage.
        let grown = u64::from(outputs.spilled()) + u64::from(states.spilled());
        if grown > 0 {
            self.engine.tally.update(|counters| counters.step_allocations += grown);
        }
        let fault = Fault::default();
        let step = StepView {
            dims: bindings.dims,
            kernels: &self.engine.kernels,
            resident: &resident,
            plan: &self.plan,
            inputs: bindings.inputs,
            outputs: &outputs,
            states: &states,
            kv_page_stride,
            arena: mutable.arena.as_mut_ptr(),
            scratch: mutable.scratch.as_mut_ptr(),
            private_bytes: self.offsets.private_bytes,
            shared_offset: self.offsets.shared,
            prelude_offset: self.offsets.prelude,
            held_offset: self.offsets.held,
            runs: &self.runs,
            fault: &fault,
        };
        if step.rows() > 0 || !self.needs_rows {
            self.run(&step);
        }
        fault.into_result()?;
        Ok(Pending::Done(self.report(bindings, started)))
    }
}
