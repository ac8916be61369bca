//! Runs a turn: the rows of all its shares in one submission, and the outcome of each.

use super::member::Member;
use super::share::{Outcome, Share};
use crate::dispatch::Dispatch;
use crate::step::{DraftSpan, Step, StepRow, StepWants};
use crate::{Engine, EngineError, OutputBuffer, Request, Sequence};
use aio_plan::StepTime;
use smallvec::SmallVec;
use std::time::Instant;

/// The outcome of each share, in order.
pub(super) type Outcomes = SmallVec<[Outcome; 8]>;

/// A share with the text of its member, apart from the sequence.
struct Part<'a> {
    share: &'a Share,
    request: &'a Request,
    tokens: &'a [u32],
    /// The logit bias of each of its output rows; empty without a mask or bias.
    biases: Vec<Vec<f32>>,
}

/// Runs the planned rows of all shares. Returns their outcomes and the time that it took, which
/// includes the preparation of the rows where a clock measures it.
///
/// # Errors
/// The errors of the steps.
pub(super) fn run(
    engine: &Engine,
    members: &mut [Member],
    shares: &[Share],
    out: &mut OutputBuffer,
) -> Result<(Outcomes, StepTime), EngineError> {
    let started = Instant::now();
    let vocabulary = engine.model().hyper.vocab_size as usize;
    let mut sequences: SmallVec<[&mut Sequence; 8]> = SmallVec::new();
    let mut parts: SmallVec<[Part<'_>; 4]> = SmallVec::new();
    let mut shares = shares.iter().peekable();
    for (index, member) in members.iter_mut().enumerate() {
        let Some(share) = shares.next_if(|s| s.member == index) else { continue };
        let has_bias = member.has_bias();
        let Member { sequence, request, tokens, .. } = member;
        let mut part = Part { share, request, tokens, biases: Vec::new() };
        if has_bias {
            part.biases = (share.first_out()..share.rows().end).map(|at| part.bias(at, vocabulary)).collect();
        }
        sequences.push(sequence);
        parts.push(part);
    }
    let drafted = parts.iter().any(|p| !p.share.drafts().is_empty());
    let together = drafted && engine.dispatch() != Dispatch::Token;
    let (rows, spans) = rows(&parts, together);
    let prepared = started.elapsed().as_secs_f64();
    let step = Step { sequences: &mut sequences, rows: &rows, drafts: if together { &spans } else { &[] } };
    let (outputs, time) = engine.timed_step(step, out)?;
    let mut time = match time {
        StepTime::Measured(seconds) => StepTime::Measured(prepared + seconds),
        modelled => modelled,
    };
    if let Some(verified) = outputs.verified() {
        let each = verified.accepted.iter().zip(verified.next);
        let outcomes = each.map(|(&accepted, &next)| Outcome { accepted: accepted as usize, next }).collect();
        return Ok((outcomes, time));
    }
    let sampled = outputs.tokens().unwrap_or_default();
    // A member in the middle of its prompt has no output row.
    let first = |span: &DraftSpan| Outcome { accepted: 0, next: sampled.get(span.first).copied().unwrap_or(0) };
    let mut outcomes: Outcomes = spans.iter().map(first).collect();
    if drafted {
        time = one_by_one(engine, &parts, &mut sequences, (time, &mut outcomes), out)?;
    }
    Ok((outcomes, time))
}

impl<'a> Part<'a> {
    /// The mask and bias for the token after position `at`.
    fn bias(&self, at: usize, vocabulary: usize) -> Vec<f32> {
        let mut bias = vec![0.0; vocabulary];
        let prompt = self.request.prompt.len();
        // In the middle of the prompt the sampled token is ignored, so the mask is not called.
        if let Some(mask) = self.request.mask.as_ref().filter(|_| at + 1 >= prompt) {
            mask.bias(self.share.output(self.tokens, prompt, at), &mut bias);
        }
        for (sum, x) in bias.iter_mut().zip(self.request.logit_bias.iter().flatten()) {
            *sum += x;
        }
        bias
    }

    /// The row at a position. `asks`: whether it asks for a token.
    fn row(&'a self, sequence: usize, position: usize, asks: bool) -> StepRow<'a> {
        let (token, recent) = self.share.prefix(self.tokens, position);
        let wants = if asks {
            let bias = self.biases.get(position - self.share.first_out()).map(Vec::as_slice);
            StepWants::Token { sampling: &self.request.sampling, recent, bias }
        } else {
            StepWants::Nothing
        };
        StepRow { token, sequence, position, wants }
    }
}

/// Collects the rows of all shares, with or without drafts, and the span of output rows of each. A member in the middle
/// of its prompt has an output row only in a step that verifies drafts, where every member needs one.
fn rows<'a>(parts: &'a [Part<'a>], drafts: bool) -> (SmallVec<[StepRow<'a>; 24]>, SmallVec<[DraftSpan; 8]>) {
    let (mut rows, mut spans, mut outs) = (SmallVec::new(), SmallVec::new(), 0);
    for (place, part) in parts.iter().enumerate() {
        let first_out = part.share.first_out();
        let end = if drafts { part.share.rows().end } else { first_out + 1 };
        let asks = drafts || part.share.samples();
        let count = if asks { end - first_out } else { 0 };
        spans.push(DraftSpan { first: outs, drafts: count.saturating_sub(1), len: first_out + 1 });
        outs += count;
        let own = part.share.rows().start..end;
        rows.extend(own.map(|position| part.row(place, position, asks && position >= first_out)));
    }
    (rows, spans)
}

/// The baseline: runs each draft in a separate step while they are accepted, comparing its sample on the host. Returns
/// the time that all steps took together.
fn one_by_one(
    engine: &Engine,
    parts: &[Part<'_>],
    sequences: &mut [&mut Sequence],
    (mut total, outcomes): (StepTime, &mut Outcomes),
    out: &mut OutputBuffer,
) -> Result<StepTime, EngineError> {
    for ((part, sequence), outcome) in parts.iter().zip(sequences).zip(outcomes) {
        for (position, &draft) in (part.share.text()..).zip(part.share.drafts()) {
            if draft != outcome.next {
                break;
            }
            let step = Step { sequences: &mut [&mut **sequence], rows: &[part.row(0, position, true)], drafts: &[] };
            let (outputs, time) = engine.timed_step(step, out)?;
            outcome.next = outputs.tokens().and_then(|t| t.first().copied()).unwrap_or(0);
            outcome.accepted += 1;
            total = total.checked_add(time).unwrap_or(total);
        }
    }
    Ok(total)
}
