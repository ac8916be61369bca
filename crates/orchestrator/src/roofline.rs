//! Predicts the time of a step with a roofline, and which term dominates.
//!
//! Pure arithmetic on numbers from a plan and a device profile, after Williams, Waterman and Patterson, "Roofline: an
//! insightful visual performance model" (2009), with separate terms for the KV cache and for submission costs.

use aio_plan::Ceilings;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The traffic and work of a step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepCost {
    /// Bytes read regardless of the rows: the weights.
    pub bytes: f64,
    /// Bytes read and written per row.
    pub bytes_per_row: f64,
    /// Multiply-adds per row.
    pub macs_per_row: f64,
    /// Seconds besides the work: submission, barriers, synchronisation.
    pub seconds: f64,
}

/// The largest term of a step's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Regime {
    /// Launch and synchronisation.
    Launch,
    /// Reading the weights.
    Weight,
    /// Reading keys and values.
    Kv,
    /// Multiply-adds.
    Compute,
}

impl fmt::Display for Regime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Regime::Launch => "launch-bound",
            Regime::Weight => "weight-bound",
            Regime::Kv => "kv-bound",
            Regime::Compute => "compute-bound",
        })
    }
}

/// Seconds of each term.
struct Terms {
    weights: f64,
    kv: f64,
    compute: f64,
}

impl StepCost {
    fn terms(&self, ceilings: &Ceilings, rows: u32, kv_bytes: f64) -> Terms {
        let rows = f64::from(rows);
        Terms {
            weights: (self.bytes + rows * self.bytes_per_row) / ceilings.bandwidth,
            kv: kv_bytes / ceilings.bandwidth,
            compute: rows * self.macs_per_row / ceilings.peak,
        }
    }

    /// Seconds of a step of `rows` rows that reads `kv_bytes` bytes of keys and values, including the fixed part.
    /// Memory and arithmetic overlap only partly. The square root of the sum of squares lies between their maximum and
    /// their sum, and fits the measured steps of 1 to 17 rows (`benches/NOTES.md`, 21). Not clamped: the result is not
    /// finite without a meaningful ceiling.
    pub fn time(&self, ceilings: &Ceilings, rows: u32, kv_bytes: f64) -> f64 {
        let terms = self.terms(ceilings, rows, kv_bytes);
        (terms.weights + terms.kv).hypot(terms.compute) + self.seconds
    }

    /// The dominant term. Arithmetic overlaps with memory; the fixed part dominates if it exceeds both.
    pub fn regime(&self, ceilings: &Ceilings, rows: u32, kv_bytes: f64) -> Regime {
        let Terms { weights, kv, compute } = self.terms(ceilings, rows, kv_bytes);
        if self.seconds > (weights + kv).max(compute) {
            Regime::Launch
        } else if compute > weights + kv {
            Regime::Compute
        } else if kv > weights {
            Regime::Kv
        } else {
            Regime::Weight
        }
    }
}

/// Prediction of step times before any measurement.
#[derive(Clone, Debug, PartialEq)]
pub enum StepModel {
    /// From bytes and operations.
    Roofline(StepCost, Ceilings),
    /// From a table.
    Table {
        /// Rows, in ascending order, and seconds. Interpolated linearly between entries, constant outside them.
        seconds: Vec<(u32, f64)>,
        /// Seconds per byte of keys and values beyond those included in the table.
        seconds_per_kv_byte: f64,
    },
}

impl StepModel {
    /// Seconds of a step; a small positive number if the model has no meaningful value.
    pub fn time(&self, rows: u32, kv_bytes: f64) -> f64 {
        let time = match self {
            StepModel::Roofline(cost, ceilings) => cost.time(ceilings, rows, kv_bytes),
            StepModel::Table { seconds, seconds_per_kv_byte } => {
                look_up(seconds, rows) + kv_bytes * seconds_per_kv_byte
            }
        };
        if time.is_finite() { time.max(1e-9) } else { 1e-9 }
    }
}

fn look_up(table: &[(u32, f64)], rows: u32) -> f64 {
    let above = table.partition_point(|(r, _)| *r < rows);
    match (above.checked_sub(1).map(|i| table[i]), table.get(above)) {
        (Some((r0, t0)), Some(&(r1, t1))) => t0 + (t1 - t0) * f64::from(rows - r0) / f64::from(r1 - r0),
        (Some((_, t)), None) | (None, Some(&(_, t))) => t,
        (None, None) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: StepCost = StepCost { bytes: 80e6, bytes_per_row: 0.0, macs_per_row: 135e6, seconds: 50e-6 };
    const CPU: Ceilings = Ceilings { bandwidth: 28e9, peak: 800e9 };

    #[test]
    fn regimes_are_named_by_the_largest_term() {
        assert_eq!(COST.regime(&CPU, 1, 0.0), Regime::Weight);
        assert_eq!(COST.regime(&CPU, 1, 90e6), Regime::Kv);
        assert_eq!(COST.regime(&CPU, 64, 0.0), Regime::Compute);
        let slow_launch = StepCost { seconds: 10e-3, ..COST };
        assert_eq!(slow_launch.regime(&CPU, 1, 0.0), Regime::Launch);
        assert_eq!(Regime::Kv.to_string(), "kv-bound");
    }

    #[test]
    fn memory_and_arithmetic_overlap_in_part_and_the_rest_adds() {
        let one = COST.time(&CPU, 1, 0.0);
        assert!((one / (80e6 / 28e9 + 50e-6) - 1.0).abs() < 0.01, "{one}");
        assert!(COST.time(&CPU, 4, 0.0) < 1.05 * one, "arithmetic of four rows nearly hides behind the weights");
        let (memory, compute): (f64, f64) = (80e6 / 28e9, 64.0 * 135e6 / 800e9);
        let many = COST.time(&CPU, 64, 0.0) - 50e-6;
        assert!((many - memory.hypot(compute)).abs() < 1e-12, "{many}");
    }

    #[test]
    fn tables_are_read_between_their_rows() {
        let table = StepModel::Table { seconds: vec![(1, 1.0), (3, 2.0), (5, 6.0)], seconds_per_kv_byte: 0.5 };
        let times: Vec<f64> = (1..=6).map(|rows| table.time(rows, 0.0)).collect();
        assert_eq!(times, [1.0, 1.5, 2.0, 4.0, 6.0, 6.0]);
        assert_eq!(table.time(1, 2.0), 2.0);
        let empty = StepModel::Table { seconds: vec![], seconds_per_kv_byte: f64::NAN };
        assert!(empty.time(3, 1.0) > 0.0);
        let broken = StepModel::Roofline(COST, Ceilings { bandwidth: 0.0, peak: 0.0 });
        assert!(broken.time(1, 0.0).is_finite());
    }
}
