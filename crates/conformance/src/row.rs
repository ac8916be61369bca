//! A graph for one op and several element types, used by the lists in `ops` and `zero`.

use aio_ir::{DType, Op};

/// A row of the list.
pub(super) struct Row {
    pub name: &'static str,
    pub op: Op,
    pub types: &'static [DType],
    pub graph: &'static str,
}

/// A row.
pub(super) const fn row(name: &'static str, op: Op, types: &'static [DType], graph: &'static str) -> Row {
    Row { name, op, types, graph }
}
