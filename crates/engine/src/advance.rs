//! How a step advances the recurrent state of its sequences: the slots that it reads and writes, and what is accepted.
//!
//! Used by `run_step.rs`. For a model without recurrent state nothing is computed.

use crate::EngineError;
use crate::pools::{Pools, Recurrence};
use crate::recurrent::{Advance, Kept};
use crate::slots::Slots;
use crate::step::Step;
use smallvec::SmallVec;
use std::sync::Arc;

/// One for each sequence of a step; empty without recurrent state.
pub(crate) type Advances = SmallVec<[Advance; 4]>;

/// The rows of a sequence in a step.
#[derive(Clone, Copy, Debug)]
struct Rows {
    /// Position of the first one.
    first: usize,
    count: usize,
}

impl Step<'_, '_> {
    /// Takes a slot for each sequence and says how it is used. Snapshots of the sequences are dropped if slots are
    /// short.
    ///
    /// # Errors
    /// [`EngineError::NotNext`], [`EngineError::Spans`], [`EngineError::Drafts`], [`EngineError::SlotsFull`].
    pub(crate) fn advance(&mut self, pools: &Pools) -> Result<Advances, EngineError> {
        let Some(slots) = &pools.slots else { return Ok(Advances::new()) };
        let counts = self.rows_of_sequences()?;
        let certain = self.certain_rows(&counts, slots.room)?;
        let taken = self.take_slots(slots)?;
        let each = self.sequences.iter().zip(counts).zip(certain).zip(taken);
        let advance = each.map(|(((sequence, rows), certain), slot)| {
            let source = sequence.source(rows.first)?;
            let next = Kept { slot: Some(slot), at: rows.first + certain, pending: rows.count - certain };
            Ok(Advance { read: source.index(), accepted: rows.first - source.at, certain, next })
        });
        advance.collect()
    }

    /// Keeps what the step has written, until lengths are committed.
    pub(crate) fn stage(&mut self, pools: &Arc<Pools>, advances: Advances) {
        for (sequence, advance) in self.sequences.iter_mut().zip(advances) {
            sequence.stage(pools, advance.next);
        }
    }

    fn rows_of_sequences(&self) -> Result<SmallVec<[Rows; 8]>, EngineError> {
        let mut all: SmallVec<[Rows; 8]> =
            self.sequences.iter().map(|sequence| Rows { first: sequence.len(), count: 0 }).collect();
        for row in self.rows {
            let Rows { first, count } = &mut all[row.sequence];
            if *count == 0 {
                *first = row.position;
            }
            if row.position != *first + *count {
                return Err(EngineError::NotNext { position: row.position, expected: *first + *count });
            }
            *count += 1;
        }
        Ok(all)
    }

    /// The rows of each sequence that belong to it regardless of drafts: all of them in a step without drafts.
    fn certain_rows(&self, counts: &[Rows], room: usize) -> Result<SmallVec<[usize; 8]>, EngineError> {
        if self.drafts.is_empty() {
            return Ok(counts.iter().map(|rows| rows.count).collect());
        }
        let outs = self.outs();
        let each = self.drafts.iter().zip(counts).map(|(span, rows)| {
            let certain = span.len.checked_sub(rows.first).filter(|&certain| certain <= rows.count);
            let certain = certain.ok_or(EngineError::Spans { spans: self.drafts.len(), outs })?;
            let drafts = rows.count - certain;
            if drafts > room { Err(EngineError::Drafts { drafts, room }) } else { Ok(certain) }
        });
        each.collect()
    }

    fn take_slots(&mut self, slots: &Recurrence) -> Result<Slots, EngineError> {
        let count = self.sequences.len();
        loop {
            match slots.pool.take(count) {
                Err(full) if !self.sequences.iter_mut().any(|s| s.drop_snapshot()) => return Err(full),
                Err(_) => {}
                taken => return taken,
            }
        }
    }
}
