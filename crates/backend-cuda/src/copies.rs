//! Which copies of a weight the device needs, depending on its layout and on the kernels that read it.
//!
//! Upload makes the copies that tasks of the family need, and lowering takes their addresses; both use this module.

use crate::format::Form;
use aio_ir::{DType, Op, Sym};
use aio_plan::{Layout, Loc, PlanFamily, Task, TaskKind};

/// A copy of a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copy {
    /// In tiles, for products.
    Packed,
    /// Decoded to f32, row-major.
    Decoded,
    /// As in the model file.
    File,
}

/// The copy of the weight operand at `place` that a task's kernels read.
pub(crate) fn copy_of(family: &PlanFamily, task: &Task, place: usize) -> Copy {
    let Loc::Weight(w) = task.operands[place] else { return Copy::File };
    let weight = &family.weights[w.index()];
    let dtype = weight.ty.dtype;
    let own_form = matches!(Form::of(dtype), Some(Form::Same(_)));
    match task.kind {
        TaskKind::Op(Op::Embed) if own_form && weight.layout == Layout::Packed => Copy::Packed,
        TaskKind::Op(Op::Embed | Op::Dequantize) => Copy::Decoded,
        TaskKind::Op(Op::Matmul) if place == const { Op::Matmul.place("w") } => {
            let plain = matches!(dtype, DType::F32 | DType::F16 | DType::BF16);
            match weight.layout {
                // An f32 product is exact, and unfused plans do not need speed.
                Layout::Packed if dtype != DType::F32 && is_row_product(task) => Copy::Packed,
                _ if plain => Copy::File,
                _ => Copy::Decoded,
            }
        }
        _ if weight.layout == Layout::Packed => Copy::Packed,
        _ => Copy::File,
    }
}

/// Whether a `matmul` multiplies the step's rows with one packed matrix, as `linear` does.
pub(crate) fn is_row_product(task: &Task) -> bool {
    let Some((_, node)) = task.body.nodes().next() else { return false };
    let Some((first, rest)) = task.body.ty(node.input(0)).shape.dims().split_first() else { return false };
    let counted = [Sym::Rows, Sym::Outs].iter().any(|&s| *first == s.into());
    let middle = &rest[..rest.len().saturating_sub(1)];
    counted && !rest.is_empty() && node.optional(2).is_none() && middle.iter().all(|d| d.known() == Some(1))
}
