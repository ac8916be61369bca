//! Generates one text and times each step.

use crate::signals;
use crate::speculate::{Drafting, Spent};
use aio::engine::{Batch, Completion, Engine, Flow, MemberId, Request, Sequence};
use anyhow::{Context, Result, bail};
use std::time::Instant;

/// The tokens and the time of one step after the prompt, including drafting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct StepTime {
    pub tokens: usize,
    pub seconds: f64,
}

/// Measurements of one text. Counts cover the steps after the first token.
#[derive(Clone, Debug, Default)]
pub(super) struct TextRun {
    /// Index of its prompt in the workload.
    pub prompt: usize,
    pub round: u32,
    /// Seconds to the first token, including the drafter's pass over the prompt.
    pub prefill_s: f64,
    pub steps: Vec<StepTime>,
    pub drafted: u64,
    pub accepted: u64,
    pub submissions: u64,
    pub syncs: u64,
    /// Bytes of weights read, including the draft model's.
    pub weight_bytes: u64,
    pub ids: Vec<u32>,
}

impl TextRun {
    /// Number of tokens from its steps.
    pub(super) fn tokens(&self) -> usize {
        self.steps.iter().map(|s| s.tokens).sum()
    }

    /// Total seconds of its steps.
    pub(super) fn seconds(&self) -> f64 {
        self.steps.iter().map(|s| s.seconds).sum()
    }

    /// Seconds spent on unmarked tokens; a step's time is divided evenly among its tokens.
    pub(super) fn unmarked_seconds(&self, marks: &[bool]) -> f64 {
        let mut at = marks.len() - self.tokens();
        let mut seconds = 0.0;
        for step in &self.steps {
            let unmarked = marks[at..at + step.tokens].iter().filter(|m| !**m).count();
            seconds += step.seconds * unmarked as f64 / step.tokens as f64;
            at += step.tokens;
        }
        seconds
    }
}

/// Generates a text; without a drafter if drafts are off.
///
/// # Errors
/// Errors of the engine, and an interrupt.
pub(super) fn generate(engine: &Engine, drafting: Option<&Drafting>, request: &Request) -> Result<TextRun> {
    let mut run = TextRun::default();
    let began = Instant::now();
    let drafter = drafting.map(|d| d.drafter(engine, &request.sampling)).transpose()?.flatten();
    let mut batch = Batch::new();
    let joined = batch.join(engine, request.clone(), Sequence::new(), drafter);
    let id = joined.map_err(|(error, _)| error)?;
    let stepped = steps(engine, drafting, &mut batch, id, began, &mut run);
    let (done, _) = batch.leave(engine, id).context("the member has not left")?;
    stepped?;
    let Completion { ids, speculation, .. } = done?;
    (run.ids, run.drafted, run.accepted) = (ids, speculation.drafted, speculation.accepted);
    Ok(run)
}

fn steps(
    engine: &Engine,
    drafting: Option<&Drafting>,
    batch: &mut Batch,
    id: MemberId,
    began: Instant,
    run: &mut TextRun,
) -> Result<()> {
    let generated = |batch: &Batch| batch.generated(id).map_or(0, <[u32]>::len);
    while generated(batch) == 0 {
        step(engine, batch)?;
    }
    run.prefill_s = began.elapsed().as_secs_f64();
    if Spent::now(engine, drafting).modelled().is_some() {
        bail!("times of {} are modelled, and this benchmark measures them", engine.family().target);
    }
    let before = Spent::now(engine, drafting);
    while batch.running() > 0 {
        let (had, began) = (generated(batch), Instant::now());
        step(engine, batch)?;
        run.steps.push(StepTime { tokens: generated(batch) - had, seconds: began.elapsed().as_secs_f64() });
    }
    let spent = Spent::now(engine, drafting).since(before);
    (run.submissions, run.syncs) = (spent.submissions(), spent.syncs());
    run.weight_bytes = spent.weight_bytes(engine, drafting, run.steps.len() as u64);
    Ok(())
}

fn step(engine: &Engine, batch: &mut Batch) -> Result<()> {
    if signals::interrupted() {
        bail!("interrupted");
    }
    Ok(batch.step(engine, &mut |_, _| Flow::Continue)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steps_time_is_divided_among_its_tokens() {
        let step = |tokens, seconds| StepTime { tokens, seconds };
        let run = TextRun { steps: vec![step(1, 1.0), step(4, 2.0), step(2, 1.5)], ..TextRun::default() };
        assert_eq!((run.tokens(), run.seconds()), (7, 4.5));
        // The first mark belongs to the token that the prompt step returned.
        let marks = [true, false, true, true, false, true, false, false];
        assert_eq!(run.unmarked_seconds(&marks), 1.0 + 0.5 + 1.5);
        assert_eq!(run.unmarked_seconds(&[true; 8]), 0.0);
    }
}
