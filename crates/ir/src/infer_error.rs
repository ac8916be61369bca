//! Errors of shape rules, and the axes that must have elements.

use crate::attr::Attr;
use crate::op::Op;
use crate::shape::TensorType;

/// Why operands do not satisfy a shape rule.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InferError {
    /// An operand has the wrong element type or shape.
    #[error("operand `{operand}` is {got}, expected {expected}")]
    Operand {
        /// The operand's name in the op table.
        operand: &'static str,
        /// What the op takes.
        expected: String,
        /// The operand's type.
        got: TensorType,
    },
    /// An attribute's value does not fit the operands.
    #[error("attribute `{name}` is {got}, expected {expected}")]
    Attribute {
        /// The attribute's name.
        name: &'static str,
        /// The values allowed.
        expected: String,
        /// The value given.
        got: Attr,
    },
    /// The op needs elements along an axis that has none.
    #[error(transparent)]
    Empty(#[from] EmptyAxis),
}

/// An axis without elements along which an op needs some: there is no maximum of nothing, and no mean over 0 elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("`{op}` along axis {axis}, which has no elements")]
pub struct EmptyAxis {
    /// The op's keyword, with the kind of a reduction.
    pub op: &'static str,
    /// The axis, from the outermost.
    pub axis: usize,
}

/// The axis of operand 0 that must have elements, because the op has no value for an empty axis. If its size is a
/// symbol, it is checked when the symbol is bound.
pub fn full_axis(op: Op, attrs: &[Attr], rank: usize) -> Option<EmptyAxis> {
    let last = rank.checked_sub(1);
    let (name, axis) = match (op, attrs) {
        (Op::Reduce, [Attr::Word("sum"), ..]) => return None,
        (Op::Reduce, [Attr::Word(kind), Attr::Int(axis)]) => (
            ["reduce max", "reduce min", "reduce mean"].into_iter().find(|n| n.ends_with(kind)),
            usize::try_from(*axis).ok(),
        ),
        (Op::RmsNorm | Op::LayerNorm | Op::Softmax | Op::Argmax | Op::TopK | Op::Sample, _) => {
            (Some(op.mnemonic()), last)
        }
        _ => return None,
    };
    Some(EmptyAxis { op: name?, axis: axis.filter(|&a| a < rank)? })
}
