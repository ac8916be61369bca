//! Which numbers of rows steps are padded to, on devices that run fixed shapes only: those that the engine's own steps have
//! most often. Called by the runner; the orchestrator's `buckets.rs` decides.

use aio_backend::Executable;
use aio_orchestrator::{BucketCosts, BucketSet};

/// Most numbers of rows of a plan, beside the device's own.
const MOST: usize = 8;

/// Those of a plan.
#[derive(Debug)]
pub(crate) struct Paddings(BucketSet);

impl Default for Paddings {
    fn default() -> Paddings {
        Paddings(BucketSet::new(MOST))
    }
}

impl Paddings {
    /// Notes a step of one sequence, and returns whether [`Paddings::review`] should be called.
    pub(crate) fn observe(&mut self, executable: &dyn Executable, rows: u32) -> bool {
        executable.padded_rows(rows) > rows && self.0.observe(rows)
    }

    /// Tells the device what to pad to, if that has changed. `seconds`: what a step of so many rows takes; `capture`: what a
    /// new number of rows costs once.
    pub(crate) fn review(&mut self, executable: &mut dyn Executable, seconds: &dyn Fn(u32) -> f64, capture: f64) {
        let rounded = |rows| executable.padded_rows(rows);
        if self.0.review(&BucketCosts { step: seconds, rounded, build: capture }) {
            executable.pad_to(self.0.buckets());
        }
    }
}
