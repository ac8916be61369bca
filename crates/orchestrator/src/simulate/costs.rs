//! What steps of a variant cost: a table of step times, and the bytes and operations that say what bounds them.

use crate::regimes::StepWork;
use crate::roofline::Regime;

/// A number by rows, in ascending order. Linear between its rows, and beyond them as between the last two.
#[derive(Clone, Debug, PartialEq)]
struct ByRows(Vec<(u32, f64)>);

impl ByRows {
    fn new(mut values: Vec<(u32, f64)>) -> ByRows {
        values.sort_by_key(|v| v.0);
        values.dedup_by_key(|v| v.0);
        ByRows(values)
    }

    fn at(&self, rows: u32) -> f64 {
        let values = &self.0;
        let above = values.partition_point(|v| v.0 < rows).clamp(1, values.len().max(2) - 1);
        match (values.get(above - 1), values.get(above)) {
            (Some(low), Some(high)) if rows > low.0 => {
                low.1 + f64::from(rows - low.0) / f64::from(high.0 - low.0) * (high.1 - low.1)
            }
            (Some(only), _) => only.1,
            (None, _) => 0.0,
        }
    }
}

/// Step times of a variant: what all rows take, and what attention takes for each sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct StepTable {
    rows: ByRows,
    positions: ByRows,
    /// Seconds that a step takes at least, and more for each position.
    least: (f64, f64),
    /// How lengths get into graphs, where they are part of a captured one.
    lengths: Option<CapturedLengths>,
}

/// How the lengths of sequences get into captured graphs: each step in the cheaper of two ways.
#[derive(Clone, Copy, Debug)]
pub struct CapturedLengths {
    /// Positions for which a graph is captured, at least as many as given. Sequences with equally many rows are read as
    /// far as the longest of them.
    pub bucket: fn(u32) -> u32,
    /// Seconds that the true lengths take instead.
    pub patch: f64,
}

impl PartialEq for CapturedLengths {
    fn eq(&self, other: &CapturedLengths) -> bool {
        std::ptr::fn_addr_eq(self.bucket, other.bucket) && self.patch == other.patch
    }
}

/// Rows of a sequence in a step, and the positions that they see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceRows {
    /// Its rows.
    pub rows: u32,
    /// Its positions, those rows included.
    pub len: u32,
}

impl SequenceRows {
    /// Positions that a row sees, on average.
    fn seen(self) -> f64 {
        f64::from(self.len) - f64::from(self.rows.saturating_sub(1)) / 2.0
    }
}

/// A step that was timed: sequences with equally many rows and positions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimedStep {
    /// Number of sequences.
    pub sequences: u32,
    /// Each of them.
    pub each: SequenceRows,
    /// What it took.
    pub seconds: f64,
}

impl StepTable {
    /// A table from timed steps: for each number of rows that a sequence has in one of them, two with one sequence and
    /// different positions; and any others, which tell what more rows take. `None` if there are too few.
    pub fn of(steps: &[TimedStep]) -> Option<StepTable> {
        let single = || steps.iter().filter(|s| s.sequences == 1);
        let slope = |rows: u32| {
            let own = || single().filter(move |s| s.each.rows == rows);
            let (near, far) = (own().min_by_key(|s| s.each.len)?, own().max_by_key(|s| s.each.len)?);
            let more = far.each.len.checked_sub(near.each.len).filter(|n| *n > 0)?;
            Some((rows, ((far.seconds - near.seconds) / f64::from(more)).max(0.0)))
        };
        let slopes: Vec<_> = single().map(|s| s.each.rows).filter_map(slope).collect();
        let positions = ByRows::new(slopes);
        let base = |s: &TimedStep| {
            let attention = f64::from(s.sequences) * s.each.seen() * positions.at(s.each.rows);
            (s.sequences * s.each.rows, (s.seconds - attention).max(0.0))
        };
        // Of steps with as many rows, the shortest context tells most of what is no attention.
        let mut known: Vec<&TimedStep> = steps.iter().collect();
        known.sort_by_key(|s| s.each.len);
        let rows = ByRows::new(known.into_iter().map(base).collect());
        (!rows.0.is_empty() && !positions.0.is_empty()).then_some(StepTable {
            rows,
            positions,
            least: (0.0, 0.0),
            lengths: None,
        })
    }

    /// The table for a host that takes at least `seconds` to launch a step, and `per_position` more for each position.
    pub fn at_least(self, seconds: f64, per_position: f64) -> StepTable {
        StepTable { least: (seconds, per_position), ..self }
    }

    /// The table for steps whose graphs are captured with the lengths of sequences.
    pub fn captured(self, lengths: CapturedLengths) -> StepTable {
        StepTable { lengths: Some(lengths), ..self }
    }

    /// Seconds of all sequences' attention.
    fn attentions(&self, sequences: &[SequenceRows]) -> f64 {
        let exact = sequences.iter().map(|s| self.attention(*s)).sum::<f64>();
        let Some(CapturedLengths { bucket, patch }) = self.lengths else { return exact };
        let longest = |rows: u32| sequences.iter().filter(|s| s.rows == rows).map(|s| s.len).max().unwrap_or(0);
        let padded = |s: &SequenceRows| self.attention(SequenceRows { len: bucket(longest(s.rows)), ..*s });
        f64::min(exact + patch, sequences.iter().map(padded).sum())
    }

    /// Seconds of a step of these sequences.
    pub fn seconds(&self, sequences: &[SequenceRows]) -> f64 {
        let rows = sequences.iter().map(|s| s.rows).sum();
        let device = self.rows.at(rows) + self.attentions(sequences);
        let positions: f64 = sequences.iter().map(|s| f64::from(s.len)).sum();
        device.max(self.least.0 + self.least.1 * positions)
    }

    /// Seconds of a sequence's attention.
    fn attention(&self, sequence: SequenceRows) -> f64 {
        sequence.seen() * self.positions.at(sequence.rows)
    }

    /// Seconds of steps without context, by rows, as a table for the speculator.
    pub(super) fn column(&self, most: u32) -> Vec<(u32, f64)> {
        (1..=most).map(|rows| (rows, self.rows.at(rows).max(self.least.0))).collect()
    }

    /// Seconds for each position that a row sees.
    pub(super) fn per_position(&self) -> f64 {
        if self.rows.at(1) > self.least.0 { self.positions.at(1) } else { self.least.1 }
    }
}

/// What the steps of a variant cost.
#[derive(Clone, Debug, PartialEq)]
pub struct VariantCosts {
    /// Times of steps that compute all their rows at once.
    pub table: StepTable,
    /// What they read and compute.
    pub work: StepWork,
}

impl VariantCosts {
    /// What bounds a step that takes `seconds`. What neither memory nor arithmetic explains is launching.
    pub fn regime(&self, sequences: &[SequenceRows], seconds: f64) -> Regime {
        let sum = |each: &dyn Fn(&SequenceRows) -> f64| sequences.iter().map(each).sum::<f64>();
        let (rows, positions) = (sum(&|s| f64::from(s.rows)), sum(&|s| f64::from(s.len)));
        let seen = sum(&|s| f64::from(s.rows) * s.seen()) / rows.max(1.0);
        self.work.regime_of(rows, positions, seen, seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roofline::StepCost;
    use aio_plan::Ceilings;

    fn step(sequences: u32, rows: u32, len: u32, seconds: f64) -> TimedStep {
        TimedStep { sequences, each: SequenceRows { rows, len }, seconds }
    }

    #[test]
    fn rows_and_attention_add_up() {
        // A row takes 1, each further one 0.1; a position that is seen 0.01 for one row, 0.02 for eight.
        let steps = [
            step(1, 1, 10, 1.1),
            step(1, 1, 110, 2.1),
            step(1, 8, 10, 1.83),
            step(1, 8, 110, 3.83),
            step(4, 1, 10, 1.7),
        ];
        let table = StepTable::of(&steps).unwrap();
        let at = |sequences: &[(u32, u32)]| {
            table.seconds(&sequences.iter().map(|&(rows, len)| SequenceRows { rows, len }).collect::<Vec<_>>())
        };
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        near(at(&[(1, 50)]), 1.5);
        near(at(&[(1, 50), (1, 100)]), 1.1 + 1.5);
        near(at(&[(8, 100), (1, 100)]), 1.8 + 1.93 + 1.0);
        near(at(&[(15, 100)]), 2.4 + 2.79);
        near(at(&[]), 1.0);
        near(table.per_position(), 0.01);
        let slow = table.clone().at_least(3.0, 0.001);
        near(slow.seconds(&[SequenceRows { rows: 1, len: 100 }]), 3.1);
        near(slow.seconds(&[SequenceRows { rows: 8, len: 100 }]), 3.63);
        let captured = table.captured(CapturedLengths { bucket: |len| len.next_multiple_of(100), patch: 0.7 });
        let at = |sequences: &[(u32, u32)]| {
            captured.seconds(&sequences.iter().map(|&(rows, len)| SequenceRows { rows, len }).collect::<Vec<_>>())
        };
        near(at(&[(1, 50)]), 1.0 + 1.0);
        near(at(&[(1, 150), (1, 250)]), 1.1 + 4.7);
        near(at(&[(1, 290), (1, 250)]), 1.1 + 6.0);
        near(at(&[(1, 10), (8, 90)]), 1.8 + 0.1 + 1.73 + 0.7);
        assert!(StepTable::of(&[step(1, 1, 5, 1.0)]).is_none() && StepTable::of(&[]).is_none());
    }

    #[test]
    fn what_work_does_not_explain_is_launching() {
        let cost = StepCost { bytes: 1e9, bytes_per_row: 0.0, macs_per_row: 1e9, seconds: 0.0 };
        let ceilings = Ceilings { bandwidth: 1e12, peak: 1e14 };
        let table = StepTable::of(&[step(1, 1, 0, 1.0), step(1, 1, 1, 1.0)]).unwrap();
        let costs = VariantCosts { table, work: StepWork { cost, ceilings, kv_bytes: 1e5, kv_macs: 1e5 } };
        let regime = |rows, len, seconds| costs.regime(&[SequenceRows { rows, len }], seconds);
        assert_eq!(regime(1, 100, 1.5e-3), Regime::Weight);
        assert_eq!(regime(1, 100, 3e-3), Regime::Launch);
        assert_eq!(regime(1, 100_000, 11e-3), Regime::Kv);
        assert_eq!(regime(512, 100, 6e-3), Regime::Compute);
        assert_eq!(regime(512, 50_000, 30e-3), Regime::Compute, "attention counts");
    }
}
