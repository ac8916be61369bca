//! Which plans compute each row by itself, so that a step may have rows of padding. Asked by the executable.

use super::host::is_count;
use super::ops::is_unary;
use aio_ir::{Def, Op, Sym, TensorType};
use aio_plan::{KindName, Loc, Plan, Task};

/// Whether a plan computes each row by itself, so that rows can be added.
pub(crate) fn pads(plan: &Plan) -> bool {
    plan.tasks.iter().all(by_row)
}

/// Tasks of attention in a plan.
pub(crate) fn attentions(plan: &Plan) -> u64 {
    let attends = |task: &&Task| matches!(task.kind.name(), KindName::Attend | KindName::Op(Op::Attend));
    plan.tasks.iter().filter(attends).count() as u64
}

/// Whether each entry along a type's first dimension is one row, or the type is the same for every step.
fn by_first(ty: &TensorType) -> bool {
    let Some((first, rest)) = ty.shape.dims().split_first() else { return true };
    let leads = [Sym::Rows, Sym::Outs].iter().any(|&sym| *first == sym.into());
    (leads || first.known().is_some()) && rest.iter().all(|d| d.known().is_some())
}

/// Whether a task computes each row by itself.
fn by_row(task: &Task) -> bool {
    let KindName::Op(op) = task.kind.name() else { return true };
    let types = || task.body.values().map(|(_, v)| &v.ty);
    let leads = |ty: &TensorType, syms: &[Sym]| {
        ty.shape.dims().first().is_some_and(|d| syms.iter().any(|&sym| *d == sym.into()))
    };
    // What an op reduces is the last dimension, which is not that of rows.
    let wide = || types().all(|ty| by_first(ty) && (ty.shape.factors().1.is_empty() || ty.shape.rank() > 1));
    match op {
        Op::Sample | Op::Verify => types().next().is_some_and(|ty| leads(ty, &[Sym::Outs])),
        Op::Commit => true,
        Op::Add if types().all(is_count) => true,
        Op::PageWrite | Op::Attend => {
            let step = task.body.values().filter(|(_, v)| !matches!(v.def, Def::Weight));
            step.into_iter().all(|(_, v)| leads(&v.ty, &[Sym::Rows, Sym::Seqs, Sym::Pages]))
        }
        // Only indices that a step binds are turned into rows of the shape, and not those that are rows themselves.
        Op::Gather => {
            let (table, index) = (types().next(), types().nth(1));
            let bound = matches!(task.operands[1], Loc::Input(_)) && index.is_some_and(|ty| leads(ty, &[Sym::Outs]));
            let moved = table.is_some_and(|ty| leads(ty, &[Sym::Rows, Sym::Outs]));
            types().all(by_first) && (bound || !moved)
        }
        Op::Argmax => types().next().is_some_and(|ty| by_first(ty) && ty.shape.rank() > 1),
        Op::RmsNorm | Op::LayerNorm => types().next().is_some_and(|ty| by_first(ty) && ty.shape.rank() > 1),
        Op::Reshape | Op::Softmax => wide(),
        Op::Slice => task.body.nodes().next().is_some_and(|(_, node)| node.int("axis") > 0) && types().all(by_first),
        Op::Embed | Op::Matmul | Op::Rope | Op::Add | Op::Sub | Op::Mul | Op::Div => types().all(by_first),
        _ => is_unary(op) && types().all(by_first),
    }
}
