//! The slots that the sequences of a case use, step by step, as an engine would bind them.
//!
//! Each sequence alternates between two slots. Every fifth step, sequence 1 continues from sequence 0's slot, as a fork
//! does. How many rows are drafts, and how many of them are accepted, varies from step to step.

use crate::{Case, CaseStep};

/// Pending rows that the slots of cases have room for.
pub(crate) const ROOM: u32 = 3;

/// A number below `limit` that varies with the step and the sequence.
fn varied(index: usize, seq: u32, limit: u32) -> u32 {
    let mixed = (index as u32 * 2 + seq + 1).wrapping_mul(0x9e37_79b9);
    (mixed >> 16) % limit
}

/// Rows of a sequence that are drafts in a step.
fn drafts(step: &CaseStep, index: usize, seq: u32) -> u32 {
    let rows = step.row_seq.iter().filter(|&&s| s == seq).count() as u32;
    varied(index, seq, rows.min(ROOM) + 1)
}

/// The sequence whose last slot a sequence reads.
fn source(index: usize, seq: u32) -> u32 {
    if index % 5 == 4 { 0 } else { seq }
}

/// The slot that a sequence writes in a step.
fn written(index: usize, seq: u32) -> u32 {
    1 + 2 * seq + index as u32 % 2
}

/// The input `slots`: for each sequence the slot it reads and the slot it writes.
pub(crate) fn slots(index: usize) -> Vec<u32> {
    let read = |seq| index.checked_sub(1).map_or(0, |before| written(before, source(index, seq)));
    (0..2).flat_map(|seq| [read(seq), written(index, seq)]).collect()
}

/// The input `slot_rows`: for each sequence its accepted rows and its certain rows.
pub(crate) fn slot_rows(case: &Case, index: usize) -> Vec<u32> {
    let accepted = |seq| {
        let pending = index.checked_sub(1).map_or(0, |i| drafts(&case.steps[i], i, source(index, seq)));
        varied(index, seq + 2, pending + 1)
    };
    let step = &case.steps[index];
    let rows = |seq| step.row_seq.iter().filter(|&&s| s == seq).count() as u32;
    (0..2).flat_map(|seq| [accepted(seq), rows(seq) - drafts(step, index, seq)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{POOL_SLOTS, matching};
    use aio_ir::slots::StepSlots;

    #[test]
    fn steps_use_slots_as_an_engine_would() {
        let (mut accepted, mut drafts) = (0, 0);
        for case in matching("op-delta_rule") {
            for (i, step) in case.steps.iter().enumerate() {
                let (slots, slot_rows) = (slots(i), slot_rows(&case, i));
                let bound = StepSlots { row_seq: &step.row_seq, slots: &slots, slot_rows: &slot_rows };
                let uses = bound.uses(POOL_SLOTS as usize, ROOM as usize).unwrap();
                accepted += uses.iter().map(|u| u.accepted).sum::<usize>();
                drafts += uses.iter().map(|u| u.rows.len() - u.certain).sum::<usize>();
            }
        }
        assert!(0 < accepted && accepted < drafts, "{accepted} of {drafts}");
    }
}
