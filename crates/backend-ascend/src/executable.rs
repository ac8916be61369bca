//! A plan on the device: one graph for each shape that occurs, captured when it first does.
//!
//! A step fills the block of its shape, submits the graph and waits once. Shapes beyond the device's room for graphs
//! replace the least recently used; without any room, a step runs operator by operator.

use crate::acl::{Call, DeviceMemory, Graph, Pinned, Queue, Recorded};
use crate::budget::{Budget, Room};
use crate::error::AscendError;
use crate::lower::{Bases, HostTask, HostValues, Model, Program, Source, attentions, pads};
use crate::resident::{Forms, Resident, nominal, page_of};
use crate::shape::{Group, Lengths, Limits, Shape, StepRows, rounded};
use crate::stage::{Places, Step};
use crate::tails::{Written, written};
use crate::view::Elem;
use aio_backend::{Bindings, Data, DeviceError, Executable, Pending, StepReport, Submission, Tally};
use aio_ir::sampling::{NO_TOKEN, is_broken};
use aio_ir::{DType, Dim, Dims, Sym, TensorType};
use aio_plan::{InputId, Loc, OutputId, Plan, PlanFamily, StepForm, StepForms, StepTime, Traffic};
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Instant;

/// Most shapes that a plan keeps, with and without graphs.
const MOST_SHAPES: usize = 512;
/// AscendCL's codes of streams that cannot be had.
const TOO_MANY_STREAMS: i32 = 207_005;
const NO_STREAMS: i32 = 207_008;

/// A plan in one shape.
struct Captured {
    shape: Shape,
    /// First, so that the graph goes before the memory that it uses.
    graph: Option<(Graph, Room)>,
    program: Program,
    inputs: Pinned,
    results: Pinned,
    _scratch: Arc<DeviceMemory>,
    /// The step that used it last.
    used: u64,
}

/// A loaded plan. See the module docs.
pub(crate) struct AscendExecutable {
    captured: Vec<Captured>,
    queue: Arc<Queue>,
    budget: Arc<Budget>,
    tally: Arc<Tally>,
    resident: Arc<Resident>,
    family: PlanFamily,
    plan: Plan,
    submission: Submission,
    /// Whether steps are captured.
    graphs: bool,
    pads: bool,
    /// Tasks of attention.
    attentions: u64,
    /// The inputs that say where rows are, if the plan has attention.
    places: Option<Places>,
    traffic: Traffic,
    values: HostValues,
    steps: u64,
    /// Rows that steps of one sequence are padded to, besides what they are rounded up to.
    sizes: Vec<u32>,
}

impl AscendExecutable {
    pub(crate) fn new(
        (queue, budget, tally): (Arc<Queue>, Arc<Budget>, Arc<Tally>),
        resident: Arc<Resident>,
        family: &PlanFamily,
        plan: &Plan,
        (submission, graphs): (Submission, bool),
    ) -> Result<AscendExecutable, DeviceError> {
        let traffic = Traffic::of(family, plan);
        // Shapes and weights of the family; its plans are not needed.
        let family = PlanFamily { plans: Vec::new(), ..family.clone() };
        let executable = AscendExecutable {
            captured: Vec::new(),
            queue,
            budget,
            tally,
            resident,
            family,
            plan: plan.clone(),
            submission,
            graphs: graphs && submission == Submission::Graph,
            pads: pads(plan),
            attentions: attentions(plan),
            places: None,
            traffic,
            values: HostValues::default(),
            steps: 0,
            sizes: Vec::new(),
        };
        // What cannot be lowered is refused now.
        let (pools, forms) = (executable.resident.states.map.pools, &executable.resident.forms);
        let mut places = None;
        for &lengths in forms {
            places = executable.lower(&nominal(plan, pools, lengths), Bases::NOWHERE)?.places;
        }
        Ok(AscendExecutable { places, ..executable })
    }

    fn lower(&self, shape: &Shape, bases: Bases) -> Result<Program, DeviceError> {
        let resident = &self.resident;
        let model = Model {
            family: &self.family,
            weights: &resident.weights.map,
            states: &resident.states.map,
            rotates: self.queue.runtime.rotates(),
            vectors: Some(&resident.weights.vectors),
        };
        Program::new(&model, &self.plan, shape, bases)
    }

    /// The rows of a step.
    fn step_rows<'b>(&self, bindings: &Bindings<'b, '_>) -> StepRows<'b> {
        let words = |input: InputId| match bindings.inputs[input.index()] {
            Some(Data::U32(words)) => words,
            _ => &[][..],
        };
        let places = self.places.map(|places| [places.row_seq, places.positions].map(words));
        let [row_seq, positions] = places.unwrap_or_default();
        StepRows { row_seq, positions, page: page_of(&self.family).unwrap_or(1) }
    }

    /// The ways to take the lengths of a step.
    fn ways(&self, step: &StepRows<'_>) -> Result<Forms, DeviceError> {
        let admits = |lengths: &Lengths| *lengths == Lengths::Bucket || step.is_consecutive();
        let ways: Forms = self.resident.forms.iter().copied().filter(admits).collect();
        if ways.is_empty() {
            let message = "rows of a sequence that are not consecutive, with patched lengths".to_owned();
            return Err(DeviceError::Binding { name: "positions".to_owned(), message });
        }
        Ok(ways)
    }

    /// The shape of a step, and each row's place in it.
    fn shape(&self, dims: &Dims, step: &StepRows<'_>, lengths: Lengths) -> (Shape, Vec<u32>) {
        let pages = self.resident.states.map.pools.pages;
        let bucket = &self.plan.bucket;
        let (rows, outs, pads, sizes) = (bucket.rows, bucket.outs, self.pads, &self.sizes[..]);
        Shape::of(dims, step, &Limits { rows, outs, pages, lengths, pads, sizes })
    }

    /// The shape of a step in the form that `choose` takes, and each row's place in it.
    fn chosen(
        &self,
        choose: &mut dyn FnMut(&[StepForm]) -> usize,
        bindings: &Bindings<'_, '_>,
    ) -> Result<(Shape, Vec<u32>), DeviceError> {
        let step = self.step_rows(bindings);
        let ways = self.ways(&step)?;
        let of = |lengths: Lengths| self.shape(&bindings.dims, &step, lengths);
        if ways.len() == 1 || self.places.is_none() {
            return Ok(of(ways[0]));
        }
        let mut shapes: SmallVec<[_; 2]> = ways.into_iter().map(of).collect();
        let forms: StepForms = shapes.iter().map(|(shape, _)| self.form(shape, bindings, step.page)).collect();
        let form = choose(&forms).min(shapes.len() - 1);
        Ok(shapes.swap_remove(form))
    }

    /// What a step costs in a shape.
    fn form(&self, shape: &Shape, bindings: &Bindings<'_, '_>, page: u32) -> StepForm {
        let several = shape.groups.iter().filter(|group| group.rows > 1).count() as u64;
        let groups = shape.groups.len() as u64;
        let (positions, updates, tasks) = match shape.lengths {
            // Two operators make a mask. Several rows of a sequence are turned before attention and after it.
            Lengths::Bucket => {
                let positions = shape.groups.iter().map(Group::all_pages).sum::<u64>() * u64::from(page);
                (positions, 0, 2 * groups + 2 * several * self.attentions)
            }
            // Three make the triangle.
            Lengths::Patch => {
                let calls = if self.graphs { self.attentions * groups } else { 0 };
                (bindings.load(&self.plan).positions, calls, if several > 0 { 3 } else { 0 })
            }
        };
        StepForm { name: shape.lengths.name(), kv_bytes: positions * self.traffic.kv_per_position, updates, tasks }
    }

    /// The index of a shape's entry, and whether a graph was captured for it now.
    fn captured(&mut self, shape: Shape) -> Result<(usize, bool), DeviceError> {
        if let Some(i) = self.captured.iter().position(|c| c.shape == shape) {
            // Without room before, there may be some now.
            if !self.graphs || self.captured[i].graph.is_some() || !self.budget.has_room() {
                return Ok((i, false));
            }
            self.captured.swap_remove(i);
        }
        while self.captured.len() >= MOST_SHAPES {
            self.drop_oldest();
        }
        let made = match self.capture(&shape) {
            Err(DeviceError::OutOfMemory { .. }) if !self.captured.is_empty() => {
                self.captured.clear();
                self.capture(&shape)
            }
            made => made,
        }?;
        let graph = made.graph.is_some();
        self.captured.push(made);
        Ok((self.captured.len() - 1, graph))
    }

    fn capture(&mut self, shape: &Shape) -> Result<Captured, DeviceError> {
        let measured = self.lower(shape, Bases::NOWHERE)?;
        let runtime = &self.queue.runtime;
        let inputs = Pinned::new(runtime, measured.stage.bytes).map_err(|e| e.taking("a step's inputs"))?;
        let results = Pinned::new(runtime, measured.results.bytes).map_err(|e| e.taking("a step's results"))?;
        let scratch = self.resident.scratch(measured.scratch_bytes)?;
        let bases = Bases {
            arena: self.resident.arena.address(),
            scratch: scratch.address(),
            stage: inputs.device.address(),
            results: results.device.address(),
        };
        let program = self.lower(shape, bases)?;
        let updated = program.updated(shape.lengths);
        let room = self.graphs.then(|| self.room(program.calls.len() + 2 + 2 * updated.len())).flatten();
        let graph = match room {
            None => None,
            Some(room) => {
                let calls = program.calls.iter().collect();
                let recorded = Recorded { inputs: &inputs, calls, updated, results: &results };
                match self.queue.record(&recorded) {
                    // Others hold the streams that the budget counts on.
                    Err(AscendError::Call { code: NO_STREAMS | TOO_MANY_STREAMS, .. }) => None,
                    recorded => Some((recorded?, room)),
                }
            }
        };
        let (shape, used) = (shape.clone(), self.steps);
        Ok(Captured { shape, graph, program, inputs, results, _scratch: scratch, used })
    }

    /// Room for a graph of `tasks` tasks, if need be that of this plan's graphs.
    fn room(&mut self, tasks: usize) -> Option<Room> {
        loop {
            let room = self.budget.take(tasks);
            if room.is_some() || !self.captured.iter().any(|c| c.graph.is_some()) {
                return room;
            }
            self.drop_oldest();
        }
    }

    /// Drops the least recently used shape.
    fn drop_oldest(&mut self) {
        let oldest = (0..self.captured.len()).min_by_key(|&i| self.captured[i].used);
        drop(oldest.map(|i| self.captured.swap_remove(i)));
    }

    /// Runs a step in a captured shape and waits for it. Returns submissions, launches and waits.
    fn run(&mut self, at: usize, bindings: &Bindings<'_, '_>, rows: &[u32]) -> Result<[u64; 3], DeviceError> {
        let Captured { shape, graph, program, inputs, results, used, .. } = &mut self.captured[at];
        *used = self.steps;
        let step = Step { plan: &self.plan, bindings, shape, rows, states: &self.resident.states.map };
        program.stage.fill(&step, inputs.bytes_mut());
        let launches = program.calls.len() as u64;
        let updates: Vec<(usize, Call)> = program.patched(&step);
        let Some((graph, _)) = graph else {
            let mut calls = program.calls.clone();
            updates.into_iter().for_each(|(place, call)| calls[place] = call);
            let whole = [calls.len()];
            let ends = if self.submission == Submission::Task { &program.ends[..] } else { &whole[..] };
            let waits = self.queue.run(&calls, ends, inputs, results)?;
            let submissions = if self.submission == Submission::Task { waits } else { launches };
            return Ok([submissions, launches, waits]);
        };
        let updates: Vec<Call> = updates.into_iter().map(|(_, call)| call).collect();
        self.queue.replay(graph, &updates)?;
        Ok([1 + updates.len() as u64, launches, 1])
    }

    /// The pages that a step writes to.
    fn written(&self, bindings: &Bindings<'_, '_>) -> SmallVec<[Written; 4]> {
        let table = self.places.and_then(|places| bindings.inputs[places.table.index()]);
        let Some(Data::U32(table)) = table else { return SmallVec::new() };
        written(&self.step_rows(bindings), table, bindings.dims.stride as usize)
    }

    /// Whether every row of a step that ran had a token.
    fn all_have_tokens(&self, at: usize, dims: &Dims) -> bool {
        let tokens = self.captured[at].program.tokens().find_map(|loc| self.values.0.get(&loc));
        let own = tokens.and_then(|tokens| tokens.get(..dims.outs as usize));
        dims.outs == dims.rows && own.is_some_and(|own| !own.contains(&NO_TOKEN))
    }

    /// Checks what the host will index by, before anything runs.
    fn check_host(&self, at: usize, bindings: &Bindings<'_, '_>) -> Result<(), DeviceError> {
        for task in &self.captured[at].program.host {
            let HostTask::Verify { spans: Loc::Input(input), sampled, .. } = task else { continue };
            let Some(Data::U32(spans)) = bindings.inputs[input.index()] else { continue };
            let rows = self.ty(*sampled).and_then(|ty| ty.shape.dims().first().copied());
            let outs = rows.map_or(0, |rows| rows.resolve(&bindings.dims));
            let outside = |span: &&[u32]| u64::from(span[0]) + u64::from(span[1]) >= outs;
            if let Some(span) = spans.chunks_exact(2).find(outside) {
                let message = format!("{} drafts after output row {} of {outs}", span[1], span[0]);
                return Err(DeviceError::Binding { name: self.plan.inputs[input.index()].name.clone(), message });
            }
        }
        Ok(())
    }

    /// The host's time, and its modelled time in nanoseconds if there is one.
    fn clock(&self) -> (Instant, Option<u64>) {
        (Instant::now(), self.queue.runtime.modelled_ns())
    }

    /// The time since another one.
    fn since(&self, (started, modelled): (Instant, Option<u64>)) -> StepTime {
        match (modelled, self.queue.runtime.modelled_ns()) {
            (Some(before), Some(after)) => StepTime::Modelled(after.saturating_sub(before) as f64 * 1e-9),
            _ => StepTime::Measured(started.elapsed().as_secs_f64()),
        }
    }

    /// The graph's element type at a location that the host reads.
    fn dtype(&self, loc: Loc) -> DType {
        self.ty(loc).map_or(DType::F32, |ty| ty.dtype)
    }

    /// The type of a value of the step.
    fn ty(&self, loc: Loc) -> Option<&TensorType> {
        match loc {
            Loc::Buffer(b) => Some(&self.plan.buffers[b.index()].ty),
            Loc::Input(i) => Some(&self.plan.inputs[i.index()].ty),
            Loc::Output(o) => Some(&self.plan.outputs[o.index()].ty),
            _ => None,
        }
    }

    /// Brings results to where the host and the caller want them.
    fn deliver(&mut self, at: usize, bindings: &mut Bindings<'_, '_>, rows: &[u32]) -> Result<(), DeviceError> {
        let Captured { program, results, .. } = &self.captured[at];
        let block = results.bytes();
        self.values.0.clear();
        for (loc, source) in &program.results.sources {
            let words = match source {
                Source::Elements { elem, range } => crate::lower::words(*elem, self.dtype(*loc), &block[range.clone()]),
                Source::Best { logits, values, index } => {
                    let best = crate::lower::words(*logits, DType::F32, &block[values.clone()]);
                    let index = crate::lower::words(Elem::I32, DType::U32, &block[index.clone()]);
                    let token = |(index, best): (u32, u32)| {
                        if is_broken(f32::from_bits(best)) { NO_TOKEN } else { index }
                    };
                    index.into_iter().zip(best).map(token).collect()
                }
            };
            self.values.0.insert(*loc, words);
        }
        for task in &program.host {
            self.values.run(task, bindings)?;
        }
        for (i, spec) in self.plan.outputs.iter().enumerate() {
            let Some(words) = self.values.0.get(&Loc::Output(OutputId::new(i))) else { continue };
            let want = spec.ty.bytes(&bindings.dims).unwrap_or(0) as usize;
            let words: &[u8] = bytemuck::cast_slice(words);
            let out = &mut bytemuck::cast_slice_mut::<u32, u8>(bindings.outputs[i])[..want];
            if spec.ty.shape.dims().first() == Some(&Dim::Sym(Sym::Rows)) && !rows.is_empty() {
                let width = want / rows.len();
                for (to, &row) in out.chunks_mut(width.max(1)).zip(rows) {
                    to.copy_from_slice(&words[row as usize * width..][..width]);
                }
            } else {
                out.copy_from_slice(&words[..want]);
            }
        }
        Ok(())
    }
}

impl Executable for AscendExecutable {
    fn padded_rows(&self, rows: u32) -> u32 {
        let rounds = self.pads && self.resident.forms.contains(&Lengths::Bucket);
        if rounds { rounded(rows, self.plan.bucket.rows) } else { rows }
    }

    fn pad_to(&mut self, rows: &[u32]) {
        let own = |rows: u32| self.padded_rows(rows) == rows;
        let gone: Vec<u32> = self.sizes.iter().copied().filter(|size| !rows.contains(size) && !own(*size)).collect();
        self.captured.retain(|c| c.shape.groups.len() != 1 || !gone.contains(&c.shape.sizes().rows));
        self.sizes = rows.to_vec();
    }

    fn submit<'a>(&'a mut self, bindings: &'a mut Bindings<'_, '_>) -> Result<Pending<'a>, DeviceError> {
        self.submit_form(&mut |_| 0, bindings)
    }

    fn submit_form<'a>(
        &'a mut self,
        choose: &mut dyn FnMut(&[StepForm]) -> usize,
        bindings: &'a mut Bindings<'_, '_>,
    ) -> Result<Pending<'a>, DeviceError> {
        bindings.check(&self.plan, self.resident.states.map.pools)?;
        self.steps += 1;
        let (shape, rows) = self.chosen(choose, bindings)?;
        let resident = Arc::clone(&self.resident);
        let mut tails = resident.turn();
        // Capturing a new shape is no part of the step's time: the next step of the shape does not repeat it.
        let capturing = self.clock();
        let (at, captured) = self.captured(shape)?;
        let capture_ns = if captured { (self.since(capturing).seconds() * 1e9) as u64 } else { 0 };
        self.check_host(at, bindings)?;
        let started = self.clock();
        let written = self.written(bindings);
        if self.captured[at].shape.lengths == Lengths::Bucket {
            for &rows in &written {
                resident.states.clear(rows.page, tails.clear(rows))?;
            }
        }
        let ran = self.run(at, bindings, &rows);
        if ran.is_err() {
            // A replay that stopped half-way leaves events recorded, which its next wait would take for new ones.
            drop(self.captured.swap_remove(at));
            tails.wrote(&written, false);
        }
        let [submissions, launches, syncs] = ran?;
        let time = self.since(started);
        let delivered = self.deliver(at, bindings, &rows);
        tails.wrote(&written, delivered.is_ok() && self.all_have_tokens(at, &bindings.dims));
        delivered?;
        let report = StepReport::new(&self.traffic, bindings.load(&self.plan), submissions, time);
        self.tally.update(|counters| {
            counters.add(&report, launches);
            counters.syncs = counters.syncs - submissions + syncs;
            counters.captures += u64::from(captured);
            counters.capture_ns += capture_ns;
        });
        Ok(Pending::Done(report))
    }
}
