//! The timeline of a device: the steps that its executables ran while a trace was kept.

use aio_backend::timeline::{StepRecord, Timeline};
use std::sync::{Mutex, PoisonError};

/// Marks that a timeline keeps: about 6000 steps of a small model on two threads, 64 MiB.
const MOST_MARKS: usize = 4 << 20;

/// Steps of all executables of a device.
#[derive(Debug, Default)]
pub(crate) struct Record(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    steps: Vec<StepRecord>,
    marks: usize,
    dropped: u64,
}

impl Record {
    /// Adds a step, or counts it if there is no room.
    pub(crate) fn add(&self, step: StepRecord) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let marks: usize = step.marks.iter().map(Vec::len).sum();
        if kept.marks + marks > MOST_MARKS {
            kept.dropped += 1;
            return;
        }
        kept.marks += marks;
        kept.steps.push(step);
    }

    /// Takes what was kept.
    pub(crate) fn take(&self, threads: usize) -> Timeline {
        let kept = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let name = |thread: usize| if thread == 0 { "caller".to_owned() } else { format!("aio-{thread}") };
        Timeline { threads: (0..threads).map(name).collect(), steps: kept.steps, dropped: kept.dropped }
    }
}
