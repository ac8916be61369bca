//! Preconditions of the kernels of a task's kind, checked when the plan is loaded.
//!
//! These kernels work on a step's rows and find sequences, positions and pages in the inputs of these names, which the plan's
//! checks cover. A graph with another layout is valid; its tasks run node by node.

use aio_ir::{DType, Op, Sym, TensorType};
use aio_plan::kinds::{attend, gate_up, head, linear, qkv};
use aio_plan::{AttendSpec, KindName, Loc, Plan, PlanFamily, QkvSpec, StepInput, Task, TaskKind};

/// Head sizes that the kernels of attention take are multiples of this.
pub(crate) const HEAD_MULTIPLE: u32 = 16;

/// Whether the kernels of a task's kind fit its operands and results.
pub(super) fn fits(task: &Task, family: &PlanFamily, plan: &Plan) -> bool {
    let t = Fit { task, family, plan };
    t.vectors()
        && match task.kind {
            TaskKind::Qkv(spec) => t.qkv(&spec),
            TaskKind::Attend(spec) => t.attend(&spec),
            TaskKind::Op(Op::Attend) => attend_spec(task).is_some_and(|spec| t.attend(&spec)),
            TaskKind::Linear(_) => t.linear(),
            TaskKind::GateUp(_) => t.gate_up(),
            TaskKind::Head(_) => t.head(),
            // The nodes of the body are the kernels.
            TaskKind::Experts(_) | TaskKind::Op(_) => false,
        }
}

/// Whether a task finds keys and values by the step's own `positions`, `page_table` and `row_seq`.
pub(crate) fn reads_pages(task: &Task, plan: &Plan) -> bool {
    let is = |loc: Loc, input| plan.step_input(input).is_some_and(|i| loc == Loc::Input(i));
    let all = |table, row_seq, positions| {
        is(table, StepInput::PageTable) && is(row_seq, StepInput::RowSeq) && is(positions, StepInput::Positions)
    };
    match task.kind {
        TaskKind::Qkv(_) => {
            let o = qkv::Operands::of(&task.operands);
            all(o.page_table, o.row_seq, o.positions)
        }
        TaskKind::Attend(_) => {
            let o = attend::Operands::of(&task.operands);
            all(o.page_table, o.row_seq, o.positions)
        }
        TaskKind::Op(op @ (Op::Attend | Op::PageWrite)) => {
            let [table, row_seq, positions] =
                ["table", "row_seq", "positions"].map(|name| task.operands[op.place(name)]);
            all(table, row_seq, positions)
        }
        _ => false,
    }
}

/// The numbers of an unfused `attend`.
pub(super) fn attend_spec(task: &Task) -> Option<AttendSpec> {
    let (_, node) = task.body.nodes().next()?;
    AttendSpec::from_node(&task.body, node)
}

/// A task with the plan and family that describe its operands.
struct Fit<'a> {
    task: &'a Task,
    family: &'a PlanFamily,
    plan: &'a Plan,
}

impl Fit<'_> {
    fn qkv(&self, spec: &QkvSpec) -> bool {
        let (o, q) = (qkv::Operands::of(&self.task.operands), self.task.results[qkv::OUT.q]);
        reads_pages(self.task, self.plan)
            && matches!(o.freq_factors, Loc::Absent | Loc::Weight(_))
            && spec.head_dim.is_multiple_of(HEAD_MULTIPLE)
            && self.matrices(&[o.wq, o.wk, o.wv])
            && self.rows(o.x, self.size(o.wq, 1))
            && self.rows(q, self.size(o.wq, 0))
    }

    fn linear(&self) -> bool {
        let (o, out) = (linear::Operands::of(&self.task.operands), self.task.results[linear::OUT.out]);
        let (inputs, outputs) = (self.size(o.w, 1), self.size(o.w, 0));
        self.matrices(&[o.w]) && self.rows(o.x, inputs) && self.rows(o.residual, outputs) && self.rows(out, outputs)
    }

    fn gate_up(&self) -> bool {
        let (o, out) = (gate_up::Operands::of(&self.task.operands), self.task.results[gate_up::OUT.out]);
        self.matrices(&[o.gate, o.up]) && self.rows(o.x, self.size(o.gate, 1)) && self.rows(out, self.size(o.gate, 0))
    }

    fn head(&self) -> bool {
        let (o, out) = (head::Operands::of(&self.task.operands), self.task.results[head::OUT.out]);
        self.binds_out_rows(self.task.operands[head::AT.out_rows])
            && self.matrices(&[o.w])
            && self.rows(o.x, self.size(o.w, 1))
            && self.row_major(out, Sym::Outs, None)
    }

    /// Whether a location is an input, whose indices each step checks.
    fn binds_out_rows(&self, loc: Loc) -> bool {
        self.plan.step_input(StepInput::OutRows).is_some_and(|i| loc == Loc::Input(i))
    }

    /// Whether a location is absent or holds a row of `width` elements for each of the step's rows.
    fn rows(&self, loc: Loc, width: Option<u64>) -> bool {
        self.row_major(loc, Sym::Rows, width)
    }

    /// A dimension of a weight.
    fn size(&self, loc: Loc, axis: usize) -> Option<u64> {
        let Loc::Weight(w) = loc else { return None };
        self.family.weights[w.index()].ty.shape.dims().get(axis).and_then(|d| d.known())
    }

    /// Whether these operands are packed weights.
    fn matrices(&self, locs: &[Loc]) -> bool {
        let layout = |loc: &Loc| match loc {
            Loc::Weight(w) => Some(self.family.weights[w.index()].layout),
            _ => None,
        };
        locs.iter().all(|p| layout(p) == Some(aio_plan::Layout::Packed))
    }

    /// Whether all other weights are vectors of f32.
    fn vectors(&self) -> bool {
        let kind: KindName = self.task.kind.name();
        let mut others = self.task.operands.iter().enumerate().filter(|(place, _)| !kind.is_matrix(*place));
        others.all(|(_, loc)| match loc {
            Loc::Weight(w) => {
                let ty = &self.family.weights[w.index()].ty;
                ty.dtype == DType::F32 && ty.shape.rank() == 1
            }
            _ => true,
        })
    }

    fn attend(&self, spec: &AttendSpec) -> bool {
        let (o, out) = (attend::Operands::of(&self.task.operands), self.task.results[attend::OUT.out]);
        let kernel = spec.head_dim > 0 && spec.head_dim.is_multiple_of(HEAD_MULTIPLE) && matches!(o.kv, Loc::State(_));
        reads_pages(self.task, self.plan)
            && kernel
            && matches!(o.sinks, Loc::Absent | Loc::Weight(_))
            && self.rows(o.q, None)
            && self.rows(out, None)
    }

    /// Whether a location is absent or holds a row of `width` elements for each count of the symbol.
    fn row_major(&self, loc: Loc, first: Sym, width: Option<u64>) -> bool {
        let ty = match loc {
            Loc::Absent => return true,
            Loc::Buffer(b) => &self.plan.buffers[b.index()].ty,
            Loc::Input(i) => &self.plan.inputs[i.index()].ty,
            Loc::Output(o) => &self.plan.outputs[o.index()].ty,
            Loc::Weight(_) | Loc::State(_) => return false,
        };
        let found = row_width(ty, first);
        found.is_some() && (width.is_none() || found == width)
    }
}

/// Elements of a row, if the outermost dimension is the symbol and no other depends on the step.
fn row_width(ty: &TensorType, first: Sym) -> Option<u64> {
    let (head, rest) = ty.shape.dims().split_first()?;
    if *head != first.into() {
        return None;
    }
    rest.iter().try_fold(1u64, |n, d| n.checked_mul(d.known()?))
}
