//! A lowered plan as the task list of a burst.
//!
//! Tasks are separated by a barrier of the whole grid, unless one block does both, or both precede everything that
//! reads them: what the step prepares for all its layers, and the embedding.

use super::refused::refused;
use crate::args::{BurstProgram, BurstTask, TASK_BARRIER, TASK_SOLO, TASK_WORDS};
use crate::driver::{Driver, Memory, Pinned};
use crate::error::CudaError;
use crate::lower::{Call, Spot};
use crate::resident::{Bound, Resident};
use aio_backend::DeviceError;
use aio_ir::{Dims, Sym};
use aio_plan::{Bucket, Check, Plan, PlanFamily, StepInput, StepOutput};
use bytemuck::Zeroable;
use std::sync::Arc;

/// Inputs that a burst binds. Any other must be optional.
const INPUTS: [StepInput; 10] = [
    StepInput::Tokens,
    StepInput::Positions,
    StepInput::RowSeq,
    StepInput::PageTable,
    StepInput::OutRows,
    StepInput::Spans,
    StepInput::Lens,
    StepInput::Sampling,
    StepInput::Noise,
    StepInput::Recent,
];

/// A task list. See the module docs.
pub(super) struct TaskList {
    bound: Bound,
    plan: Plan,
    tasks: Option<Memory>,
    /// Vocabulary size, if the plan looks tokens up.
    pub tokens: Option<u64>,
    /// Positions of a table, if the plan looks positions up.
    pub positions: Option<u64>,
}

impl TaskList {
    /// Lowers a plan for steps of one sequence with up to `rows` rows.
    pub(super) fn new(
        driver: &Arc<dyn Driver>,
        resident: &Resident,
        family: &PlanFamily,
        plan: &Plan,
        rows: u32,
    ) -> Result<TaskList, DeviceError> {
        let plan = of_rows(plan, rows);
        check_names(&plan)?;
        let bound = resident.bind(driver, &driver.properties().of_bursts(), family, &plan)?;
        if let Some(call) = bound.program.calls.iter().find(|c| c.grid[1] > 1 || c.args.len() > 8 * TASK_WORDS) {
            return Err(refused(format!("`{}` does not fit a task", call.kernel)));
        }
        let [tokens, positions] = [StepInput::Tokens, StepInput::Positions].map(|input| below(&plan, input));
        let plan = Plan { tasks: Vec::new(), ..plan };
        let program = TaskList { bound, tasks: None, tokens, positions, plan };
        program.constants()?;
        Ok(program)
    }

    pub(super) fn rows(&self) -> u32 {
        self.plan.bucket.rows
    }

    /// Whether tokens are sampled.
    pub(super) fn samples(&self) -> bool {
        self.plan.step_input(StepInput::Noise).is_some()
    }

    /// Names of its kernels.
    pub(super) fn kernels(&self) -> Vec<String> {
        self.bound.program.calls.iter().map(|c| c.kernel.clone()).collect()
    }

    pub(super) fn shared_bytes(&self) -> u32 {
        self.bound.program.calls.iter().map(|c| c.shared_bytes).max().unwrap_or(0)
    }

    /// Writes what is the same in all bursts: every row belongs to sequence 0, represented by zeros, and is an output
    /// row.
    fn constants(&self) -> Result<(), DeviceError> {
        let Some(input) = self.plan.step_input(StepInput::OutRows) else { return Ok(()) };
        let spot = self.bound.program.step.inputs[input.index()];
        let rows: Vec<u32> = (0..self.rows()).collect();
        let bytes: &[u8] = bytemuck::cast_slice(&rows);
        Ok(self.bound.memory(spot).write(spot.offset, &bytes[..bytes.len().min(spot.bytes)])?)
    }

    /// Starts writing an input from `len` bytes of `staging` at `at`. Does nothing if the plan lacks it. Bytes after
    /// these are unchanged.
    pub(super) fn write(&self, input: StepInput, staging: &Pinned, at: usize, len: usize) -> Result<(), CudaError> {
        let Some(input) = self.plan.step_input(input) else { return Ok(()) };
        let spot = self.bound.program.step.inputs[input.index()];
        self.bound.memory(spot).write_pinned(spot.offset, staging, at, len.min(spot.bytes))
    }

    /// Uploads the tasks. `numbers` gives the number by which a task refers to each of `names`, which are sorted.
    pub(super) fn upload(
        &mut self,
        driver: &Arc<dyn Driver>,
        names: &[String],
        numbers: &[u32],
    ) -> Result<(), DeviceError> {
        let task = |(call, flags): (&Call, u32)| {
            let at = names.binary_search(&call.kernel).expect("`names` has the kernels of both programs");
            let mut task = BurstTask { kernel: numbers[at], flags, ..BurstTask::zeroed() };
            bytemuck::bytes_of_mut(&mut task.args)[..call.args.len()].copy_from_slice(&call.args);
            task
        };
        let program = &self.bound.program;
        let tasks: Vec<BurstTask> =
            program.calls.iter().zip(flags(&program.calls, program.prelude)).map(task).collect();
        let bytes: &[u8] = bytemuck::cast_slice(&tasks);
        let memory = Memory::new(driver, bytes.len()).map_err(|e| e.taking("a burst's tasks"))?;
        memory.write(0, bytes)?;
        self.tasks = Some(memory);
        Ok(())
    }

    /// The kernel's arguments.
    pub(super) fn args(&self) -> BurstProgram {
        let step = &self.bound.program.step;
        let at = |spot: Spot| self.bound.memory(spot).at() + spot.offset as u64;
        let input = |input| self.plan.step_input(input).map_or(0, |i| at(step.inputs[i.index()]));
        let output = |output| self.plan.step_output(output).map_or(0, |o| at(step.outputs[o.index()]));
        BurstProgram {
            tasks: self.tasks.as_ref().map_or(0, Memory::at),
            step: self.bound.step.at(),
            tokens: input(StepInput::Tokens),
            positions: input(StepInput::Positions),
            noise: input(StepInput::Noise),
            recent: input(StepInput::Recent),
            spans: input(StepInput::Spans),
            lens: input(StepInput::Lens),
            accepted: output(StepOutput::Accepted),
            next: output(StepOutput::Next),
            count: self.bound.program.calls.len() as u32,
            rows: self.rows(),
        }
    }
}

/// Exclusive upper bound on the indices that a step binds as `input`, if there is one.
fn below(plan: &Plan, input: StepInput) -> Option<u64> {
    let input = plan.step_input(input)?;
    let bounds = plan.checks.iter().filter_map(|check| match check {
        Check::Below { input: own, below, .. } if *own == input => below.known(),
        _ => None,
    });
    bounds.min()
}

/// The plan limited to steps of one sequence with up to `rows` rows.
pub(super) fn of_rows(plan: &Plan, rows: u32) -> Plan {
    let Bucket { rows: all, outs, .. } = plan.bucket;
    let rows = rows.min(all).min(outs);
    let bucket = Bucket { rows, seqs: 1, outs: rows, ..plan.bucket };
    Plan { bucket, ..plan.clone() }
}

/// Rejects plans with inputs that a burst cannot provide, or without the outputs it needs.
fn check_names(plan: &Plan) -> Result<(), DeviceError> {
    let dims = Dims { pages: 1, stride: 1, recent: 1, ..plan.bucket.bounds() };
    let bound = |name: &str| StepInput::from_name(name).is_some_and(|input| INPUTS.contains(&input));
    let unknown = plan.inputs.iter().find(|i| !bound(&i.name) && !i.optional);
    if let Some(input) = unknown {
        return Err(refused(format!("it cannot bind the input `{}`", input.name)));
    }
    let needed = [StepInput::Tokens, StepInput::Positions, StepInput::Spans, StepInput::Lens];
    let needed = needed.into_iter().find(|&i| plan.step_input(i).is_none()).map(StepInput::name);
    let outcome = [StepOutput::Accepted, StepOutput::Next];
    let outcome = outcome.into_iter().find(|&o| plan.step_output(o).is_none()).map(StepOutput::name);
    if let Some(name) = needed.or(outcome) {
        return Err(refused(format!("the plan has no `{name}`")));
    }
    // Without penalties a burst looks back on no tokens.
    let needs_recent = plan.checks.iter().find(|c| matches!(c, Check::NotEmpty { sym: Sym::Recent, .. }));
    if let Some(check) = needs_recent {
        return Err(refused(format!("it needs tokens to look back on: {check}")));
    }
    let words = plan.inputs.iter().filter(|i| bound(&i.name));
    match words.into_iter().find(|i| i.ty.dtype.is_quantized() || i.ty.bytes(&dims).is_none()) {
        Some(input) => Err(refused(format!("the input `{}` is not an array of words", input.name))),
        None => Ok(()),
    }
}

/// Whether the first block does all work of a launch, whatever the grid. Never true for products and attention, whose
/// blocks synchronise with tickets.
fn is_solo(call: &Call) -> bool {
    let alone = call.kernel.starts_with("op_") || ["verify", "attend_plan"].contains(&call.kernel.as_str());
    alone && call.grid == [1, 1]
}

/// The flags of each task. The first `prelude` tasks read only what the step binds.
fn flags(calls: &[Call], prelude: usize) -> Vec<u32> {
    let flag = |(i, call): (usize, &Call)| {
        let solo = is_solo(call);
        let next = calls.get(i + 1);
        // The burst kernel itself always joins the blocks at the end.
        let alone = solo && next.is_none_or(is_solo);
        let before = i + 1 < prelude || i + 1 == prelude && next.is_some_and(|c| c.kernel.starts_with("embed_"));
        let barrier = !alone && !before;
        (if solo { TASK_SOLO } else { 0 }) | (if barrier { TASK_BARRIER } else { 0 })
    };
    calls.iter().enumerate().map(flag).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use aio_ir::{DType, Def, Dim, Op, Shape, TensorType};
    use aio_plan::body::{self, Declared};
    use aio_plan::{Binding, BufferId, Loc, Tail, Task, TaskKind};
    use smallvec::smallvec;

    fn call(kernel: &str, blocks: u32) -> Call {
        Call { kernel: kernel.to_owned(), grid: [blocks, 1], shared_bytes: 0, args: Box::default() }
    }

    /// A plan that verifies drafts, with one task: a softmax over this many numbers.
    fn softmax_over(size: Dim) -> Plan {
        let binding = |name: &str| Binding {
            name: name.to_owned(),
            ty: TensorType::new(DType::U32, Shape::new([Sym::Rows.into()])),
            optional: false,
        };
        let needed = [StepInput::Tokens, StepInput::Positions, StepInput::Spans, StepInput::Lens];
        let bucket = Bucket { rows: 4, seqs: 1, outs: 4, tail: Tail::Argmax, verify: true };
        let x = Declared { def: Def::Input { optional: false }, ty: TensorType::f32(Shape::new([size])) };
        let body = body::single(Op::Softmax, &[Some(x)], &[]).unwrap();
        let at = Loc::Buffer(BufferId::new(0));
        let task = Task::new(TaskKind::Op(Op::Softmax), Arc::new(body), smallvec![at], smallvec![at], bucket);
        let plan = Plan {
            bucket,
            inputs: needed.iter().map(|i| binding(i.name())).collect(),
            outputs: [StepOutput::Accepted, StepOutput::Next].iter().map(|o| binding(o.name())).collect(),
            buffers: Vec::new(),
            tasks: vec![task],
            checks: Vec::new(),
            arena_bytes: 0,
            arena_lower_bound: 0,
        };
        plan.with_checks()
    }

    #[test]
    fn a_plan_that_needs_tokens_to_look_back_on_is_refused() {
        assert_eq!(check_names(&softmax_over(Dim::Const(3))), Ok(()));
        let refused = check_names(&softmax_over(Sym::Recent.into())).unwrap_err();
        assert!(refused.to_string().contains("softmax"), "{refused}");
    }

    #[test]
    fn barriers_stand_where_other_blocks_results_are_read() {
        let calls = [
            call("rope_table", 4),
            call("attend_plan", 1),
            call("embed_q8_0", 4),
            call("norm_qkv_q8_0", 9),
            call("head_q8_0", 1),
            call("op_gather", 1),
            call("verify", 1),
            call("op_map", 1),
        ];
        let (s, b) = (TASK_SOLO, TASK_BARRIER);
        assert_eq!(flags(&calls, 2), [0, s, b, b, b, s, s, s]);
        // Without an embedding after it, the prelude needs a barrier.
        assert_eq!(flags(&calls[..2], 2), [0, s]);
        assert_eq!(flags(&[call("rope_table", 4), call("op_rope", 4)], 1), [b, b]);
    }
}
