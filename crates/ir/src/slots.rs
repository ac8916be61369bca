//! Slots: records of recurrent state in a pool, and how a step uses them.
//!
//! A slot is one record of each slot state. Slot 0 is all zeros, the state of an empty sequence, and is never written.
//! In each step a sequence reads one slot and writes another, so a step that fails or is cancelled changes no state, and
//! forks and snapshots are references to slots. A slot holds the state after its certain rows, and as *pending rows* the
//! operands of the drafts that followed them. The next step that reads the slot applies the pending rows that were
//! accepted. Rolling back is a smaller number of accepted rows; nothing is copied.
//!
//! The shape rules, the oracle and the checks of bindings use this module.

use crate::DType;
use crate::shape::{Dim, Sym, TensorType};
use std::collections::HashMap;
use std::ops::Range;

/// Sizes of the state of `conv`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvShape {
    /// Independent convolutions.
    pub channels: usize,
    /// Rows that a result sees, including its own.
    pub taps: usize,
    /// Pending rows that a slot has room for.
    pub room: usize,
}

/// Sizes of the state of `delta_rule`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeltaShape {
    /// Heads of values, each with a matrix.
    pub heads: usize,
    /// Heads of queries and keys, a divisor of `heads`.
    pub key_heads: usize,
    /// Elements of a key.
    pub key: usize,
    /// Elements of a value.
    pub value: usize,
    /// Pending rows that a slot has room for.
    pub room: usize,
}

/// The two sizes after the slots of an f32 state.
fn record(state: &TensorType) -> Option<(usize, usize)> {
    match *state.shape.dims() {
        [Dim::Sym(Sym::Slots), Dim::Const(a @ 1..), Dim::Const(b @ 1..)] if state.dtype == DType::F32 => {
            Some((usize::try_from(a).ok()?, usize::try_from(b).ok()?))
        }
        _ => None,
    }
}

/// A dimension as a number above 0.
fn size(ty: &TensorType, axis: usize) -> Option<usize> {
    let known = ty.shape.dims().get(axis)?.known()?;
    usize::try_from(known).ok().filter(|&n| n > 0)
}

impl ConvShape {
    /// The sizes of a state with this weight; `None` if they do not fit.
    pub fn of(state: &TensorType, weight: &TensorType) -> Option<ConvShape> {
        let (held, channels) = record(state)?;
        let taps = size(weight, 1)?;
        let room = held.checked_sub(taps - 1)?;
        (size(weight, 0)? == channels).then_some(ConvShape { channels, taps, room })
    }
}

impl DeltaShape {
    /// The sizes of a state with these queries and values; `None` if they do not fit.
    pub fn of(state: &TensorType, q: &TensorType, v: &TensorType) -> Option<DeltaShape> {
        let (heads, len) = record(state)?;
        let (key_heads, key, value) = (size(q, 1)?, size(q, 2)?, size(v, 2)?);
        let pending = len.checked_sub(key.checked_mul(value)?)?;
        let row = key.checked_add(value)?.checked_add(2)?;
        let fits = size(v, 1)? == heads && heads.is_multiple_of(key_heads) && pending.is_multiple_of(row);
        fits.then_some(DeltaShape { heads, key_heads, key, value, room: pending / row })
    }

    /// Elements of a pending row of one head: key, value, gate and beta.
    pub fn pending_row(&self) -> usize {
        self.key + self.value + 2
    }

    /// Elements of one head in a slot.
    pub fn record(&self) -> usize {
        self.key * self.value + self.room * self.pending_row()
    }
}

/// A sequence's part of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotUse {
    /// The slot it reads.
    pub read: usize,
    /// The slot it writes.
    pub write: usize,
    /// Pending rows of the first slot that are accepted.
    pub accepted: usize,
    /// Its rows in the step.
    pub rows: Range<usize>,
    /// Number of rows that belong to the sequence regardless of drafts; the others are drafts.
    pub certain: usize,
}

/// The bindings of a step that say how it uses slots.
#[derive(Clone, Copy, Debug)]
pub struct StepSlots<'a> {
    /// The sequence of each row.
    pub row_seq: &'a [u32],
    /// For each sequence, the slots that it reads and writes.
    pub slots: &'a [u32],
    /// For each sequence, its accepted pending rows and its certain rows.
    pub slot_rows: &'a [u32],
}

/// Why a step cannot use slots as its bindings say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// A row of no sequence.
    #[error("row {row} names sequence {seq} of {seqs}")]
    Sequence {
        /// The row.
        row: usize,
        /// Its sequence.
        seq: u32,
        /// Sequences in the step.
        seqs: usize,
    },
    /// Rows of one sequence with another's in between.
    #[error("the rows of sequence {seq} are not adjacent: row {row} is apart")]
    Apart {
        /// The sequence.
        seq: usize,
        /// The first row that is apart.
        row: usize,
    },
    /// A slot that the pool does not have.
    #[error("sequence {seq} names slot {slot} of {slots}")]
    Slot {
        /// The sequence.
        seq: usize,
        /// The slot.
        slot: u32,
        /// Slots in the pool.
        slots: usize,
    },
    /// Slot 0 would be written.
    #[error("sequence {seq} writes slot 0, which is the empty state")]
    Empty {
        /// The sequence.
        seq: usize,
    },
    /// A written slot has another use in the step.
    #[error("sequence {seq} writes slot {slot}, which sequence {other} also uses")]
    Shared {
        /// The sequence that writes it.
        seq: usize,
        /// The slot.
        slot: usize,
        /// The sequence that reads or writes it too; may be the same one.
        other: usize,
    },
    /// More certain rows than the sequence has rows.
    #[error("sequence {seq} has {rows} rows, of which {certain} cannot be certain")]
    Certain {
        /// The sequence.
        seq: usize,
        /// Its rows in the step.
        rows: usize,
        /// The number given.
        certain: u32,
    },
    /// More accepted rows than a slot has room for.
    #[error("sequence {seq} accepts {accepted} pending rows, but a slot has room for {room}")]
    Accepted {
        /// The sequence.
        seq: usize,
        /// The number given.
        accepted: u32,
        /// Pending rows that a slot has room for.
        room: usize,
    },
    /// More drafts than a slot has room for.
    #[error("sequence {seq} has {drafts} drafts, but a slot has room for {room} pending rows")]
    Drafts {
        /// The sequence.
        seq: usize,
        /// Its rows after the certain ones.
        drafts: usize,
        /// Pending rows that a slot has room for.
        room: usize,
    },
}

impl StepSlots<'_> {
    /// What each sequence does, in order, with a pool of `slots` slots that have room for `room` pending rows.
    ///
    /// # Errors
    /// [`SlotError`] for the first sequence whose bindings are impossible.
    pub fn uses(&self, slots: usize, room: usize) -> Result<Vec<SlotUse>, SlotError> {
        let rows = self.rows()?;
        let pairs = self.slots.chunks_exact(2).zip(self.slot_rows.chunks_exact(2));
        let uses = rows.into_iter().zip(pairs).enumerate().map(|(seq, (rows, (pair, counts)))| {
            let slot = |slot: u32| {
                let found = usize::try_from(slot).ok().filter(|&s| s < slots);
                found.ok_or(SlotError::Slot { seq, slot, slots })
            };
            let (read, write) = (slot(pair[0])?, slot(pair[1])?);
            let (accepted, certain) = (counts[0] as usize, counts[1] as usize);
            let drafts = rows.len().checked_sub(certain);
            let drafts = drafts.ok_or(SlotError::Certain { seq, rows: rows.len(), certain: counts[1] })?;
            if write == 0 {
                return Err(SlotError::Empty { seq });
            }
            if accepted > room {
                return Err(SlotError::Accepted { seq, accepted: counts[0], room });
            }
            if drafts > room {
                return Err(SlotError::Drafts { seq, drafts, room });
            }
            Ok(SlotUse { read, write, accepted, rows, certain })
        });
        let uses = uses.collect::<Result<Vec<_>, _>>()?;
        exclusive(&uses)?;
        Ok(uses)
    }

    /// The rows of each sequence; an empty range for one without rows.
    fn rows(&self) -> Result<Vec<Range<usize>>, SlotError> {
        let seqs = self.slots.len() / 2;
        let mut rows = vec![0..0; seqs];
        for (row, &seq) in self.row_seq.iter().enumerate() {
            let own = rows.get_mut(seq as usize).ok_or(SlotError::Sequence { row, seq, seqs })?;
            if own.start == own.end {
                *own = row..row;
            }
            if own.end != row {
                return Err(SlotError::Apart { seq: seq as usize, row });
            }
            own.end = row + 1;
        }
        Ok(rows)
    }
}

/// Checks that no written slot has another use.
fn exclusive(uses: &[SlotUse]) -> Result<(), SlotError> {
    let mut writers = HashMap::new();
    for (seq, u) in uses.iter().enumerate() {
        if let Some(other) = writers.insert(u.write, seq) {
            return Err(SlotError::Shared { seq, slot: u.write, other });
        }
    }
    let mut reads = uses.iter().enumerate();
    match reads.find_map(|(other, u)| writers.get(&u.read).map(|&seq| (seq, u.read, other))) {
        Some((seq, slot, other)) => Err(SlotError::Shared { seq, slot, other }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(row_seq: &[u32], slots: &[u32], slot_rows: &[u32]) -> Result<Vec<SlotUse>, SlotError> {
        StepSlots { row_seq, slots, slot_rows }.uses(5, 2)
    }

    #[test]
    fn sequences_have_their_rows_and_forks_read_the_same_slot() {
        let found = uses(&[1, 1, 1, 2], &[1, 3, 1, 2, 0, 4], &[2, 0, 0, 1, 0, 1]).unwrap();
        let want = |read, write, accepted, rows, certain| SlotUse { read, write, accepted, rows, certain };
        assert_eq!(found, [want(1, 3, 2, 0..0, 0), want(1, 2, 0, 0..3, 1), want(0, 4, 0, 3..4, 1)]);
    }

    #[test]
    fn impossible_bindings_are_named() {
        let one = |slots: &[u32], counts: &[u32]| uses(&[0, 0, 0, 0], slots, counts).unwrap_err();
        assert_eq!(uses(&[1], &[0, 1], &[0, 1]), Err(SlotError::Sequence { row: 0, seq: 1, seqs: 1 }));
        let apart = uses(&[0, 1, 0], &[0, 1, 0, 2], &[0, 2, 0, 1]);
        assert_eq!(apart, Err(SlotError::Apart { seq: 0, row: 2 }));
        assert_eq!(one(&[5, 1], &[0, 4]), SlotError::Slot { seq: 0, slot: 5, slots: 5 });
        assert_eq!(one(&[0, 9], &[0, 4]), SlotError::Slot { seq: 0, slot: 9, slots: 5 });
        assert_eq!(one(&[1, 0], &[0, 4]), SlotError::Empty { seq: 0 });
        assert_eq!(one(&[1, 1], &[0, 4]), SlotError::Shared { seq: 0, slot: 1, other: 0 });
        assert_eq!(one(&[0, 1], &[0, 5]), SlotError::Certain { seq: 0, rows: 4, certain: 5 });
        assert_eq!(one(&[0, 1], &[3, 4]), SlotError::Accepted { seq: 0, accepted: 3, room: 2 });
        assert_eq!(one(&[0, 1], &[0, 1]), SlotError::Drafts { seq: 0, drafts: 3, room: 2 });
        let shared = |slots: &[u32]| uses(&[0, 1], slots, &[0, 1, 0, 1]);
        assert_eq!(shared(&[0, 1, 0, 1]), Err(SlotError::Shared { seq: 1, slot: 1, other: 0 }));
        assert_eq!(shared(&[0, 1, 1, 2]), Err(SlotError::Shared { seq: 0, slot: 1, other: 1 }));
    }
}
