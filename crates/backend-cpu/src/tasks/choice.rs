//! Which kernel runs a task, and why, in words for reports. Every answer comes from the code that decides: `fits`, the
//! table of kernels, and the division of rows into calls.

use super::acts::PRIVATE_ROWS;
use super::fits::fits;
use crate::activation::MAX_PANEL_ROWS;
use crate::format::layout;
use crate::kernels::Kernels;
use crate::kernels::attend::SPLIT_POSITIONS;
use aio_backend::KernelChoice;
use aio_ir::{DType, Dims, Op};
use aio_plan::{HeadSpec, KindName, Layout, Loc, Plan, PlanFamily, Task, TaskKind};

/// Answers for the tasks of one plan.
pub(crate) struct Chooser<'a> {
    pub kernels: &'a Kernels,
    /// Why the kernels have their instruction set.
    pub isa: &'a str,
    pub family: &'a PlanFamily,
    pub plan: &'a Plan,
    /// Dimensions of the step.
    pub dims: &'a Dims,
}

impl Chooser<'_> {
    /// The kernel of a task.
    pub(crate) fn of(&self, task: &Task) -> KernelChoice {
        if !fits(task, self.family, self.plan) {
            return self.nodes(task);
        }
        match task.kind {
            TaskKind::Attend(_) | TaskKind::Op(_) => self.attention(),
            TaskKind::Head(HeadSpec { argmax, .. }) => {
                self.product(task, self.dims.outs, if argmax { "/argmax" } else { "" })
            }
            _ => self.product(task, self.dims.rows, ""),
        }
    }

    /// `instruction set/weight types/rows x outputs of a call`.
    fn product(&self, task: &Task, rows: u32, end: &str) -> KernelChoice {
        let rows = rows as usize;
        let types = self.matrices(task);
        let calls = types.iter().filter_map(|&dtype| Some((dtype, self.kernels.product_call(dtype, rows)?)));
        let mut parts: Vec<(Vec<&str>, (usize, usize))> = Vec::new();
        for (dtype, call) in calls {
            match parts.iter_mut().find(|(_, other)| *other == call) {
                Some((names, _)) => names.push(dtype.name()),
                None => parts.push((vec![dtype.name()], call)),
            }
        }
        let part = |(names, (rows, outputs)): &(Vec<&str>, _)| format!("{}/{rows}x{outputs}", names.join("+"));
        let tiles: Vec<String> = parts.iter().map(part).collect();
        let call = parts.first().map_or((1, 1), |p| p.1);
        let why = [
            self.isa.to_owned(),
            for_rows(rows, call),
            prepared(rows, types.iter().any(|&t| layout(t).is_some())).to_owned(),
        ];
        KernelChoice { name: format!("{}/{}{end}", self.level(), tiles.join("+")), why: why.join("; ") }
    }

    fn attention(&self) -> KernelChoice {
        let pairs = self.kernels.attend_pairs();
        let why = format!(
            "{}; splits of {SPLIT_POSITIONS} positions, up to {pairs} pairs of a row and a query head at a time",
            self.isa
        );
        KernelChoice { name: format!("{}/attend/{pairs}", self.level()), why }
    }

    /// A task whose nodes run one by one.
    fn nodes(&self, task: &Task) -> KernelChoice {
        let has = |op: Op| task.body.nodes().any(|(_, n)| n.op == op);
        let packed = !self.matrices(task).is_empty() && has(Op::Matmul);
        let has_levels = packed || has(Op::Argmax) || has(Op::Sample);
        let kind = task.kind.name();
        let reason = match kind {
            KindName::Op(_) => "a single op".to_owned(),
            KindName::Experts => {
                format!("experts have no kernel of their own: {} ops, one by one", task.body.nodes().count())
            }
            _ => format!(
                "its operands do not suit the kernels of {}: {} ops, one by one",
                kind.name(),
                task.body.nodes().count()
            ),
        };
        let (level, isa) = match has_levels {
            true => (self.level(), self.isa),
            false => ("plain", "the same code on every instruction set"),
        };
        let name = if let KindName::Op(op) = kind { op.mnemonic() } else { "nodes" };
        KernelChoice { name: format!("{level}/{name}"), why: format!("{isa}; {reason}") }
    }

    fn level(&self) -> &'static str {
        self.kernels.isa().level().name()
    }

    /// Types of a task's packed matrices, each once, in the order of the operands.
    fn matrices(&self, task: &Task) -> Vec<DType> {
        let kind = task.kind.name();
        let mut types = Vec::new();
        for (_, loc) in task.operands.iter().enumerate().filter(|(place, _)| kind.is_matrix(*place)) {
            let Loc::Weight(w) = loc else { continue };
            let weight = &self.family.weights[w.index()];
            if weight.layout == Layout::Packed && !types.contains(&weight.ty.dtype) {
                types.push(weight.ty.dtype);
            }
        }
        types
    }
}

fn for_rows(rows: usize, (each, outputs): (usize, usize)) -> String {
    match rows {
        0 | 1 => format!("one row: a single stream of packed weights, {outputs} outputs at a time"),
        _ if rows > MAX_PANEL_ROWS => {
            format!("{rows} rows: panels of rows over weights in a cache, {each} rows by {outputs} outputs a call")
        }
        _ => format!("{rows} rows: one pass over packed weights, {each} rows by {outputs} outputs a call"),
    }
}

fn prepared(rows: usize, has_blocks: bool) -> &'static str {
    match (rows <= PRIVATE_ROWS, has_blocks) {
        (true, true) => "each thread prepares and rounds all rows to 8 bits itself, which is cheaper than a barrier",
        (true, false) => "each thread prepares all rows itself, which is cheaper than a barrier",
        (false, true) => "threads share the rows' preparation and rounding to 8 bits, then meet once",
        (false, false) => "threads share the rows' preparation, then meet once",
    }
}
