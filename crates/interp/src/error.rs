//! Why a graph could not be run.

use aio_ir::infer::EmptyAxis;
use aio_ir::{Op, ValueId};
use std::fmt;

/// The node that an error is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    /// Its first result, or the one that is meant.
    pub value: ValueId,
    /// What that is called; its number, unless who has a text of the graph says otherwise.
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

/// Why a graph could not be run.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EvalError {
    /// An input, weight or state has no value, or one of another type or size.
    #[error("`{name}` : {ty} is not bound to a tensor of that type")]
    Unbound {
        /// Its name.
        name: String,
        /// Its type.
        ty: String,
    },
    /// An index (token, row, page, position) points outside its tensor.
    #[error("{at}: {what} {index} is not below {len}")]
    Index {
        /// The node that has the index.
        at: At,
        /// What kind of index.
        what: &'static str,
        /// Its value.
        index: i64,
        /// The tensor's size.
        len: usize,
    },
    /// An op goes along an axis that has no elements in this step.
    #[error("{at}: {axis}")]
    EmptyAxis {
        /// The node.
        at: At,
        /// Its axis.
        axis: EmptyAxis,
    },
    /// A result is larger than an oracle should compute.
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
            EvalError::Index { at, .. } | EvalError::EmptyAxis { at, .. } | EvalError::TooLarge { at, .. } => Some(at),
        }
    }
}

/// Elements of a result at most: the oracle is for small tensors, and memory that cannot be had aborts a process.
pub(crate) const MAX_ELEMS: u64 = 1 << 28;
