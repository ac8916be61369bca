//! Probes: the category of a request, from one short step.

use crate::FleetError;
use aio_engine::{Engine, OutputBuffer, Outputs, Sequence, Step, StepRow, StepWants};

/// What a probe says of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Probability of each category; they sum to 1.
    pub scores: Vec<(String, f64)>,
    /// Tokens of the request that it read.
    pub tokens: usize,
}

impl Answer {
    /// An answer from logarithms of probabilities, up to a constant.
    pub(crate) fn of(logs: Vec<(String, f64)>, tokens: usize) -> Answer {
        let most = logs.iter().map(|l| l.1).filter(|l| l.is_finite()).fold(f64::NEG_INFINITY, f64::max);
        let weight = |log: f64| if log.is_finite() { (log - most).exp() } else { 0.0 };
        let sum: f64 = logs.iter().map(|l| weight(l.1)).sum();
        let scores =
            logs.into_iter().map(|(name, log)| (name, if sum > 0.0 { weight(log) / sum } else { 0.0 })).collect();
        Answer { scores, tokens }
    }

    /// The likeliest category, and its probability less that of the next one.
    pub fn best(&self) -> (&str, f64) {
        let mut sorted: Vec<&(String, f64)> = self.scores.iter().collect();
        sorted.sort_by(|a, b| b.1.total_cmp(&a.1));
        let next = sorted.get(1).map_or(0.0, |s| s.1);
        sorted.first().map_or(("", 0.0), |(name, score)| (name, score - next))
    }
}

/// Gives the category of a request.
pub trait Probe: Send {
    /// Its name, such as `head`.
    fn name(&self) -> &'static str;

    /// The categories of `text`. `engine` is the smallest variant.
    ///
    /// # Errors
    /// [`FleetError`].
    fn probe(&mut self, engine: &Engine, text: &str) -> Result<Answer, FleetError>;
}

/// Always the same category.
#[derive(Clone, Debug)]
pub struct Constant(pub String);

impl Probe for Constant {
    fn name(&self) -> &'static str {
        "constant"
    }

    fn probe(&mut self, _: &Engine, _: &str) -> Result<Answer, FleetError> {
        Ok(Answer { scores: vec![(self.0.clone(), 1.0)], tokens: 0 })
    }
}

/// Tokens of a long request that a probe reads: how it begins, and how it ends. A head trained on short requests is right more
/// often on long ones when it reads this little (`benches/NOTES.md`), and a probe takes half as long as with 128 tokens.
const BEGINNING: usize = 24;
const END: usize = 24;

/// The tokens of a request that a probe reads.
///
/// # Errors
/// The tokenizer's.
pub(crate) fn excerpt(engine: &Engine, text: &str) -> Result<Vec<u32>, FleetError> {
    let ids = engine.model().tokenizer.encode(text, false)?;
    if ids.len() <= BEGINNING + END {
        return Ok(ids);
    }
    Ok([&ids[..BEGINNING], &ids[ids.len() - END..]].concat())
}

/// Runs tokens after a sequence's positions in one step and gives what their last `outs` rows ask for. The sequence is
/// not changed.
pub(crate) fn run<'o>(
    engine: &Engine,
    sequence: &mut Sequence,
    ids: &[u32],
    (wants, outs): (StepWants<'_>, usize),
    out: &'o mut OutputBuffer,
) -> Result<Outputs<'o>, FleetError> {
    let start = sequence.len();
    engine.reserve(sequence, start + ids.len())?;
    let first = ids.len().saturating_sub(outs);
    let row = |(i, &token): (usize, &u32)| StepRow {
        token,
        sequence: 0,
        position: start + i,
        wants: if i >= first { wants } else { StepWants::Nothing },
    };
    let rows: Vec<StepRow<'_>> = ids.iter().enumerate().map(row).collect();
    Ok(engine.step(Step { sequences: &mut [sequence], rows: &rows, drafts: &[] }, out)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_probabilities_with_a_margin() {
        let answer = Answer::of(vec![("a".to_owned(), -1000.0), ("b".to_owned(), -1000.0 + 3f64.ln())], 5);
        assert!((answer.scores[1].1 - 0.75).abs() < 1e-12);
        let (best, margin) = answer.best();
        assert_eq!(best, "b");
        assert!((margin - 0.5).abs() < 1e-12);
        assert_eq!(Answer::of(Vec::new(), 0).best(), ("", 0.0));
        let broken = Answer::of(vec![("a".to_owned(), f64::NAN), ("b".to_owned(), f64::NEG_INFINITY)], 1);
        assert_eq!(broken.best().1, 0.0, "nothing is known");
        assert_eq!(Answer::of(vec![("a".to_owned(), f64::NAN), ("b".to_owned(), 0.0)], 1).best(), ("b", 1.0));
    }
}
