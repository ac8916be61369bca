//! Where drafts come from: the trait that text drafters and draft models share.
//!
//! A drafter guesses, the plan verifies, the acceptance estimate learns. A drafter sees only what was committed, so it
//! never has to take anything back.

use std::error::Error;

/// What a drafter found. Shapes the belief in its drafts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// Tokens of the history's end that were found earlier; 0: nothing found, nothing drafted. A draft model, which
    /// finds nothing but always drafts, says 1.
    pub len: u32,
}

/// What kind of drafter the drafts come from; decides what is believed before anything was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrafterKind {
    /// Text that was found earlier: a longer match is a better sign.
    Text,
    /// A smaller model: about equally good everywhere.
    Model,
}

/// A drafter that failed; text drafters never do.
#[derive(Debug, thiserror::Error)]
#[error("the drafter {drafter} failed: {source}")]
pub struct DraftError {
    /// [`Drafter::name`].
    pub drafter: &'static str,
    /// What went wrong, for instance in a draft model's step.
    pub source: Box<dyn Error + Send + Sync>,
}

/// Where drafts for one sequence come from.
///
/// It sees every committed token (prompt, then accepted output) once, in order, and never drafts that failed.
pub trait Drafter: Send {
    /// Name as in `--drafter`.
    fn name(&self) -> &'static str;

    /// Takes tokens that were committed.
    fn extend(&mut self, tokens: &[u32]);

    /// Appends up to `max` likely next tokens to `out`, which may hold other tokens already. The same history gives
    /// the same drafts; fewer asked for are a prefix of more.
    ///
    /// # Errors
    /// [`DraftError`], of drafters that run a model. `out` is then as it was.
    fn draft(&mut self, max: usize, out: &mut Vec<u32>) -> Result<Match, DraftError>;

    /// Forgets everything: the sequence begins anew.
    fn clear(&mut self);

    /// What its drafts are believed to be worth before any was verified.
    fn kind(&self) -> DrafterKind {
        DrafterKind::Text
    }

    /// Does what the first draft would otherwise wait for: a draft model reads the prompt. Called in the step that ends the
    /// prompt, if drafts may follow, and again if that step failed and is run again; its time counts as prefill.
    ///
    /// # Errors
    /// [`DraftError`], as [`Drafter::draft`].
    fn prepare(&mut self) -> Result<(), DraftError> {
        Ok(())
    }

    /// Tokens that it can draft at most behind what is committed now.
    fn most(&self) -> usize {
        usize::MAX
    }

    /// Seconds that drafting one token costs, where it is not negligible (a draft model).
    fn seconds_per_token(&self) -> f64 {
        0.0
    }
}

/// Appends `count` tokens that followed position `end` of `history`. Past the end of the history it goes on in what it
/// wrote itself, so that text with a period is continued with that period.
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
