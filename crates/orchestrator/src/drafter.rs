//! The drafter trait, implemented by text drafters and draft models.
//!
//! A drafter guesses, the plan verifies, the acceptance estimate learns. A drafter only sees committed tokens, so it
//! never has to roll back.

use aio_plan::StepTime;
use std::error::Error;

/// What a drafter matched. Determines the expected acceptance of its drafts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// Number of tokens at the end of the history that also occurred earlier. 0 means no match and no drafts. A draft
    /// model, which matches nothing but always drafts, reports 1.
    pub len: u32,
}

/// The kind of drafter, which selects the prior of the acceptance estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrafterKind {
    /// Text that occurred earlier: longer matches are more reliable.
    Text,
    /// A smaller model: about equally reliable everywhere.
    Model,
}

/// A drafter failed. Text drafters never do.
#[derive(Debug, thiserror::Error)]
#[error("the drafter {drafter} failed: {source}")]
pub struct DraftError {
    /// [`Drafter::name`].
    pub drafter: &'static str,
    /// The cause, for example in a draft model's step.
    pub source: Box<dyn Error + Send + Sync>,
}

/// A source of drafts for one sequence.
///
/// It sees every committed token (prompt, then accepted output) once, in order, and never rejected drafts.
pub trait Drafter: Send {
    /// Its name in `--drafter`.
    fn name(&self) -> &'static str;

    /// Adds committed tokens.
    fn extend(&mut self, tokens: &[u32]);

    /// Appends up to `max` likely next tokens to `out`, which may already hold tokens. The same history gives the same
    /// drafts, and a smaller `max` gives a prefix of them.
    ///
    /// # Errors
    /// [`DraftError`] from drafters that run a model; `out` is unchanged then.
    fn draft(&mut self, max: usize, out: &mut Vec<u32>) -> Result<Match, DraftError>;

    /// Resets it for a new sequence.
    fn clear(&mut self);

    /// Its kind, which selects the prior for its drafts.
    fn kind(&self) -> DrafterKind {
        DrafterKind::Text
    }

    /// Does work that the first draft would otherwise wait for: a draft model reads the prompt. Called in the step that
    /// ends the prompt, if drafts may follow, and again if that step failed and is retried. Its time counts as prefill.
    ///
    /// # Errors
    /// [`DraftError`], see [`Drafter::draft`].
    fn prepare(&mut self) -> Result<(), DraftError> {
        Ok(())
    }

    /// Maximum number of tokens it can draft after the committed ones.
    fn most(&self) -> usize {
        usize::MAX
    }

    /// Time of the last [`Drafter::draft`], if not negligible (a draft model).
    fn last_time(&self) -> Option<StepTime> {
        None
    }

    /// Time to draft one token, if not negligible.
    fn time_per_token(&self) -> Option<StepTime> {
        None
    }
}

/// Appends `count` tokens that followed position `end` of `history`. Past the end of the history it continues with the
/// tokens it wrote, so that periodic text continues with its period.
pub(crate) fn follow(history: &[u32], end: usize, count: usize, out: &mut Vec<u32>) {
    debug_assert!(end + 1 < history.len(), "an earlier occurrence has a successor");
    let start = out.len();
    for at in end + 1..end + 1 + count {
        let token = history.get(at).copied().unwrap_or_else(|| out[start + at - history.len()]);
        out.push(token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn following_goes_on_in_what_it_wrote() {
        let mut out = vec![9];
        follow(&[1, 2, 3, 1, 2], 1, 7, &mut out);
        assert_eq!(out, [9, 3, 1, 2, 3, 1, 2, 3]);
    }

    #[test]
    fn a_failed_drafter_names_itself_and_its_cause() {
        let source = std::io::Error::other("device lost");
        let error = DraftError { drafter: "model", source: Box::new(source) };
        assert_eq!(error.to_string(), "the drafter model failed: device lost");
        assert!(error.source().is_some());
    }
}
