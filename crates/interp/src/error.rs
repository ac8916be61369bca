//! Errors of evaluating a graph.

use aio_ir::infer::EmptyAxis;
use aio_ir::slots::SlotError;
use aio_ir::{Op, ValueId};
use std::fmt;

/// The node that an error is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    /// Its first result, or the result in question.
    pub value: ValueId,
    /// The value's name: its number, unless the caller has a text of the graph that names it.
    pub name: String,
    /// The node's op.
    pub op: Op,
}

impl At {
    pub(crate) fn new(value: ValueId, op: Op) -> At {
        At { value, name: value.to_string(), op }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.name, self.op.mnemonic())
    }
}

/// Why a graph could not be evaluated.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EvalError {
    /// An input, weight or state is not bound, or bound with another type or size.
    #[error("`{name}` : {ty} is not bound to a tensor of that type")]
    Unbound {
        /// Its name.
        name: String,
        /// Its type.
        ty: String,
    },
    /// An index (token, row, page, position) is out of range.
    #[error("{at}: {what} {index} is not below {len}")]
    Index {
        /// The node that has the index.
        at: At,
        /// The kind of index.
        what: &'static str,
        /// Its value.
        index: i64,
        /// The tensor's size.
        len: usize,
    },
    /// An op's axis has no elements in this step.
    #[error("{at}: {axis}")]
    EmptyAxis {
        /// The node.
        at: At,
        /// The axis.
        axis: EmptyAxis,
    },
    /// A step cannot use slots as it says.
    #[error("{at}: {source}")]
    Slots {
        /// The node.
        at: At,
        /// What is impossible.
        source: SlotError,
    },
    /// A result is larger than the oracle computes.
    #[error("{at}: {ty} has more than {max} elements", max = MAX_ELEMS)]
    TooLarge {
        /// The value.
        at: At,
        /// Its type.
        ty: String,
    },
}

impl EvalError {
    /// The node that the error is about.
    pub fn at(&mut self) -> Option<&mut At> {
        match self {
            EvalError::Unbound { .. } => None,
            EvalError::Index { at, .. }
            | EvalError::EmptyAxis { at, .. }
            | EvalError::Slots { at, .. }
            | EvalError::TooLarge { at, .. } => Some(at),
        }
    }
}

/// Maximum elements of a result. The oracle is for small tensors, and a failed allocation aborts the process.
pub(crate) const MAX_ELEMS: u64 = 1 << 28;
