//! Lowers a plan to launches: each task becomes a few, with every address and size filled in.
//!
//! A captured graph is replayed with the same arguments, so everything that differs between steps is read from device
//! memory: counts from the header, inputs from fixed addresses. Lowering is a pure function of the plan and the
//! addresses. It runs twice, first to measure scratch memory and then with its addresses known. Before anything is
//! uploaded, the first run alone determines what a family needs.

mod attention;
mod locs;
mod moves;
mod ops;
mod products;
mod scratch;
mod step_map;
mod tensors;

pub(crate) use attention::COLUMNS;
use scratch::{Region, Scratch};
use step_map::StepMap;
pub(crate) use step_map::{MAX_RECENT, Spot};

use crate::driver::{Driver, Graph, Launch, Properties};
use crate::error::{CudaError, DEVICE};
use crate::format::Acts;
use crate::states::StatesMap;
use crate::weights::WeightsMap;
use aio_backend::DeviceError;
use aio_ir::{Dims, PAGE_POSITIONS, Sym};
use aio_plan::{InputId, Loc, Plan, PlanFamily, RopeSpec, Task, TaskKind};
use bytemuck::Pod;

/// Base addresses on the device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bases {
    pub weights: u64,
    pub states: u64,
    pub arena: u64,
    pub scratch: u64,
    /// The executable's own memory: header, small inputs and outputs, constants, zeros.
    pub step: u64,
    /// Large inputs and outputs, shared by all executables.
    pub large: u64,
}

impl Bases {
    /// Placeholders for programs of which only the sizes are needed. Not 0, which means absent.
    pub(crate) const NOWHERE: Bases =
        Bases { weights: 1 << 12, states: 1 << 12, arena: 1 << 12, scratch: 1 << 12, step: 1 << 12, large: 1 << 12 };
}

/// A family and the positions of its parts.
pub(crate) struct Model<'a> {
    pub family: &'a PlanFamily,
    pub weights: &'a WeightsMap,
    pub states: &'a StatesMap,
    pub limits: &'a Properties,
    /// Elements of an f32 vector among the weights.
    pub vector: &'a dyn Fn(usize) -> Result<Vec<f32>, DeviceError>,
}

/// A launch with its kernel still given by name.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub kernel: String,
    pub grid: [u32; 2],
    pub shared_bytes: u32,
    pub args: Box<[u8]>,
}

/// A lowered plan.
#[derive(Debug)]
pub(crate) struct Program {
    pub calls: Vec<Call>,
    /// Number of calls before all tasks, which read only inputs.
    pub prelude: usize,
    /// For each task, the number of calls completed at its end.
    pub ends: Vec<usize>,
    /// Size of scratch memory in bytes.
    pub scratch_bytes: usize,
    pub step: StepMap,
    /// Constant data for kernels, followed by memory that is zero before and after each kernel.
    pub constants: Vec<u8>,
    zero_bytes: usize,
    /// The input that is the optional bias of `sample`.
    pub bias: Option<InputId>,
}

impl Program {
    /// Lowers a plan.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`] with the task's name.
    pub(crate) fn new(model: &Model<'_>, plan: &Plan, bases: Bases) -> Result<Program, DeviceError> {
        let (measured, first) = Lowering::new(model, plan, bases, Scratch::default())?.run()?;
        let placed = measured.placed(bases.scratch, bases.step + first.constants_end() as u64);
        let (scratch, program) = Lowering::new(model, plan, bases, placed)?.run()?;
        Ok(Program { scratch_bytes: scratch.bytes(), zero_bytes: scratch.zero_bytes(), ..program })
    }

    fn constants_end(&self) -> usize {
        (self.step.constants + self.constants.len()).next_multiple_of(256)
    }

    /// Size of the executable's own memory in bytes.
    pub(crate) fn step_bytes(&self) -> usize {
        self.constants_end() + self.zero_bytes
    }

    /// Resolves the kernels' names.
    pub(crate) fn launches(&self, driver: &dyn Driver) -> Result<Vec<Launch>, CudaError> {
        let launch = |c: &Call| {
            let kernel = driver.kernel(&c.kernel, c.shared_bytes)?;
            Ok(Launch { kernel, grid: c.grid, shared_bytes: c.shared_bytes, args: c.args.clone() })
        };
        self.calls.iter().map(launch).collect()
    }
}

/// How a program's launches are dispatched.
pub(crate) enum Dispatched {
    /// No launches, because all results are empty. An empty graph cannot be captured.
    Nothing,
    /// All in one graph.
    Graph(Graph),
    /// Each task with a separate synchronisation.
    Tasks(Vec<Launch>),
}

/// Key of a rotation table, computed once per step.
#[derive(Clone, Copy, PartialEq)]
struct RopeKey {
    rope: RopeSpec,
    factors: Loc,
    positions: Loc,
}

/// Key of an attention partition, computed once per step.
#[derive(Clone, Copy, PartialEq)]
struct CutKey {
    window: u32,
    block_rows: u32,
    row_seq: Loc,
    positions: Loc,
}

/// A plan being lowered.
struct Lowering<'a> {
    model: &'a Model<'a>,
    plan: &'a Plan,
    bases: Bases,
    step: StepMap,
    scratch: Scratch,
    prelude: Vec<Call>,
    calls: Vec<Call>,
    ends: Vec<usize>,
    constants: Vec<u8>,
    bias: Option<InputId>,
    ropes: Vec<(RopeKey, u64)>,
    cuts: Vec<(CutKey, u64)>,
    /// Rows that the last task left prepared for a product: the buffer, their form, their address.
    chained: Option<(Loc, Acts, u64)>,
    /// Index of the current task.
    task: usize,
}

impl<'a> Lowering<'a> {
    fn new(model: &'a Model<'a>, plan: &'a Plan, bases: Bases, scratch: Scratch) -> Result<Lowering<'a>, DeviceError> {
        Ok(Lowering {
            model,
            plan,
            bases,
            step: StepMap::new(plan, model.states.pages)?,
            scratch,
            prelude: Vec::new(),
            calls: Vec::new(),
            ends: Vec::new(),
            constants: Vec::new(),
            bias: None,
            ropes: Vec::new(),
            cuts: Vec::new(),
            chained: None,
            task: 0,
        })
    }

    fn run(mut self) -> Result<(Scratch, Program), DeviceError> {
        for (i, task) in self.plan.tasks.iter().enumerate() {
            self.task = i;
            self.optional_inputs(task)?;
            self.page_sizes(task)?;
            let before = self.calls.len();
            self.task(task)?;
            if task.body.roots().all(|v| task.body.ty(v).shape.is_empty()) {
                // Nothing to write, so nothing to launch.
                self.calls.truncate(before);
            }
            self.ends.push(self.calls.len());
        }
        let before = self.prelude.len();
        let mut calls = self.prelude;
        calls.append(&mut self.calls);
        let program = Program {
            calls,
            prelude: before,
            ends: self.ends.into_iter().map(|e| e + before).collect(),
            scratch_bytes: 0,
            zero_bytes: 0,
            step: self.step,
            constants: self.constants,
            bias: self.bias,
        };
        Ok((self.scratch, program))
    }

    fn task(&mut self, task: &'a Task) -> Result<(), DeviceError> {
        match task.kind {
            TaskKind::Qkv(spec) => self.qkv(task, &spec),
            TaskKind::Experts(_) => Err(unsupported(task, "it has no kernel")),
            TaskKind::Attend(spec) => self.attend(task, &spec),
            TaskKind::Linear(spec) => self.linear(task, spec.norm_eps),
            TaskKind::GateUp(spec) => self.gate_up(task, &spec),
            TaskKind::Head(spec) => self.head(task, &spec),
            TaskKind::Op(op) => self.op(task, op),
        }
    }

    /// Kernels read whatever is at an input's address; only `sample` handles a bias that is not bound.
    fn optional_inputs(&self, task: &Task) -> Result<(), DeviceError> {
        let bias = matches!(task.kind, TaskKind::Op(aio_ir::Op::Sample));
        for (place, loc) in task.operands.iter().enumerate() {
            if let Loc::Input(i) = loc
                && self.plan.inputs[i.index()].optional
                && !(bias && place == const { aio_ir::Op::Sample.place("bias") })
            {
                return Err(unsupported(task, format!("operand {place} is an input that may not be bound")));
            }
        }
        Ok(())
    }

    /// Kernels take pages of one size.
    fn page_sizes(&self, task: &Task) -> Result<(), DeviceError> {
        let kv = |loc: &Loc| match loc {
            Loc::State(s) => self.model.family.states[s.index()].kv_shape(),
            _ => None,
        };
        let mut layers = task.operands.iter().chain(&task.results).filter_map(kv);
        match layers.find(|kv| u64::from(kv.positions) != PAGE_POSITIONS) {
            Some(kv) => {
                let reason = format!("pages of {} positions; its kernels take pages of {PAGE_POSITIONS}", kv.positions);
                Err(unsupported(task, reason))
            }
            None => Ok(()),
        }
    }

    fn call(&mut self, kernel: impl Into<String>, grid: [u32; 2], shared_bytes: u32, args: &impl Pod) {
        let call = Call { kernel: kernel.into(), grid, shared_bytes, args: bytemuck::bytes_of(args).into() };
        self.calls.push(call);
    }

    /// Moves the last call before all tasks, if `can` is true.
    fn hoist(&mut self, can: bool) {
        if can && let Some(call) = self.calls.pop() {
            self.prelude.push(call);
        }
    }

    /// Address of the step's header.
    fn header(&self) -> u64 {
        self.bases.step
    }

    /// Adds bytes to the constants and returns their address.
    fn constant(&mut self, bytes: &[u8]) -> u64 {
        let at = self.constants.len().next_multiple_of(16);
        self.constants.resize(at, 0);
        self.constants.extend_from_slice(bytes);
        self.bases.step + (self.step.constants + at) as u64
    }

    /// Upper bounds on a step's dimensions.
    fn bounds(&self) -> Dims {
        let pages = self.model.states.pages;
        Dims { pages, stride: pages, recent: MAX_RECENT, ..self.plan.bucket.bounds() }
    }

    /// The upper bound of a symbol.
    fn bound(&self, sym: Sym) -> u32 {
        self.bounds().get(sym)
    }

    /// Number of blocks for `pieces` pieces of work: at least one, at most enough to fill the device.
    fn blocks(&self, pieces: u64) -> u32 {
        pieces.clamp(1, u64::from(self.model.limits.blocks(0))) as u32
    }

    /// The same for blocks with dynamic shared memory.
    fn blocks_with(&self, pieces: u64, shared_bytes: u32) -> u32 {
        pieces.clamp(1, u64::from(self.model.limits.blocks(shared_bytes))) as u32
    }
}

/// The error of a task without a suitable kernel.
fn unsupported(task: &Task, reason: impl Into<String>) -> DeviceError {
    DeviceError::Unsupported { device: DEVICE.to_owned(), kind: task.kind.name().name(), reason: reason.into() }
}
