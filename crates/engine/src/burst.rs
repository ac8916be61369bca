//! The plans of an engine that run bursts, loaded on first use.

use crate::runner::Runner;
use aio_backend::{Burst, BurstStep};
use aio_plan::{PlanFamily, Tail};

/// The loaded bursts, and the steps of the last one. See the module docs.
#[derive(Default)]
pub(crate) struct Bursts {
    loaded: Vec<(Tail, Box<dyn Burst>)>,
    steps: Vec<BurstStep>,
}

impl Bursts {
    /// Loads the burst for a tail unless it is loaded. Returns the maximum drafts of its steps.
    ///
    /// # Errors
    /// Why the device runs none.
    pub(crate) fn load(&mut self, runner: &Runner, family: &PlanFamily, tail: Tail) -> Result<u32, String> {
        if let Some((burst, _)) = self.get(tail) {
            return Ok(burst.most_drafts());
        }
        let burst = runner.load_burst(family, tail)?;
        let most = burst.most_drafts();
        self.loaded.push((tail, burst));
        Ok(most)
    }

    /// The burst for a tail, if it is loaded, and the buffer for its steps.
    pub(crate) fn get(&mut self, tail: Tail) -> Option<(&mut dyn Burst, &mut Vec<BurstStep>)> {
        let (_, burst) = self.loaded.iter_mut().find(|(t, _)| *t == tail)?;
        Some((burst.as_mut(), &mut self.steps))
    }
}
