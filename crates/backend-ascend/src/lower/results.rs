//! What a step fetches from the device, in one block.

use crate::view::{Elem, View};
use aio_plan::Loc;
use std::ops::Range;

const ALIGNMENT: usize = 64;

/// Where the host finds a value after the step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    /// Elements as the device wrote them.
    Elements { elem: Elem, range: Range<usize> },
    /// The best token of each row: its logit and its index. A logit that is no number or infinite means no token.
    Best { logits: Elem, values: Range<usize>, index: Range<usize> },
}

/// The block that a step fetches.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub sources: Vec<(Loc, Source)>,
    pub bytes: usize,
    base: u64,
}

impl Results {
    pub(super) fn at(base: u64) -> Results {
        Results { base, ..Results::default() }
    }

    fn take(&mut self, elem: Elem, dims: impl IntoIterator<Item = i64>) -> (View, Range<usize>) {
        let view = View::dense(self.base + self.bytes as u64, elem, dims);
        let range = self.bytes..self.bytes + view.bytes();
        self.bytes = range.end.next_multiple_of(ALIGNMENT);
        (view, range)
    }

    /// The place of a value that the host reads.
    pub(super) fn tensor(&mut self, loc: Loc, elem: Elem, dims: impl IntoIterator<Item = i64>) -> View {
        let (view, range) = self.take(elem, dims);
        self.sources.push((loc, Source::Elements { elem, range }));
        view
    }

    /// The places of the largest logit of each row, and of its index.
    pub(super) fn best(&mut self, loc: Loc, elem: Elem, rows: i64) -> (View, View) {
        let ((value, values), (place, index)) = (self.take(elem, [rows]), self.take(Elem::I32, [rows]));
        self.sources.push((loc, Source::Best { logits: elem, values, index }));
        (value, place)
    }
}
