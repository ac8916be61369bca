//! Which plans of an engine run in bursts: loaded when they are first wanted, and given up where the device has none.

use crate::runner::Runner;
use aio_backend::{Burst, BurstStep};
use aio_plan::{PlanFamily, Tail};

/// See the module's header.
#[derive(Default)]
pub(crate) struct Bursts {
    /// Tokens of a burst at most; 0: none run.
    pub limit: usize,
    loaded: Vec<(Tail, Box<dyn Burst>)>,
    /// Why there are none.
    refusal: Option<String>,
    /// Of the last burst.
    pub steps: Vec<BurstStep>,
}

impl Bursts {
    pub(crate) fn new(limit: usize) -> Bursts {
        Bursts { limit, ..Bursts::default() }
    }

    /// Why the device runs none, once it was asked.
    pub(crate) fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// Whether bursts with this tail can run; loads them if that was not tried yet. A refusal is for good.
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

    /// What runs them, after `ready` said yes, and where their steps are noted.
    pub(crate) fn get(&mut self, tail: Tail) -> Option<(&mut dyn Burst, &mut Vec<BurstStep>)> {
        let (_, burst) = self.loaded.iter_mut().find(|(t, _)| *t == tail)?;
        Some((burst.as_mut(), &mut self.steps))
    }
}
