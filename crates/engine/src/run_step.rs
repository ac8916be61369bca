//! Runs steps on an engine: one at a time, whichever threads call.

use crate::lock::lock;
use crate::outputs::{OutputBuffer, Outputs};
use crate::step::Step;
use crate::steps::Widths;
use crate::{Engine, EngineError};
use aio_orchestrator::StepSize;
use aio_plan::StepTime;

impl Engine {
    /// Runs one step: one submission and one synchronisation, with or without drafts. Waits for a step of another
    /// thread to end. The outputs are in `out`.
    ///
    /// The caller then commits the new lengths of the sequences: up to the last row, or what [`DraftOutcome::lens`]
    /// says, or less: with recurrent state, not less than the rows that are no drafts.
    ///
    /// # Errors
    /// [`EngineError::Token`], [`EngineError::ForeignSequence`], [`EngineError::NotReserved`],
    /// [`EngineError::SharedPage`], [`EngineError::NoHidden`], [`EngineError::Spans`], [`EngineError::StepSize`], [`EngineError::Reentered`], and
    /// device errors, after which all sequences are unchanged. With recurrent state, [`EngineError::NotNext`], [`EngineError::Drafts`] and [`EngineError::SlotsFull`].
    ///
    /// [`DraftOutcome::lens`]: crate::DraftOutcome::lens
    pub fn step<'o>(&self, step: Step<'_, '_>, out: &'o mut OutputBuffer) -> Result<Outputs<'o>, EngineError> {
        Ok(self.timed_step(step, out)?.0)
    }

    /// Like [`Engine::step`], with the time that the device says the step took.
    pub(crate) fn timed_step<'o>(
        &self,
        mut step: Step<'_, '_>,
        out: &'o mut OutputBuffer,
    ) -> Result<(Outputs<'o>, StepTime), EngineError> {
        let widths = Widths { vocabulary: self.model.hyper.vocab_size, hidden: self.hidden.unwrap_or(0) };
        step.check(widths.vocabulary, &self.pools)?;
        if step.wants_hidden() && self.hidden.is_none() {
            return Err(EngineError::NoHidden);
        }
        let mut steps = self.steps.lock()?;
        let advances = step.advance(&self.pools)?;
        let timed = steps.run(&step, &advances, (widths, self.pools.sizes()), out)?;
        let size = step.size();
        let mut costs = lock(&self.costs);
        costs.observe(size, timed.1);
        steps.runner.review_paddings(&|rows| costs.predict_by_terms(StepSize { rows, ..size }).0);
        drop(costs);
        step.stage(&self.pools, advances);
        *lock(&self.done) = (steps.runner.rows, steps.runner.forms.steps.clone());
        Ok(timed)
    }
}
