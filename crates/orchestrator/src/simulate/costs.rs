//! What steps of a variant cost: a table of step times, and the bytes and operations that say what bounds them.

use crate::roofline::{Ceilings, Regime, StepCost};

/// Step times of a variant by rows, at two numbers of positions.
#[derive(Clone, Debug, PartialEq)]
pub struct StepTable {
    /// Rows in ascending order, seconds without keys and values, seconds for each position that is read.
    rows: Vec<(u32, f64, f64)>,
}

/// What the steps of a variant cost.
#[derive(Clone, Debug, PartialEq)]
pub struct VariantCosts {
    /// Times of steps that compute all their rows at once.
    pub table: StepTable,
    /// Bytes and operations of a step.
    pub cost: StepCost,
    /// Peak rates of the device.
    pub ceilings: Ceilings,
    /// Bytes of keys and values of a position.
    pub kv_bytes: f64,
}

impl StepTable {
    /// A table from steps of several sizes: rows, positions that they read, seconds. For each number of rows it needs two
    /// numbers of positions; `None` if there are none of some rows, or no rows at all.
    pub fn of(steps: &[(u32, u64, f64)]) -> Option<StepTable> {
        let mut sizes: Vec<u32> = steps.iter().map(|s| s.0).collect();
        sizes.sort_unstable();
        sizes.dedup();
        let line = |rows: u32| {
            let own = || steps.iter().filter(move |s| s.0 == rows);
            let (near, far) = (own().min_by_key(|s| s.1)?, own().max_by_key(|s| s.1)?);
            let slope = (far.2 - near.2) / far.1.checked_sub(near.1).filter(|d| *d > 0)? as f64;
            Some((rows, near.2 - slope * near.1 as f64, slope))
        };
        let rows: Vec<_> = sizes.into_iter().map(line).collect::<Option<_>>()?;
        (!rows.is_empty()).then_some(StepTable { rows })
    }

    /// Seconds of a step of `rows` rows that reads `positions` positions. Between the table's rows it is linear; beyond
    /// them, the last two go on.
    pub fn seconds(&self, rows: u32, positions: u64) -> f64 {
        let at = |(_, base, slope): (u32, f64, f64)| base + slope * positions as f64;
        let above = self.rows.partition_point(|r| r.0 < rows).clamp(1, self.rows.len().max(2) - 1);
        let (Some(&low), Some(&high)) = (self.rows.get(above - 1), self.rows.get(above)) else {
            return self.rows.first().map_or(0.0, |only| at(*only));
        };
        if rows <= low.0 {
            return at(low);
        }
        let share = f64::from(rows - low.0) / f64::from(high.0 - low.0);
        at(low) + share * (at(high) - at(low))
    }

    /// Seconds of a step of one row and no context, by rows, as a table for the speculator.
    pub(super) fn column(&self, most: u32) -> Vec<(u32, f64)> {
        (1..=most).map(|rows| (rows, self.seconds(rows, 0))).collect()
    }

    /// Seconds for each position that a step of one row reads.
    pub(super) fn per_position(&self) -> f64 {
        self.rows.first().map_or(0.0, |r| r.2)
    }
}

impl VariantCosts {
    /// What bounds a step that takes `seconds`.
    pub fn regime(&self, rows: u32, positions: u64, seconds: f64) -> Regime {
        let kv = positions as f64 * self.kv_bytes;
        let work = StepCost { seconds: 0.0, ..self.cost };
        let busy = work.longest(&self.ceilings, rows, kv);
        StepCost { seconds: (seconds - busy).max(0.0), ..self.cost }.regime(&self.ceilings, rows, kv)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_linear_between_and_beyond_their_rows() {
        let steps = [(1, 0, 1.0), (1, 100, 2.0), (8, 0, 2.0), (8, 100, 4.0), (16, 10, 4.0), (16, 110, 6.0)];
        let table = StepTable::of(&steps).unwrap();
        let at = |rows, positions| table.seconds(rows, positions);
        assert_eq!([at(0, 0), at(1, 50), at(8, 100), at(12, 0), at(24, 0)], [1.0, 1.5, 4.0, 2.9, 5.6].map(|x: f64| x));
        assert!(StepTable::of(&[(1, 5, 1.0)]).is_none() && StepTable::of(&[]).is_none());
        let one = StepTable::of(&steps[..2]).unwrap();
        assert_eq!((one.seconds(5, 100), one.per_position()), (2.0, 0.01));
    }

    #[test]
    fn what_work_does_not_explain_is_launching() {
        let cost = StepCost { bytes: 1e9, bytes_per_row: 0.0, macs_per_row: 1e9, seconds: 0.0 };
        let ceilings = Ceilings { bandwidth: 1e12, peak: 1e14 };
        let table = StepTable::of(&[(1, 0, 1.0), (1, 1, 1.0)]).unwrap();
        let costs = VariantCosts { table, cost, ceilings, kv_bytes: 1e5 };
        assert_eq!(costs.regime(1, 100, 1.5e-3), Regime::Weight);
        assert_eq!(costs.regime(1, 100, 3e-3), Regime::Launch);
        assert_eq!(costs.regime(1, 100_000, 11e-3), Regime::Kv);
        assert_eq!(costs.regime(512, 100, 6e-3), Regime::Compute);
    }
}
