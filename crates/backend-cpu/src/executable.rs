//! A plan bound to kernels: one object per task, run by all threads, with a barrier between tasks.

use crate::activation::MAX_PANEL_ROWS;
use crate::bounds::{Bounds, Scratch};
use crate::engine::Engine;
use crate::memory::prefetch;
use crate::pool::Worker;
use crate::resident::Resident;
use crate::step::{Check, Fault, SequenceRows, StepView};
use crate::tasks::{Lowered, Prelude, Reads, lower, reads};
use aio_backend::{Bindings, Data, DeviceError, Executable, FullAxes, Pending, Submission};
use aio_ir::{Sym, TensorType};
use aio_plan::{Plan, PlanFamily, StateDesc, StepInput, Traffic};
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::Ordering;

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
    checks: Vec<Check>,
    full: FullAxes,
    /// Whether a step without rows has nothing to do.
    needs_rows: bool,
    reads: Reads,
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
    checks: Vec<Check>,
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
        let (mut prelude, mut checks) = (Prelude::default(), Vec::new());
        let tasks = plan.tasks.iter().map(|t| lower(t, family, plan, resident, &mut prelude, &mut checks));
        let tasks = tasks.collect::<Result<Vec<_>, _>>()?;
        checks.dedup();
        let (rows, outs) = (plan.bucket.rows as usize, plan.bucket.outs as usize);
        let bounds = Bounds { rows, outs, threads, pages: resident.pages as usize };
        let need = tasks.iter().map(|t| t.scratch(&bounds)).fold(Scratch::default(), Scratch::max);
        let private_bytes = need.private.next_multiple_of(64);
        let held = private_bytes * threads + prelude.bytes(&bounds);
        let shared = held + need.held.next_multiple_of(64);
        let offsets = Offsets { private_bytes, prelude: private_bytes * threads, held, shared };
        Ok(Bound { prelude, tasks, checks, offsets, bytes: shared + need.shared })
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
        let Bound { prelude, tasks, checks, offsets, bytes } =
            Bound::new(family, plan, &resident, engine.pool.threads())?;
        resident.reserve_scratch(bytes)?;
        let reads = plan.tasks.iter().map(|t| reads(t, plan)).fold(Reads::default(), Reads::or);
        let runs = room_for(if reads.places { plan.bucket.rows } else { 0 })?;
        Ok(CpuExecutable {
            engine,
            resident,
            plan: without_tasks(plan),
            submission,
            submissions: submission.submissions(plan),
            prelude,
            next_weights: next_weights(&tasks),
            tasks,
            checks,
            full: FullAxes::of(plan),
            needs_rows: plan.outputs.iter().all(|o| has_rows(&o.ty)) && family.states.iter().all(StateDesc::is_paged),
            reads,
            offsets,
            runs,
            traffic: Traffic::of(family, plan),
        })
    }

    /// Checks the values that kernels index by: sequences, positions, pages and output rows.
    fn check_rows(&mut self, bindings: &Bindings<'_, '_>) -> Result<(), DeviceError> {
        let words = |input| match self.plan.step_input(input).and_then(|i| bindings.inputs[i.index()]) {
            Some(Data::U32(w)) => w,
            _ => &[],
        };
        let bad = |name: &str, message: String| Err(DeviceError::Binding { name: name.to_owned(), message });
        let dims = bindings.dims;
        if dims.pages > self.resident.pages {
            return bad("pages", format!("{} are more than the pool's {}", dims.pages, self.resident.pages));
        }
        let [row_seq, positions, table] = [StepInput::RowSeq, StepInput::Positions, StepInput::PageTable].map(words);
        self.runs.clear();
        // If no task reads them this way, the names mean something else.
        let row_seq = if self.reads.places { row_seq } else { &[] };
        let out_rows = if self.reads.out_rows { words(StepInput::OutRows) } else { &[] };
        for (row, &seq) in row_seq.iter().enumerate() {
            if seq >= dims.seqs {
                return bad(StepInput::RowSeq.name(), format!("row {row} names sequence {seq} of {}", dims.seqs));
            }
            match self.runs.last_mut() {
                Some(run) if run.seq == seq as usize => run.rows.end = row + 1,
                _ => self.runs.push(SequenceRows { seq: seq as usize, rows: row..row + 1 }),
            }
            let Some(&position) = positions.get(row) else {
                return bad(StepInput::Positions.name(), format!("row {row} has none"));
            };
            let page = position as usize / aio_ir::PAGE_POSITIONS as usize;
            let pages = table.chunks_exact((dims.pages as usize).max(1)).nth(seq as usize).unwrap_or(&[]);
            if pages.get(..=page).is_none_or(|p| p.iter().any(|&p| p >= self.resident.pages)) {
                return bad(StepInput::PageTable.name(), format!("row {row} at position {position} has no page"));
            }
        }
        match out_rows.iter().find(|&&r| r >= dims.rows) {
            Some(row) => bad(StepInput::OutRows.name(), format!("{row} is not below {}", dims.rows)),
            None => Ok(()),
        }
    }

    fn count(&self, bindings: &Bindings<'_, '_>) {
        let positions = match self.plan.step_input(StepInput::Positions).and_then(|i| bindings.inputs[i.index()]) {
            Some(Data::U32(positions)) => positions,
            _ => &[],
        };
        let tally = &self.engine.tally;
        let seen: u64 = self.runs.iter().filter_map(|r| positions.get(r.rows.end - 1)).map(|&p| u64::from(p) + 1).sum();
        let rows = positions.len() as u64;
        tally.submissions.fetch_add(self.submissions, Ordering::Relaxed);
        tally.launches.fetch_add(self.tasks.len() as u64, Ordering::Relaxed);
        let kv = self.traffic.kv_per_position;
        tally.bytes_read.fetch_add(self.traffic.weights + seen * kv, Ordering::Relaxed);
        tally.bytes_written.fetch_add(rows * kv, Ordering::Relaxed);
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
    let Plan { bucket, inputs, outputs, buffers, tasks: _, arena_bytes, arena_lower_bound } = plan;
    Plan {
        bucket: *bucket,
        inputs: inputs.clone(),
        outputs: outputs.clone(),
        buffers: buffers.clone(),
        tasks: Vec::new(),
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
            Submission::Graph => pool.run_stages(&|worker| self.run_from(step, worker)),
            Submission::Task => {
                let one = |i| pool.run_stages(&|worker| self.run_task(step, worker, i));
                (0..self.tasks.len()).map(one).fold(0, u32::wrapping_add)
            }
        };
        self.engine.tally.barriers.fetch_add(u64::from(crossed), Ordering::Relaxed);
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
        bindings.check(&self.plan)?;
        self.full.check(&bindings.dims)?;
        self.check_rows(bindings)?;
        for check in &self.checks {
            check.run(&self.plan, bindings, self.resident.pages)?;
        }
        let resident = Arc::clone(&self.resident);
        let mut mutable = resident.lock();
        let outputs: SmallVec<[*mut u32; 4]> = bindings.outputs.iter_mut().map(|o| o.as_mut_ptr()).collect();
        let mutable = &mut *mutable;
        let (states, kv_page_stride) = (mutable.states.addresses(), mutable.states.page_stride());
        // The only allocations a step can make: lists that outgrow their inline storage.
        let grown = u64::from(outputs.spilled()) + u64::from(states.spilled());
        self.engine.tally.allocations.fetch_add(grown, Ordering::Relaxed);
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
        self.count(bindings);
        Ok(Pending::Done)
    }
}
