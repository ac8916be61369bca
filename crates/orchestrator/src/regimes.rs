//! What bounds a step, over context and batch: regimes, the boundaries between them as numbers, predicted times, and the
//! drafts that pay there.
//!
//! Pure arithmetic on a model's work and a device's ceilings. Each term is linear in the context and in the batch, so
//! boundaries are solved, not searched. Used by `aio regime` and by the simulator of traces.

use crate::roofline::{Regime, StepCost};
use aio_plan::Ceilings;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What the steps of a model read and compute on a device.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepWork {
    /// Bytes and operations besides those of attention.
    pub cost: StepCost,
    /// Peak rates of the device.
    pub ceilings: Ceilings,
    /// Bytes of keys and values of a position.
    pub kv_bytes: f64,
    /// Multiply-adds of a row for each position that it sees.
    pub kv_macs: f64,
}

/// Seconds that a model predicts; measured ones are [`StepTime`](crate::StepTime).
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Predicted(pub f64);

impl fmt::Display for Predicted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} ms predicted", self.0 * 1e3)
    }
}

/// Where one regime becomes another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Boundary {
    /// Positions of the context, or sequences of the batch.
    pub at: f64,
    /// The regime below.
    pub from: Regime,
    /// The regime above.
    pub to: Regime,
}

/// A step: sequences with equally many rows, each seeing equally many positions.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    sequences: f64,
    rows: f64,
    context: f64,
}

/// Seconds of each term.
#[derive(Clone, Copy, Debug)]
struct Terms {
    launch: f64,
    weights: f64,
    kv: f64,
    compute: f64,
}

impl Terms {
    fn memory(&self) -> f64 {
        self.weights + self.kv
    }

    fn regime(&self) -> Regime {
        if self.launch > self.memory().max(self.compute) {
            Regime::Launch
        } else if self.compute > self.memory() {
            Regime::Compute
        } else if self.kv > self.weights {
            Regime::Kv
        } else {
            Regime::Weight
        }
    }
}

impl StepWork {
    fn terms(&self, at: Point) -> Terms {
        let StepWork { cost, ceilings, kv_bytes, kv_macs } = *self;
        let rows = at.sequences * at.rows;
        Terms {
            launch: cost.seconds,
            weights: (cost.bytes + rows * cost.bytes_per_row) / ceilings.bandwidth,
            kv: at.sequences * at.context * kv_bytes / ceilings.bandwidth,
            compute: rows * (cost.macs_per_row + at.context * kv_macs) / ceilings.peak,
        }
    }

    /// Predicted seconds of a step of `batch` sequences of `rows` rows each that see `context` positions. Memory and
    /// arithmetic overlap in part, as in [`StepCost::time`]. Not clamped: without meaningful ceilings it is not finite.
    pub fn predict(&self, batch: u32, rows: u32, context: f64) -> Predicted {
        let [launch, weights, kv, compute] = self.seconds(batch.into(), rows.into(), context);
        Predicted((weights + kv).hypot(compute) + launch)
    }

    /// Seconds of launching, of weights, of keys and values, and of arithmetic, in a step of `sequences` sequences with
    /// `rows` rows each on average.
    pub(crate) fn seconds(&self, sequences: f64, rows: f64, context: f64) -> [f64; 4] {
        let Terms { launch, weights, kv, compute } = self.terms(Point { sequences, rows, context });
        [launch, weights, kv, compute]
    }

    /// The same with the arithmetic of weights and that of attention apart: seconds of launching, of weights, of keys and
    /// values, of arithmetic with weights, and of attention.
    pub(crate) fn parts(&self, sequences: f64, rows: f64, context: f64) -> [f64; 5] {
        let [launch, weights, kv, compute] = self.seconds(sequences, rows, context);
        let attention = sequences * rows * context * self.kv_macs / self.ceilings.peak;
        [launch, weights, kv, compute - attention, attention]
    }

    /// What bounds a decode step of `batch` sequences of `context` positions.
    pub fn regime(&self, batch: u32, context: f64) -> Regime {
        self.terms(Point { sequences: batch.into(), rows: 1.0, context }).regime()
    }

    /// What bounds a step that takes `seconds`, where sequences have together `rows` rows and `positions` positions, and
    /// rows see `seen` positions on average. What neither memory nor arithmetic explains is launching.
    pub(crate) fn regime_of(&self, rows: f64, positions: f64, seen: f64, seconds: f64) -> Regime {
        let StepWork { cost, ceilings, kv_bytes, kv_macs } = *self;
        let work = Terms {
            launch: 0.0,
            weights: (cost.bytes + rows * cost.bytes_per_row) / ceilings.bandwidth,
            kv: positions * kv_bytes / ceilings.bandwidth,
            compute: rows * (cost.macs_per_row + seen * kv_macs) / ceilings.peak,
        };
        Terms { launch: seconds - work.memory().max(work.compute), ..work }.regime()
    }

    /// Boundaries of regimes for decode steps of `batch` sequences, as the context grows to `most` positions.
    pub fn along_context(&self, batch: u32, most: f64) -> Vec<Boundary> {
        self.boundaries(most, |context| Point { sequences: batch.into(), rows: 1.0, context })
    }

    /// The same at `context` positions, as the batch grows to `most` sequences.
    pub fn along_batch(&self, context: f64, most: f64) -> Vec<Boundary> {
        self.boundaries(most, |sequences| Point { sequences, rows: 1.0, context })
    }

    /// The number of positions at which keys and values of `batch` sequences take as long to read as the weights.
    pub fn context_of_weights(&self, batch: u32) -> f64 {
        let batch = f64::from(batch);
        (self.cost.bytes + batch * self.cost.bytes_per_row) / (batch * self.kv_bytes)
    }

    /// Boundaries along a line of points, on which each term is linear.
    fn boundaries(&self, most: f64, point: impl Fn(f64) -> Point) -> Vec<Boundary> {
        let (start, end) = (self.terms(point(0.0)), self.terms(point(most)));
        let pairs: [fn(&Terms) -> f64; 4] =
            [|t| t.kv - t.weights, |t| t.compute - t.memory(), |t| t.launch - t.memory(), |t| t.launch - t.compute];
        let crossing = |difference: &fn(&Terms) -> f64| {
            let (a, b) = (difference(&start), difference(&end));
            (a * b < 0.0).then(|| most * a / (a - b))
        };
        let mut at: Vec<f64> = pairs.iter().filter_map(crossing).filter(|x| x.is_finite()).collect();
        at.sort_by(f64::total_cmp);
        let regime = |x: f64| self.terms(point(x)).regime();
        let between = |i: usize| {
            let before = if i == 0 { 0.0 } else { at[i - 1] };
            regime((before + at.get(i).copied().unwrap_or(most)) / 2.0)
        };
        let steps = (0..at.len()).map(|i| Boundary { at: at[i], from: between(i), to: between(i + 1) });
        steps.filter(|b| b.from != b.to).collect()
    }

    /// The number of drafts of each sequence, at most `most`, that makes the most tokens of a second if each draft is
    /// accepted with this chance after accepted ones; and these tokens per second.
    pub fn drafts(&self, batch: u32, context: f64, acceptance: f64, most: u32) -> (u32, f64) {
        let mut best = (0, 0.0);
        let (mut tokens, mut survival) = (0.0, 1.0);
        for drafts in 0..=most {
            tokens += survival;
            survival *= acceptance;
            let Predicted(seconds) = self.predict(batch, drafts + 1, context);
            let rate = f64::from(batch) * tokens / seconds;
            if rate > best.1 {
                best = (drafts, rate);
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The default model on a small processor: 96.58 MB of weights, 23 KB a position.
    const WORK: StepWork = StepWork {
        cost: StepCost { bytes: 96.58e6, bytes_per_row: 0.0, macs_per_row: 134e6, seconds: 50e-6 },
        ceilings: Ceilings { bandwidth: 21.5e9, peak: 233e9 },
        kv_bytes: 23_040.0,
        kv_macs: 34_560.0,
    };

    #[test]
    fn boundaries_are_where_terms_are_equal() {
        let context = WORK.along_context(1, 16_384.0);
        assert_eq!(context.len(), 1, "{context:?}");
        assert_eq!((context[0].from, context[0].to), (Regime::Weight, Regime::Kv));
        assert!((context[0].at - 4191.8).abs() < 0.1 && (context[0].at - WORK.context_of_weights(1)).abs() < 1e-6);
        let batch = WORK.along_batch(0.0, 64.0);
        assert_eq!((batch.len(), batch[0].from, batch[0].to), (1, Regime::Weight, Regime::Compute));
        let rows = 96.58e6 / 21.5e9 / (134e6 / 233e9);
        assert!((batch[0].at - rows).abs() < 1e-9, "{batch:?}");
        assert!((WORK.context_of_weights(4) * 4.0 - WORK.context_of_weights(1)).abs() < 1e-6);
    }

    #[test]
    fn boundaries_agree_with_the_regimes_on_both_sides() {
        let slow = StepWork { cost: StepCost { seconds: 8e-3, ..WORK.cost }, ..WORK };
        for work in [WORK, slow] {
            for batch in [1, 2, 8, 32] {
                for b in work.along_context(batch, 40_000.0) {
                    assert_eq!(work.regime(batch, b.at - 1e-3), b.from, "{b:?}");
                    assert_eq!(work.regime(batch, b.at + 1e-3), b.to, "{b:?}");
                }
                let seen: Vec<Regime> = (0..400).map(|i| work.regime(batch, f64::from(i) * 100.0)).collect();
                let changes = seen.windows(2).filter(|w| w[0] != w[1]).count();
                assert_eq!(changes, work.along_context(batch, 39_900.0).len(), "batch {batch}");
            }
        }
        assert_eq!(slow.regime(1, 0.0), Regime::Launch);
    }

    #[test]
    fn more_bandwidth_is_never_slower_and_acceptance_never_shortens_drafts() {
        for batch in [1, 4] {
            for context in [0.0, 4000.0] {
                let times = [1.0, 2.0, 4.0].map(|factor| {
                    let ceilings = Ceilings { bandwidth: WORK.ceilings.bandwidth * factor, ..WORK.ceilings };
                    StepWork { ceilings, ..WORK }.predict(batch, 3, context)
                });
                assert!(times[0] > times[1] && times[1] > times[2]);
                let drafts: Vec<u32> =
                    (0..=20).map(|a| WORK.drafts(batch, context, f64::from(a) / 20.0, 16).0).collect();
                assert!(drafts.windows(2).all(|w| w[0] <= w[1]), "{drafts:?}");
                assert_eq!(drafts[0], 0);
                assert!(drafts[19] > 3);
            }
        }
    }

    #[test]
    fn nothing_is_clamped() {
        let broken = StepWork { ceilings: Ceilings { bandwidth: 0.0, peak: 0.0 }, ..WORK };
        assert!(!broken.predict(1, 1, 100.0).0.is_finite());
        assert!(broken.along_context(1, 1000.0).is_empty());
        assert_eq!(WORK.predict(1, 1, 0.0).to_string(), "4.58 ms predicted");
    }
}
