//! Recorded step times: what a benchmark wrote, one JSON object a line, and a table that stands in for the machine.
//!
//! Choices replayed on a table depend on nothing but the choosing. Used by `aio bench plans` and by the tests.

use crate::cost_model::StepSize;
use crate::profile::Figure;
use crate::regimes::StepWork;
use crate::trace::cause;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The first line: what was measured, and where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordHead {
    /// The model's name.
    pub model: String,
    /// The processor's name.
    pub chip: String,
    /// Maximum rows of a step that verifies drafts.
    pub verify_rows: u32,
    /// What the model's steps read and compute, with the device's ceilings.
    pub work: StepWork,
}

/// Bounds of a time in seconds, and of rates and amounts.
const SECONDS: (f64, f64) = (1e-9, 1e6);
const MOST: f64 = 1e18;
/// Most rows of a step.
const MOST_ROWS: u32 = 1 << 20;

impl RecordHead {
    fn check(&self) -> Result<(), String> {
        let StepWork { cost, ceilings, kv_bytes, kv_macs } = self.work;
        for (name, rate) in [("bandwidth", ceilings.bandwidth), ("peak", ceilings.peak)] {
            if !(1.0..=MOST).contains(&rate) {
                return Err(format!("{name} is {rate}"));
            }
        }
        let amounts = [cost.bytes, cost.bytes_per_row, cost.macs_per_row, cost.seconds, kv_bytes, kv_macs];
        if let Some(amount) = amounts.into_iter().find(|n| !(0.0..=MOST).contains(n)) {
            return Err(format!("an amount of work is {amount}"));
        }
        if !(1..=MOST_ROWS).contains(&self.verify_rows) {
            return Err(format!("verify_rows is {}", self.verify_rows));
        }
        Ok(())
    }
}

/// A step that was measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepRecord {
    /// Sequences.
    pub sequences: u32,
    /// Rows of all sequences.
    pub rows: u32,
    /// Positions of all sequences together, including the step's rows.
    pub positions: u64,
    /// Wall time of the step.
    pub seconds: f64,
    /// Seconds of a read of a large buffer just before the step and just after it, if there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reads: Option<[f64; 2]>,
}

impl StepRecord {
    /// The step, for the cost model.
    pub fn size(&self) -> StepSize {
        let StepRecord { sequences, rows, positions, .. } = *self;
        StepSize { sequences, rows, positions }
    }

    /// Positions of each sequence before the step, where all have the same.
    pub fn context(&self) -> u64 {
        self.positions.saturating_sub(self.rows.into()) / u64::from(self.sequences.max(1))
    }

    fn check(&self) -> Result<(), String> {
        let StepRecord { sequences, rows, positions, .. } = *self;
        if sequences == 0 || rows < sequences || positions < u64::from(rows) {
            return Err(format!("a step of {sequences} sequences with {rows} rows and {positions} positions"));
        }
        if rows > MOST_ROWS {
            return Err(format!("a step of {rows} rows, more than {MOST_ROWS}"));
        }
        let times = self.reads.into_iter().flatten().chain([self.seconds]);
        match times.into_iter().find(|s| !(SECONDS.0..=SECONDS.1).contains(s)) {
            Some(seconds) => Err(format!("a time of {seconds} seconds")),
            None => Ok(()),
        }
    }
}

/// Why a recording cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A line is not a step, or the first one not a head.
    #[error("recording, line {line}: {message}")]
    Line {
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// There are no steps.
    #[error("the recording has no steps")]
    Empty,
}

/// A recording, in the order in which its steps ran.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// What was measured, and where.
    pub head: RecordHead,
    /// The steps.
    pub steps: Vec<StepRecord>,
}

impl Recording {
    /// Parses a recording: the head, then a step a line; empty lines are skipped.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn parse(text: &str) -> Result<Recording, RecordError> {
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let (at, first) = lines.next().ok_or(RecordError::Empty)?;
        let (head, mut steps): (RecordHead, _) = (line(at, first)?, Vec::new());
        head.check().map_err(|message| RecordError::Line { line: at + 1, message })?;
        for (at, text) in lines {
            let step: StepRecord = line(at, text)?;
            step.check().map_err(|message| RecordError::Line { line: at + 1, message })?;
            steps.push(step);
        }
        if steps.is_empty() { Err(RecordError::Empty) } else { Ok(Recording { head, steps }) }
    }

    /// Writes the recording.
    pub fn print(&self) -> String {
        let json = |step| serde_json::to_string(step).expect("numbers have a JSON form") + "\n";
        let head = serde_json::to_string(&self.head).expect("numbers and texts have a JSON form") + "\n";
        head + &self.steps.iter().map(json).collect::<String>()
    }
}

/// Parses line `at`, from 0.
fn line<'a, T: Deserialize<'a>>(at: usize, text: &'a str) -> Result<T, RecordError> {
    let wrong = |e: serde_json::Error| format!("column {}: {}", e.column(), cause(&e));
    serde_json::from_str(text).map_err(|e| RecordError::Line { line: at + 1, message: wrong(e) })
}

/// Context and sequences of steps, and their median seconds by rows in ascending order.
type Cells = BTreeMap<(u64, u32), Vec<(u32, f64)>>;

/// Median seconds of steps, by context, sequences and rows.
#[derive(Clone, Debug, Default)]
pub struct RecordedSteps {
    cells: Cells,
}

impl RecordedSteps {
    /// The table of these steps.
    pub fn of<'a>(steps: impl IntoIterator<Item = &'a StepRecord>) -> RecordedSteps {
        let mut all: BTreeMap<(u64, u32), BTreeMap<u32, Vec<f64>>> = BTreeMap::new();
        for step in steps {
            let cell = all.entry((step.context(), step.sequences)).or_default();
            cell.entry(step.rows).or_default().push(step.seconds);
        }
        let median = |(rows, seconds): (u32, Vec<f64>)| Some((rows, Figure::of(&seconds)?.median));
        let medians = |(cell, rows): ((u64, u32), BTreeMap<u32, Vec<f64>>)| {
            (cell, rows.into_iter().filter_map(median).collect::<Vec<_>>())
        };
        RecordedSteps { cells: all.into_iter().map(medians).collect() }
    }

    /// Context and sequences of all cells, in order.
    pub fn cells(&self) -> impl Iterator<Item = (u64, u32)> + '_ {
        self.cells.keys().copied()
    }

    /// The rows that were measured in a cell, ascending.
    pub fn rows(&self, cell: (u64, u32)) -> impl Iterator<Item = u32> + '_ {
        self.cells.get(&cell).into_iter().flatten().map(|(rows, _)| *rows)
    }

    /// Seconds of a step of a cell, interpolated between its measured rows. `None` outside these.
    pub fn time(&self, cell: (u64, u32), rows: u32) -> Option<f64> {
        let times = self.cells.get(&cell)?;
        let at = times.partition_point(|(r, _)| *r < rows);
        let &(above, slow) = times.get(at)?;
        if above == rows {
            return Some(slow);
        }
        let (below, fast) = *times.get(at.checked_sub(1)?)?;
        Some(fast + (slow - fast) * f64::from(rows - below) / f64::from(above - below))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roofline::StepCost;
    use aio_plan::Ceilings;

    fn step(rows: u32, seconds: f64) -> StepRecord {
        StepRecord { sequences: 2, rows, positions: 128 + u64::from(rows), seconds, reads: None }
    }

    fn recording() -> Recording {
        let cost = StepCost { bytes: 1e8, bytes_per_row: 1.0, macs_per_row: 1e8, seconds: 5e-5 };
        let ceilings = Ceilings { bandwidth: 2e10, peak: 2e11 };
        let work = StepWork { cost, ceilings, kv_bytes: 2e4, kv_macs: 3e4 };
        let head = RecordHead { model: "m".to_owned(), chip: "c".to_owned(), verify_rows: 72, work };
        let read = StepRecord { reads: Some([1e-3, 1.5e-3]), ..step(6, 3.0) };
        Recording { head, steps: vec![step(2, 1.0), step(2, 9.0), step(2, 2.0), read] }
    }

    #[test]
    fn a_recording_survives_its_text() {
        let recording = recording();
        assert_eq!(Recording::parse(&recording.print()).unwrap(), recording);
    }

    #[test]
    fn errors_name_the_line() {
        let text = recording().print();
        let message = |old: &str, new: &str| Recording::parse(&text.replacen(old, new, 1)).unwrap_err().to_string();
        assert_eq!(message("\"seconds\":9.0", "\"seconds\":0"), "recording, line 3: a time of 0 seconds");
        let few = message("\"rows\":6", "\"rows\":1");
        assert_eq!(few, "recording, line 5: a step of 2 sequences with 1 rows and 134 positions");
        assert!(message("chip", "cihp").starts_with("recording, line 1: column "));
        assert_eq!(Recording::parse("\n"), Err(RecordError::Empty));
        assert_eq!(Recording::parse(text.lines().next().unwrap()), Err(RecordError::Empty));
    }

    #[test]
    fn times_are_medians_and_lie_between_measured_rows() {
        let steps = RecordedSteps::of(&recording().steps);
        let cell = (64, 2);
        assert_eq!((steps.cells().collect::<Vec<_>>(), steps.rows(cell).collect::<Vec<_>>()), (vec![cell], vec![2, 6]));
        assert_eq!([2, 3, 6].map(|rows| steps.time(cell, rows)), [Some(2.0), Some(2.25), Some(3.0)]);
        assert_eq!((steps.time(cell, 1), steps.time(cell, 7), steps.time((65, 2), 2)), (None, None, None));
    }
}
