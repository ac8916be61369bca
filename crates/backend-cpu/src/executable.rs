//! A plan bound to kernels: one task object each, run by all threads with a barrier between tasks.

use crate::device::Engine;
use crate::pool::Worker;
use crate::resident::Resident;
use crate::step::{Run, Step};
use crate::tasks::{Lowered, Prelude, Scratch, lower};
use aio_backend::{Bindings, Data, DeviceError, Executable, Pending};
use aio_ir::Dims;
use aio_plan::{Plan, PlanFamily, Slot};
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// See the module's header.
pub(crate) struct CpuExecutable {
    engine: Arc<Engine>,
    resident: Arc<Resident>,
    plan: Plan,
    prelude: Prelude,
    tasks: Vec<Lowered>,
    private_bytes: usize,
    runs: Vec<Run>,
    traffic: Traffic,
}

/// Bytes that a step moves: weights once, KV by position.
#[derive(Clone, Copy, Debug, Default)]
struct Traffic {
    weights: u64,
    kv_per_position: u64,
}

impl Traffic {
    fn of(family: &PlanFamily, plan: &Plan) -> Traffic {
        let slots = plan.tasks.iter().flat_map(|t| t.operands.iter());
        let mut weights: Vec<_> =
            slots.filter_map(|s| if let Slot::Weight(w) = s { Some(w.index()) } else { None }).collect();
        weights.sort_unstable();
        weights.dedup();
        let dims = Dims { pages: 1, ..Dims::default() };
        let weights = weights.iter().filter_map(|&w| family.weights[w].ty.bytes(&dims)).sum();
        let page: u64 = family.states.iter().filter_map(|s| s.ty.bytes(&dims)).sum();
        Traffic { weights, kv_per_position: page / aio_ir::PAGE_POSITIONS }
    }
}

/// A plan's tasks bound to a model, and the scratch memory that they need.
pub(crate) struct Bound {
    prelude: Prelude,
    tasks: Vec<Lowered>,
    private_bytes: usize,
    /// Scratch memory in all.
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
        let bytes = private_bytes * threads + prelude.bytes(&bounds) + need.shared;
        Ok(Bound { prelude, tasks, private_bytes, bytes })
    }
}

impl CpuExecutable {
    pub(crate) fn new(
        engine: Arc<Engine>,
        family: &PlanFamily,
        plan: &Plan,
        resident: Arc<Resident>,
    ) -> Result<CpuExecutable, DeviceError> {
        let Bound { prelude, tasks, private_bytes, bytes } =
            Bound::new(family, plan, &resident, engine.pool.threads())?;
        resident.reserve_scratch(bytes)?;
        Ok(CpuExecutable {
            engine,
            resident,
            plan: plan.clone(),
            prelude,
            tasks,
            private_bytes,
            runs: Vec::with_capacity(plan.bucket.rows as usize),
            traffic: Traffic::of(family, plan),
        })
    }

    /// Checks what kernels index by: sequences, positions, pages and output rows.
    fn check_rows(&mut self, bindings: &Bindings<'_, '_>) -> Result<(), DeviceError> {
        let words = |name: &str| match self.plan.input(name).and_then(|i| bindings.inputs[i]) {
            Some(Data::U32(w)) => w,
            _ => &[],
        };
        let bad = |name: &str, message: String| Err(DeviceError::Binding { name: name.to_owned(), message });
        let dims = bindings.dims;
        if dims.pages > self.resident.pages {
            return bad("pages", format!("{} are more than the pool's {}", dims.pages, self.resident.pages));
        }
        let (row_seq, positions, table) = (words("row_seq"), words("positions"), words("page_table"));
        self.runs.clear();
        // Tasks that look rows up take all three; without them the names mean something else.
        let looked_up = ["row_seq", "positions", "page_table"].iter().all(|n| self.plan.input(n).is_some());
        let row_seq = if looked_up { row_seq } else { &[] };
        for (row, &seq) in row_seq.iter().enumerate() {
            if seq >= dims.seqs {
                return bad("row_seq", format!("row {row} names sequence {seq} of {}", dims.seqs));
            }
            match self.runs.last_mut() {
                Some(run) if run.seq == seq as usize => run.rows.end = row + 1,
                _ => self.runs.push(Run { seq: seq as usize, rows: row..row + 1 }),
            }
            let Some(&position) = positions.get(row) else {
                return bad("positions", format!("row {row} has none"));
            };
            let page = position as usize / aio_ir::PAGE_POSITIONS as usize;
            let pages = table.chunks_exact((dims.pages as usize).max(1)).nth(seq as usize).unwrap_or(&[]);
            if pages.get(..=page).is_none_or(|p| p.iter().any(|&p| p >= self.resident.pages)) {
                return bad("page_table", format!("row {row} at position {position} has no page"));
            }
        }
        match words("out_rows").iter().find(|&&r| r >= dims.rows) {
            Some(row) => bad("out_rows", format!("{row} is not below {}", dims.rows)),
            None => Ok(()),
        }
    }

    fn count(&self, positions: &[u32]) {
        let tally = &self.engine.tally;
        let seen: u64 = self.runs.iter().filter_map(|r| positions.get(r.rows.end - 1)).map(|&p| u64::from(p) + 1).sum();
        let rows = positions.len() as u64;
        tally.submissions.fetch_add(1, Ordering::Relaxed);
        tally.launches.fetch_add(self.tasks.len() as u64, Ordering::Relaxed);
        let kv = self.traffic.kv_per_position;
        tally.bytes_read.fetch_add(self.traffic.weights + seen * kv, Ordering::Relaxed);
        tally.bytes_written.fetch_add(rows * kv, Ordering::Relaxed);
    }
}

/// Upper bounds that scratch memory is sized by.
pub(crate) struct Bounds {
    pub rows: usize,
    pub outs: usize,
    pub threads: usize,
    pub pages: usize,
}

impl Executable for CpuExecutable {
    fn submit<'a>(&'a mut self, bindings: &'a mut Bindings<'_, '_>) -> Result<Pending<'a>, DeviceError> {
        bindings.check(&self.plan)?;
        self.check_rows(bindings)?;
        let resident = Arc::clone(&self.resident);
        let mut mutable = resident.lock();
        let outputs: SmallVec<[*mut u32; 4]> = bindings.outputs.iter_mut().map(|o| o.as_mut_ptr()).collect();
        let mutable = &mut *mutable;
        let states: SmallVec<[*mut u8; 128]> = mutable.states.iter_mut().map(|s| s.as_mut_ptr()).collect();
        let threads = self.engine.pool.threads();
        let prelude_offset = self.private_bytes * threads;
        let bounds = Bounds { rows: self.plan.bucket.rows as usize, outs: 0, threads, pages: 0 };
        let step = Step {
            dims: bindings.dims,
            kernels: &self.engine.kernels,
            resident: &resident,
            plan: &self.plan,
            inputs: bindings.inputs,
            outputs: &outputs,
            states: &states,
            arena: mutable.arena.as_mut_ptr(),
            scratch: mutable.scratch.as_mut_ptr(),
            private_bytes: self.private_bytes,
            shared_offset: prelude_offset + self.prelude.bytes(&bounds),
            prelude_offset,
            runs: &self.runs,
        };
        if step.rows() > 0 {
            let (prelude, tasks) = (&self.prelude, &self.tasks);
            self.engine.pool.run(&|worker: Worker<'_>| {
                if prelude.run(&step, worker) {
                    worker.barrier();
                }
                for (i, task) in tasks.iter().enumerate() {
                    if i > 0 {
                        worker.barrier();
                    }
                    task.run(&step, worker);
                }
            });
        }
        let positions = self.plan.input("positions").and_then(|i| bindings.inputs[i]);
        if let Some(Data::U32(positions)) = positions {
            self.count(positions);
        }
        Ok(Pending::Done)
    }
}
