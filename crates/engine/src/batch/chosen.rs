//! A choice of the speculator until its step or burst is observed.
//!
//! Dropping it abandons the choice, so what the choice may lose is given back whichever way the step ends: with an error,
//! or with a panic of the caller's code.

use crate::Engine;
use aio_orchestrator::{Choice, Speculator};

/// See the module docs.
pub(super) struct Chosen<'e> {
    engine: &'e Engine,
    choice: Option<Choice>,
}

impl<'e> Chosen<'e> {
    /// A choice that `engine`'s speculator has just made.
    pub(super) fn new(engine: &'e Engine, choice: Choice) -> Chosen<'e> {
        Chosen { engine, choice: Some(choice) }
    }

    /// Tells the speculator the result. Returns the choice.
    pub(super) fn observe(mut self, tell: impl FnOnce(&mut Speculator, &Choice)) -> Option<Choice> {
        let choice = self.choice.take()?;
        tell(&mut self.engine.speculating(), &choice);
        Some(choice)
    }

    /// Forgets the choice. Returns it.
    pub(super) fn abandon(mut self) -> Option<Choice> {
        let choice = self.choice.take()?;
        self.engine.speculating().abandon(&choice);
        Some(choice)
    }
}

impl Drop for Chosen<'_> {
    fn drop(&mut self) {
        if let Some(choice) = &self.choice {
            self.engine.speculating().abandon(choice);
        }
    }
}
