//! A question with a gap for the request: prefilled up to the gap once, so that a probe runs only the request and what
//! follows. Used by the zero-shot probe and by the linear head.

use crate::FleetError;
use crate::probe::{excerpt, run};
use aio_engine::{Engine, EngineError, OutputBuffer, Outputs, Sequence, StepWants};

/// See the module docs.
#[derive(Debug)]
pub(crate) struct Question {
    /// Tokens before the gap.
    asked: Vec<u32>,
    /// Those, prefilled.
    before: Sequence,
    after: Vec<u32>,
    out: OutputBuffer,
}

impl Question {
    /// Prefills the text before the gap. `after` follows the request. The engine needs room for two sequences.
    ///
    /// # Errors
    /// Those of a step.
    pub(crate) fn new(engine: &Engine, categories: &[String], after: Vec<u32>) -> Result<Question, FleetError> {
        let tokenizer = &engine.model().tokenizer;
        let asked = format!("Each request is of one kind: {}.\n\nRequest: ", categories.join(", "));
        let ids = tokenizer.framed(tokenizer.encode(&asked, false)?);
        let mut question = Question { asked: ids, before: Sequence::new(), after, out: OutputBuffer::new() };
        question.prefill(engine)?;
        Ok(question)
    }

    /// Computes what stands before the gap.
    fn prefill(&mut self, engine: &Engine) -> Result<(), FleetError> {
        self.before = Sequence::new();
        run(engine, &mut self.before, &self.asked, (StepWants::Nothing, 0), &mut self.out)?;
        Ok(self.before.commit(self.asked.len())?)
    }

    /// A copy of what stands before the gap, computed again if it belongs to another engine, as after a reload.
    fn copy(&mut self, engine: &Engine) -> Result<Sequence, FleetError> {
        match engine.fork(&self.before, self.before.len()) {
            Err(EngineError::ForeignSequence { .. }) => {
                self.prefill(engine)?;
                Ok(engine.fork(&self.before, self.before.len())?)
            }
            copy => Ok(copy?),
        }
    }

    /// Tokens that end the question.
    pub(crate) fn ending(engine: &Engine) -> Result<Vec<u32>, FleetError> {
        Ok(engine.model().tokenizer.encode("\nKind:", false)?)
    }

    /// What the last token after a request wants, and the tokens of the request that were read.
    ///
    /// # Errors
    /// Those of a step.
    pub(crate) fn ask(
        &mut self,
        engine: &Engine,
        text: &str,
        wants: StepWants<'_>,
    ) -> Result<(Outputs<'_>, usize), FleetError> {
        let request = excerpt(engine, text)?;
        let ids = [&request[..], &self.after].concat();
        let mut sequence = self.copy(engine)?;
        Ok((run(engine, &mut sequence, &ids, (wants, 1), &mut self.out)?, request.len()))
    }
}
