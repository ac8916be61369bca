//! The plans of an engine that run bursts: loaded on first use, and given up if the device has none.

use crate::runner::Runner;
use aio_backend::{Burst, BurstStep};
use aio_plan::{PlanFamily, Tail};

/// The loaded bursts. See the module docs.
#[derive(Default)]
pub(crate) struct Bursts {
    /// Maximum tokens of a burst; 0 disables bursts.
    pub limit: usize,
    loaded: Vec<(Tail, Box<dyn Burst>)>,
    /// Why the device runs no bursts.
    refusal: Option<String>,
    /// Steps of the last burst.
    pub steps: Vec<BurstStep>,
}

impl Bursts {
    pub(crate) fn new(limit: usize) -> Bursts {
        Bursts { limit, ..Bursts::default() }
    }

    /// Why the device runs no bursts, if it was asked and refused.
    pub(crate) fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// Whether bursts with this tail can run. Loads them on the first call; a refusal is final.
    pub(crate) fn ready(&mut self, runner: &Runner, family: &PlanFamily, tail: Tail) -> bool {
        if self.limit == 0 || self.refusal.is_some() {
            return false;
        }
        if self.loaded.iter().any(|(t, _)| *t == tail) {
            return true;
        }
        match runner.load_burst(family, tail) {
            Ok(burst) => {
                self.loaded.push((tail, burst));
                true
            }
            Err(reason) => {
                self.refusal = Some(reason);
                false
            }
        }
    }

    /// The burst for a tail after `ready` returned `true`, and the buffer for its steps.
    pub(crate) fn get(&mut self, tail: Tail) -> Option<(&mut dyn Burst, &mut Vec<BurstStep>)> {
        let (_, burst) = self.loaded.iter_mut().find(|(t, _)| *t == tail)?;
        Some((burst.as_mut(), &mut self.steps))
    }
}
