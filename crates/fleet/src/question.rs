//! A question with a gap for the request: prefilled up to the gap once, so that a probe runs only the request and what
//! follows. Used by the zero-shot probe and by the linear head.

use crate::FleetError;
use crate::probe::{excerpt, run};
use aio_engine::{Engine, OutputBuffer, Outputs, Sequence, StepWants};

/// See the module docs.
#[derive(Debug)]
pub(crate) struct Question {
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
        let (mut before, mut out) = (Sequence::new(), OutputBuffer::new());
        run(engine, &mut before, &ids, (StepWants::Nothing, 0), &mut out)?;
        before.commit(ids.len())?;
        Ok(Question { before, after, out })
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
        let mut sequence = engine.fork(&self.before, self.before.len())?;
        Ok((run(engine, &mut sequence, &ids, (wants, 1), &mut self.out)?, request.len()))
    }
}
