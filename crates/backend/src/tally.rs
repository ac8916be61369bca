//! A device's counters, shared with its executables and readable while a step runs.

use crate::{Counters, StepReport};
use std::sync::{Mutex, PoisonError};

/// The counters. See the module docs.
#[derive(Debug, Default)]
pub struct Tally(Mutex<Counters>);

impl Tally {
    /// The totals so far.
    pub fn read(&self) -> Counters {
        // Each counter is a single number, so none is half-written after a panic elsewhere.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes counters.
    pub fn update(&self, change: impl FnOnce(&mut Counters)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Adds a step of `launches` launches.
    pub fn add(&self, report: &StepReport, launches: u64) {
        self.update(|counters| counters.add(report, launches));
    }
}
