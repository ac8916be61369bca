//! The shapes that steps are captured for: padded sizes, and groups of sequences whose attention is one call.
//!
//! A captured graph has fixed shapes, so a step runs in the smallest captured shape that holds it. Rows of a sequence are
//! adjacent. Sequences with equally many rows form a group, `[sequences, rows]`; rows, sequences and pages of a single
//! group are rounded up a little, so that few shapes occur. Padding reads position 0 and writes to a page that nothing reads.

use aio_ir::{Dims, Sym};
use smallvec::SmallVec;

/// How the lengths of sequences get into a captured graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Lengths {
    /// A graph for each bucket of lengths: the true lengths are in a mask that the graph computes.
    #[default]
    Bucket,
    /// One graph for all lengths: each replay replaces the attention of every layer.
    Patch,
}

impl Lengths {
    /// Both ways, the default first.
    pub(crate) const ALL: [Lengths; 2] = [Lengths::Bucket, Lengths::Patch];

    /// Its name as a form of steps.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Lengths::Bucket => "bucket",
            Lengths::Patch => "patch",
        }
    }
}

/// Sequences with equally many rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Group {
    /// First row.
    pub start: u32,
    pub sequences: u32,
    /// Rows of each.
    pub rows: u32,
    /// Pages of each that attention reads.
    pub pages: u32,
}

impl Group {
    /// Pages that its attention reads.
    pub(crate) fn all_pages(&self) -> u64 {
        u64::from(self.sequences) * u64::from(self.pages)
    }
}

/// A shape that can be captured.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    pub lengths: Lengths,
    /// Sizes of the captured tensors.
    pub dims: [u32; 7],
    pub groups: SmallVec<[Group; 2]>,
}

/// What a step asks of its shape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StepRows<'a> {
    /// Sequence of each row; empty if the plan has no attention.
    pub row_seq: &'a [u32],
    pub positions: &'a [u32],
    /// Positions in a page.
    pub page: u32,
}

impl StepRows<'_> {
    /// Whether the rows of each sequence are at consecutive positions.
    pub(crate) fn is_consecutive(&self) -> bool {
        let mut rows = self.row_seq.iter().zip(self.positions).peekable();
        while let Some((seq, position)) = rows.next() {
            if rows.peek().is_some_and(|(next, at)| *next == seq && **at != position + 1) {
                return false;
            }
        }
        true
    }
}

/// The limits of a shape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits<'a> {
    /// Rows and outputs of the plan's bucket.
    pub rows: u32,
    pub outs: u32,
    /// Pages of the pool.
    pub pages: u32,
    pub lengths: Lengths,
    /// Whether rows may be added.
    pub pads: bool,
    /// Rows of a single sequence that shapes exist for besides.
    pub sizes: &'a [u32],
}

impl Limits<'_> {
    /// Rows of the shape of a single sequence of `rows` rows.
    fn padded(&self, rows: u32) -> u32 {
        let own = self.sizes.iter().copied().filter(|size| *size >= rows).min();
        own.unwrap_or(u32::MAX).min(rounded(rows, self.rows))
    }
}

/// `n` rounded up so that few sizes occur, at most `most`.
pub(crate) fn rounded(n: u32, most: u32) -> u32 {
    let up = match n {
        0..=16 => n.max(1),
        17..=128 => n.next_multiple_of(16),
        _ => n.next_multiple_of(128),
    };
    up.min(most.max(n))
}

/// Pages of a captured attention for sequences of `pages` pages: rounded up by at most a fifth, to at most `most`.
pub fn rounded_pages(pages: u32, most: u32) -> u32 {
    let mut bucket = 1u32;
    while bucket < pages {
        // Each bucket is a fifth larger than the one before, and at least a page.
        bucket = (bucket + bucket / 5).max(bucket + 1);
    }
    bucket.min(most.max(pages)).max(1)
}

/// Consecutive sequences with equally many rows, as (rows of each, sequences, longest in pages).
fn runs(step: &StepRows<'_>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut start = 0;
    for part in step.row_seq.chunk_by(|a, b| a == b) {
        let (rows, end) = (part.len() as u32, start + part.len());
        let last = step.positions[start..end].iter().copied().max().unwrap_or(0);
        let pages = last / step.page.max(1) + 1;
        match groups.last_mut().filter(|g| g.rows == rows) {
            Some(group) => {
                group.sequences += 1;
                group.pages = group.pages.max(pages);
            }
            None => groups.push(Group { start: start as u32, sequences: 1, rows, pages }),
        }
        start = end;
    }
    groups
}

impl Shape {
    /// The shape for a step, and for each row of the step its row in the shape.
    pub(crate) fn of(dims: &Dims, step: &StepRows<'_>, limits: &Limits<'_>) -> (Shape, Vec<u32>) {
        let mut groups = runs(step);
        let mut sizes = *dims;
        // A graph may have attention of a constant number of rows.
        let mut rows: Vec<u32> = (0..dims.rows.max(step.row_seq.len() as u32)).collect();
        if limits.pads {
            // These size nothing on the device.
            (sizes.seqs, sizes.stride, sizes.recent) = (0, 0, 0);
            sizes.outs = rounded(dims.outs, limits.outs);
            if groups.is_empty() {
                sizes.rows = rounded(dims.rows, limits.rows);
            } else if let Some((group, moved)) = one_group(&groups, limits) {
                (sizes.rows, rows, groups) = (group.sequences * group.rows, moved, vec![group]);
            }
        }
        for group in &mut groups {
            group.pages = match limits.lengths {
                Lengths::Bucket => rounded_pages(group.pages, limits.pages),
                Lengths::Patch => limits.pages.max(1),
            };
        }
        let lengths = limits.lengths;
        let shape = Shape { lengths, dims: Sym::ALL.map(|sym| sizes.get(sym)), groups: groups.into() };
        (shape, rows)
    }

    /// The sizes as dimensions.
    pub(crate) fn sizes(&self) -> Dims {
        let [rows, seqs, pages, stride, outs, recent, slots] = self.dims;
        Dims { rows, seqs, pages, stride, outs, recent, slots }
    }
}

/// All groups as one of the most rows, if the padding fits the bucket.
fn one_group(groups: &[Group], limits: &Limits<'_>) -> Option<(Group, Vec<u32>)> {
    let most = groups.iter().map(|g| g.rows).max()?;
    let sequences: u32 = groups.iter().map(|g| g.sequences).sum();
    let pages = groups.iter().map(|g| g.pages).max()?;
    // Packed rows end with the sequence's last one, so patched lengths admit no padding among them.
    let exact = limits.lengths == Lengths::Patch && most > 1;
    if exact && groups.len() > 1 {
        return None;
    }
    let fits = |rows: u32, sequences: u32| rows.checked_mul(sequences).is_some_and(|n| n <= limits.rows);
    let (mut each, mut all) = (most, sequences);
    if !exact && sequences == 1 {
        each = limits.padded(most);
    }
    if most == 1 && fits(1, rounded(sequences, limits.rows)) {
        all = rounded(sequences, limits.rows);
    }
    if !fits(each, all) {
        return None;
    }
    let mut rows = Vec::new();
    let mut sequence = 0;
    for group in groups {
        for _ in 0..group.sequences {
            rows.extend((0..group.rows).map(|row| sequence * each + row));
            sequence += 1;
        }
    }
    Some((Group { start: 0, sequences: all, rows: each, pages }, rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits<'_> =
        Limits { rows: 64, outs: 17, pages: 300, lengths: Lengths::Bucket, pads: true, sizes: &[] };

    fn shape(counts: &[u32], last: u32, limits: Limits<'_>) -> (Vec<[u32; 4]>, u32, Vec<u32>) {
        let row_seq: Vec<u32> =
            counts.iter().enumerate().flat_map(|(i, &n)| std::iter::repeat_n(i as u32, n as usize)).collect();
        let positions = vec![last; row_seq.len()];
        let dims = Dims { rows: row_seq.len() as u32, outs: 1, ..Dims::default() };
        let step = StepRows { row_seq: &row_seq, positions: &positions, page: 128 };
        let (shape, rows) = Shape::of(&dims, &step, &limits);
        let groups = shape.groups.iter().map(|g| [g.start, g.sequences, g.rows, g.pages]).collect();
        (groups, shape.sizes().rows, rows)
    }

    #[test]
    fn a_single_group_is_rounded_up() {
        assert_eq!(shape(&[5], 0, LIMITS), (vec![[0, 1, 5, 1]], 5, vec![0, 1, 2, 3, 4]));
        let (groups, rows, moved) = shape(&[20], 128, LIMITS);
        assert_eq!((groups, rows, moved.len()), (vec![[0, 1, 32, 2]], 32, 20));
        assert_eq!(shape(&[1; 18], 0, LIMITS).0, [[0, 32, 1, 1]]);
        assert_eq!(shape(&[64], 0, LIMITS).1, 64);
    }

    #[test]
    fn sizes_of_its_own_bound_the_padding() {
        let own = Limits { sizes: &[21, 40], ..LIMITS };
        assert_eq!([19, 21, 22, 33, 40, 41].map(|rows| shape(&[rows], 0, own).1), [21, 21, 32, 40, 40, 48]);
    }

    #[test]
    fn uneven_sequences_are_padded_to_the_most_rows_if_that_fits() {
        assert_eq!(shape(&[1, 3], 0, LIMITS), (vec![[0, 2, 3, 1]], 6, vec![0, 3, 4, 5]));
        let (groups, rows, moved) = shape(&[40, 1, 1], 0, LIMITS);
        assert_eq!(groups, [[0, 1, 40, 1], [40, 2, 1, 1]]);
        assert_eq!((rows, moved), (42, (0..42).collect()));
    }

    #[test]
    fn patched_lengths_pad_no_rows_of_a_sequence() {
        let patch = Limits { lengths: Lengths::Patch, ..LIMITS };
        assert_eq!(shape(&[20], 0, patch).0, [[0, 1, 20, 300]]);
        assert_eq!(shape(&[1, 3], 0, patch).0, [[0, 1, 1, 300], [1, 1, 3, 300]]);
    }

    #[test]
    fn a_bucket_of_lengths_reads_little_in_excess() {
        assert_eq!([1, 2, 5, 6, 9, 10, 13].map(|n| rounded_pages(n, 300)), [1, 2, 5, 6, 9, 10, 14]);
        assert_eq!(rounded_pages(299, 300), 300);
        // Lengths from 256 to 32k, evenly spread over their logarithm.
        let lengths = (0..=700).map(|i| 256.0 * 2f64.powf(f64::from(i) / 100.0));
        let excess = lengths.map(|n| f64::from(128 * rounded_pages((n / 128.0).ceil() as u32, 256)) / n - 1.0);
        let mean = excess.clone().sum::<f64>() / excess.count() as f64;
        assert!(mean <= 0.12, "{mean}");
    }
}
