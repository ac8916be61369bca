//! Generation of one text: a batch of one.

use crate::batch::Batch;
use crate::flow::Flow;
use crate::request::{Completion, Request};
use crate::{Engine, EngineError, Sequence};
use aio_orchestrator::Drafter;

impl Engine {
    /// Generates a continuation. `sink` receives each piece of text as soon as it is final (whole characters, no part
    /// of a stop string), at least once per step, and may end the run. In a burst it is called while the device works:
    /// steps of this engine then give it [`EngineError::Reentered`], and it must not wait for those of other threads.
    ///
    /// # Errors
    /// [`EngineError::ContextOverflow`] and [`EngineError::EmptyPrompt`] before any step; [`EngineError::NoToken`] and
    /// device errors.
    pub fn generate(&self, request: &Request, sink: &mut dyn FnMut(&str) -> Flow) -> Result<Completion, EngineError> {
        self.generate_in(&mut Sequence::new(), request, None, sink)
    }

    /// Like [`Engine::generate`], continuing in a sequence whose committed positions hold the prompt's first tokens
    /// (chat turns). If the request speculates, drafts come from `drafter`, or else from a suffix automaton. Afterwards
    /// the sequence holds prompt and output except the last token, as [`Batch::leave`] says. With `max_tokens` 0 nothing runs and the sequence is
    /// unchanged.
    ///
    /// # Errors
    /// The errors of [`Engine::generate`].
    pub fn generate_in(
        &self,
        sequence: &mut Sequence,
        request: &Request,
        drafter: Option<Box<dyn Drafter>>,
        sink: &mut dyn FnMut(&str) -> Flow,
    ) -> Result<Completion, EngineError> {
        let mut batch = Batch::new();
        let joined = batch.join(self, request.clone(), std::mem::take(sequence), drafter);
        let id = joined.map_err(|(error, kept)| {
            *sequence = kept;
            error
        })?;
        let mut result = Ok(());
        while result.is_ok() && batch.running() > 0 {
            result = batch.step(self, &mut |_, text| sink(text));
        }
        let (completion, kept) = batch.leave(self, id).expect("the member joined and has not left");
        *sequence = kept;
        result.and(completion)
    }
}
