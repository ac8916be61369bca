//! From a plan to launches: each task becomes a few, with every address and size filled in.
//!
//! A captured graph is replayed with the same arguments, so all that differs from step to step is read from device memory:
//! counts from the header, inputs from fixed places. Lowering is a pure function of the plan and of where things lie. It runs
//! twice, first to measure scratch memory and then with its places known; before anything is uploaded, the first run alone
//! says what a family needs.

mod attention;
mod locs;
mod moves;
mod ops;
mod products;
mod scratch;
mod step_map;
mod tensors;

use scratch::{Region, Scratch};
use step_map::StepMap;
pub(crate) use step_map::{MAX_RECENT, Spot};

use crate::checks::Check;
use crate::driver::{Driver, Graph, Launch, Properties};
use crate::error::{CudaError, DEVICE};
use crate::format::Acts;
use crate::states::StatesMap;
use crate::weights::WeightsMap;
use aio_backend::DeviceError;
use aio_ir::{Dims, Sym};
use aio_plan::{InputId, Loc, Plan, PlanFamily, RopeSpec, Task, TaskKind};
use bytemuck::Pod;

/// Where things begin on the device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bases {
    pub weights: u64,
    pub states: u64,
    pub arena: u64,
    pub scratch: u64,
    /// The executable's own memory: header, small inputs and outputs, constants, zeros.
    pub step: u64,
    /// Large inputs and outputs, of whichever executable runs.
    pub large: u64,
}

impl Bases {
    /// For programs of which only the sizes are wanted. Nothing begins at 0, which stands for what is absent.
    pub(crate) const NOWHERE: Bases =
        Bases { weights: 1 << 12, states: 1 << 12, arena: 1 << 12, scratch: 1 << 12, step: 1 << 12, large: 1 << 12 };
}

/// A family and where its parts lie.
pub(crate) struct Model<'a> {
    pub family: &'a PlanFamily,
    pub weights: &'a WeightsMap,
    pub states: &'a StatesMap,
    pub limits: &'a Properties,
    /// Elements of a vector of f32 among the weights.
    pub vector: &'a dyn Fn(usize) -> Result<Vec<f32>, DeviceError>,
}

/// A launch whose kernel is still a name.
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
    /// So many of the calls come before all tasks and read nothing but inputs.
    pub prelude: usize,
    /// For each task, how many of the calls are over when it is.
    pub ends: Vec<usize>,
    /// Bytes of scratch memory.
    pub scratch_bytes: usize,
    pub step: StepMap,
    /// What kernels read that no step changes; zeros that kernels leave as they were follow.
    pub constants: Vec<u8>,
    zero_bytes: usize,
    pub checks: Vec<Check>,
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

    /// Bytes of the executable's own memory.
    pub(crate) fn step_bytes(&self) -> usize {
        self.constants_end() + self.zero_bytes
    }

    /// Finds the kernels.
    pub(crate) fn launches(&self, driver: &dyn Driver) -> Result<Vec<Launch>, CudaError> {
        let launch = |c: &Call| {
            let kernel = driver.kernel(&c.kernel, c.shared_bytes)?;
            Ok(Launch { kernel, grid: c.grid, shared_bytes: c.shared_bytes, args: c.args.clone() })
        };
        self.calls.iter().map(launch).collect()
    }
}

/// How a program's launches reach the device.
pub(crate) enum Dispatched {
    /// None are needed: all results are empty. A graph of no launches cannot be captured.
    Nothing,
    /// All at once.
    Graph(Graph),
    /// Each task with a synchronisation of its own.
    Tasks(Vec<Launch>),
}

/// A rotation's table, made once a step.
#[derive(Clone, Copy, PartialEq)]
struct RopeKey {
    rope: RopeSpec,
    factors: Loc,
    positions: Loc,
}

/// How a step's rows are cut for attention, once a step.
#[derive(Clone, Copy, PartialEq)]
struct CutKey {
    window: u32,
    block_rows: u32,
    row_seq: Loc,
    positions: Loc,
}

/// A plan while it is lowered.
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
    checks: Vec<Check>,
    bias: Option<InputId>,
    ropes: Vec<(RopeKey, u64)>,
    cuts: Vec<(CutKey, u64)>,
    /// Rows that the last task left prepared for a product: which buffer, in what form, where.
    chained: Option<(Loc, Acts, u64)>,
    /// The task under way.
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
            checks: Vec::new(),
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
            let before = self.calls.len();
            self.task(task)?;
            if task.body.roots().all(|v| task.body.ty(v).shape.is_empty()) {
                // Nothing to write: the task's checks stay, its launches do not.
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
            checks: self.checks,
            bias: self.bias,
        };
        Ok((self.scratch, program))
    }

    fn task(&mut self, task: &'a Task) -> Result<(), DeviceError> {
        match task.kind {
            TaskKind::Qkv(spec) => self.qkv(task, &spec),
            TaskKind::Attend(spec) => self.attend(task, &spec),
            TaskKind::Linear(spec) => self.linear(task, spec.norm_eps),
            TaskKind::GateUp(spec) => self.gate_up(task, &spec),
            TaskKind::Head(spec) => self.head(task, &spec),
            TaskKind::Op(op) => self.op(task, op),
        }
    }

    /// Kernels read what an input's place holds; only `sample` knows that its bias may not be bound.
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

    fn call(&mut self, kernel: impl Into<String>, grid: [u32; 2], shared_bytes: u32, args: &impl Pod) {
        let call = Call { kernel: kernel.into(), grid, shared_bytes, args: bytemuck::bytes_of(args).into() };
        self.calls.push(call);
    }

    /// Moves the last call before all tasks, if it can be there.
    fn hoist(&mut self, can: bool) {
        if can && let Some(call) = self.calls.pop() {
            self.prelude.push(call);
        }
    }

    /// Where the step's header lies.
    fn header(&self) -> u64 {
        self.bases.step
    }

    /// Puts bytes among the constants; their address.
    fn constant(&mut self, bytes: &[u8]) -> u64 {
        let at = self.constants.len().next_multiple_of(16);
        self.constants.resize(at, 0);
        self.constants.extend_from_slice(bytes);
        self.bases.step + (self.step.constants + at) as u64
    }

    /// The most that a step's dimensions can be.
    fn bounds(&self) -> Dims {
        Dims { pages: self.model.states.pages, recent: MAX_RECENT, ..self.plan.bucket.bounds() }
    }

    /// The bucket's count of a symbol.
    fn bound(&self, sym: Sym) -> u32 {
        self.bounds().get(sym)
    }

    /// Blocks for so many pieces of work: at least one, at most what fills the device.
    fn blocks(&self, pieces: u64) -> u32 {
        pieces.clamp(1, u64::from(self.model.limits.blocks(0))) as u32
    }

    /// The same for blocks with so much dynamic shared memory.
    fn blocks_with(&self, pieces: u64, shared_bytes: u32) -> u32 {
        pieces.clamp(1, u64::from(self.model.limits.blocks(shared_bytes))) as u32
    }
}

/// The error of a task that no kernel fits.
fn unsupported(task: &Task, reason: impl Into<String>) -> DeviceError {
    DeviceError::Unsupported { device: DEVICE.to_owned(), kind: task.kind.name().name(), reason: reason.into() }
}
