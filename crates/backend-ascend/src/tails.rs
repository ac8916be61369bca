//! Keeps what is past a sequence's length in its last page finite. Called by each step, and for copied pages.
//!
//! Attention of a bucket reads the whole page and gives hidden positions weight 0, and 0 times NaN is NaN. Such values
//! come from rows of a broken model: those of another sequence that had the page before, of drafts that were rejected,
//! of the sequence that a page was copied from. So positions whose values nobody has seen are noted, and set to zero
//! before a step reads past its own row there. Rows whose every result was a token are finite all the way.

use crate::shape::StepRows;
use smallvec::SmallVec;

/// The rows of a sequence in one page: those of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub page: u32,
    /// The first and one past the last position in the page.
    pub from: u32,
    pub to: u32,
}

/// The pages that the rows of a step lie in. `table` has `stride` pages of each sequence.
pub(crate) fn written(step: &StepRows<'_>, table: &[u32], stride: usize) -> SmallVec<[Written; 4]> {
    let mut all: SmallVec<[Written; 4]> = SmallVec::new();
    for (&sequence, &position) in step.row_seq.iter().zip(step.positions) {
        let (entry, at) = (sequence as usize * stride + (position / step.page) as usize, position % step.page);
        let Some(&page) = table.get(entry) else { continue };
        match all.last_mut().filter(|last| last.page == page) {
            Some(last) => (last.from, last.to) = (last.from.min(at), last.to.max(at + 1)),
            None => all.push(Written { page, from: at, to: at + 1 }),
        }
    }
    all
}

/// For each page, one past the last position that may not be finite.
#[derive(Debug, Default)]
pub(crate) struct Tails {
    doubtful: Vec<u32>,
}

impl Tails {
    /// Pages of zeros.
    pub(crate) fn new(pages: u32) -> Tails {
        Tails { doubtful: vec![0; pages as usize] }
    }

    /// The positions of the page that must be cleared before rows are written there and attention reads the page: a range,
    /// empty if there are none. They count as cleared from now on.
    pub(crate) fn clear(&mut self, rows: Written) -> std::ops::Range<u32> {
        let Some(doubtful) = self.doubtful.get_mut(rows.page as usize) else { return 0..0 };
        if *doubtful <= rows.to {
            return 0..0;
        }
        // A page that begins anew is cleared as a whole, which is one block of memory.
        let from = if rows.from == 0 { 0 } else { rows.to };
        from..std::mem::replace(doubtful, from)
    }

    /// Notes rows that were written. They are finite if all of them had tokens.
    pub(crate) fn wrote(&mut self, all: &[Written], finite: bool) {
        for rows in all.iter().filter(|_| !finite) {
            if let Some(doubtful) = self.doubtful.get_mut(rows.page as usize) {
                *doubtful = (*doubtful).max(rows.to);
            }
        }
    }

    /// Notes that a page was copied.
    pub(crate) fn copied(&mut self, from: u32, to: u32) {
        if let Some(&doubtful) = self.doubtful.get(from as usize)
            && let Some(target) = self.doubtful.get_mut(to as usize)
        {
            *target = doubtful;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(from: u32, to: u32) -> Written {
        Written { page: 1, from, to }
    }

    #[test]
    fn only_what_is_past_the_rows_and_in_doubt_is_cleared() {
        let mut tails = Tails::new(3);
        tails.wrote(&[rows(0, 90)], false);
        assert_eq!(tails.clear(rows(90, 91)), 0..0, "the sequence goes on");
        tails.wrote(&[rows(90, 94)], true);
        assert_eq!(tails.clear(rows(91, 92)), 0..0, "rejected drafts that had tokens");
        assert_eq!(tails.clear(rows(10, 12)), 12..90, "cut back");
        tails.copied(1, 2);
        assert_eq!(tails.clear(Written { page: 2, from: 5, to: 6 }), 6..12);
        tails.wrote(&[rows(12, 40)], false);
        assert_eq!(tails.clear(rows(0, 3)), 0..40, "another sequence");
        assert_eq!(tails.clear(rows(0, 3)), 0..0);
        assert_eq!(tails.clear(Written { page: 9, from: 0, to: 1 }), 0..0, "a page that the pool lacks");
    }
}
