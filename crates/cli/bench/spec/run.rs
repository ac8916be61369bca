//! One text generated, with the time of each of its steps.

use crate::signals;
use crate::speculate::Drafting;
use aio::engine::{Batch, Completion, Dispatch, Engine, Flow, MemberId, Request, Sequence};
use anyhow::{Context, Result, bail};
use std::time::Instant;

/// What a step after the prompt gave, and what it took, drafting included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct StepTime {
    pub tokens: usize,
    pub seconds: f64,
}

/// What was measured of one text. Counts are of the steps after the first token.
#[derive(Clone, Debug, Default)]
pub(super) struct Run {
    /// Its prompt, by place in the workload.
    pub prompt: usize,
    pub round: u32,
    /// Seconds to the first token, the drafter's look at the prompt included.
    pub prefill_s: f64,
    pub steps: Vec<StepTime>,
    pub drafted: u64,
    pub accepted: u64,
    pub submissions: u64,
    pub syncs: u64,
    /// Bytes of weights that were read, a draft model's included.
    pub weight_bytes: u64,
    pub ids: Vec<u32>,
}

impl Run {
    /// Tokens that its steps gave.
    pub(super) fn tokens(&self) -> usize {
        self.steps.iter().map(|s| s.tokens).sum()
    }

    /// Seconds that its steps took.
    pub(super) fn seconds(&self) -> f64 {
        self.steps.iter().map(|s| s.seconds).sum()
    }

    /// Seconds of the tokens that are not marked; a step's time is divided evenly among its tokens.
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

/// What engine and draft model have done so far.
#[derive(Clone, Copy)]
struct Spent {
    submissions: u64,
    syncs: u64,
    draft_submissions: u64,
    draft_syncs: u64,
}

impl Spent {
    fn now(engine: &Engine, drafting: Option<&Drafting>) -> Spent {
        let (target, draft) = (engine.counters(), drafting.map(Drafting::counters).unwrap_or_default());
        Spent {
            submissions: target.submissions,
            syncs: target.syncs,
            draft_submissions: draft.submissions,
            draft_syncs: draft.syncs,
        }
    }
}

/// Generates a text; with no drafter where drafts are off.
///
/// # Errors
/// Those of the engine, and an interrupt.
pub(super) fn generate(engine: &mut Engine, drafting: Option<&Drafting>, request: &Request) -> Result<Run> {
    let mut run = Run::default();
    let began = Instant::now();
    let drafter = drafting.map(|d| d.drafter(engine, &request.sampling)).transpose()?;
    let mut batch = Batch::new();
    let joined = batch.join(engine, request.clone(), Sequence::new(), drafter);
    let id = joined.map_err(|(error, _)| error)?;
    let stepped = steps(engine, drafting, &mut batch, id, began, &mut run);
    let (done, mut sequence) = batch.leave(engine, id).context("the member has not left")?;
    engine.release(&mut sequence);
    stepped?;
    let Completion { ids, speculation, .. } = done;
    (run.ids, run.drafted, run.accepted) = (ids, speculation.drafted, speculation.accepted);
    Ok(run)
}

fn steps(
    engine: &mut Engine,
    drafting: Option<&Drafting>,
    batch: &mut Batch,
    id: MemberId,
    began: Instant,
    run: &mut Run,
) -> Result<()> {
    let generated = |batch: &Batch| batch.generated(id).map_or(0, <[u32]>::len);
    while generated(batch) == 0 {
        step(engine, batch)?;
    }
    run.prefill_s = began.elapsed().as_secs_f64();
    let before = Spent::now(engine, drafting);
    while batch.running() > 0 {
        let (had, began) = (generated(batch), Instant::now());
        step(engine, batch)?;
        run.steps.push(StepTime { tokens: generated(batch) - had, seconds: began.elapsed().as_secs_f64() });
    }
    let after = Spent::now(engine, drafting);
    let (own, drafts) = (after.submissions - before.submissions, after.draft_submissions - before.draft_submissions);
    run.submissions = own + drafts;
    run.syncs = after.syncs - before.syncs + after.draft_syncs - before.draft_syncs;
    // Verifying token by token takes more than one step of the engine in one of the batch.
    let passes = if engine.dispatch() == Dispatch::Token { own } else { run.steps.len() as u64 };
    run.weight_bytes = passes * engine.work().weight_bytes + drafts * drafting.map_or(0, Drafting::weight_bytes);
    Ok(())
}

fn step(engine: &mut Engine, batch: &mut Batch) -> Result<()> {
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
        let run = Run { steps: vec![step(1, 1.0), step(4, 2.0), step(2, 1.5)], ..Run::default() };
        assert_eq!((run.tokens(), run.seconds()), (7, 4.5));
        // The first mark is of the token that came with the prompt.
        let marks = [true, false, true, true, false, true, false, false];
        assert_eq!(run.unmarked_seconds(&marks), 1.0 + 0.5 + 1.5);
        assert_eq!(run.unmarked_seconds(&[true; 8]), 0.0);
    }
}
