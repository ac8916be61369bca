//! A check of a step's bindings, which a plan needs because kernels use what a step binds unchecked.
//!
//! [`crate::checks`] derives a plan's checks from its tasks; `aio-backend` runs them in one place, `Bindings::check`.
//! Indices that a step computes are checked by kernels where they are used.

use crate::loc::InputId;
use aio_ir::infer::EmptyAxis;
use aio_ir::{Dim, Sym};
use std::fmt;

/// A check of every step before it runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Check {
    /// The step has the pool's number of pages or of slots.
    Pool {
        /// The symbol of the pool.
        sym: Sym,
    },
    /// The symbol is not 0, because an op needs elements along it.
    NotEmpty {
        /// The symbol.
        sym: Sym,
        /// The first op that needs elements.
        axis: EmptyAxis,
    },
    /// Each row names a sequence of the step, and the sequence has pages of the pool up to the row's position.
    PagedRows {
        /// u32\[seqs, stride\]: the page table.
        table: InputId,
        /// u32\[rows\]: the sequence of each row.
        row_seq: InputId,
        /// u32\[rows\]: the position of each row.
        positions: InputId,
        /// Positions of a page.
        page: u32,
    },
    /// Each sequence reads a slot of the pool and writes another one alone, and has no more accepted and pending rows than a
    /// slot has room for ([`aio_ir::slots`]).
    Slots {
        /// u32\[seqs, 2\]: the slots that each sequence reads and writes.
        slots: InputId,
        /// u32\[seqs, 2\]: its accepted pending rows and its certain rows.
        slot_rows: InputId,
        /// u32\[rows\]: the sequence of each row.
        row_seq: InputId,
        /// Pending rows that a slot has room for.
        room: u32,
    },
    /// Indices are below a dimension.
    Below {
        /// The input of u32 or i32 indices.
        input: InputId,
        /// The kind of the task that uses them, by name.
        task: &'static str,
        /// What they index.
        what: &'static str,
        /// The dimension.
        below: Dim,
    },
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Check::Pool { sym } => write!(f, "{} are the pool's", sym.name()),
            Check::NotEmpty { sym, axis } => write!(f, "{} is not 0: {} along axis {}", sym.name(), axis.op, axis.axis),
            Check::PagedRows { table, row_seq, positions, page } => {
                write!(f, "rows of {row_seq} at {positions} have pages of {page} in {table}")
            }
            Check::Slots { slots, slot_rows, row_seq, room } => {
                write!(f, "rows of {row_seq} use {slots} by {slot_rows}, with {room} pending rows at most")
            }
            Check::Below { input, task, what, below } => write!(f, "{input} is below {below}: {task}, {what}"),
        }
    }
}
