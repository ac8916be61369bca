//! Runs one step of a batch: rows of all members in one submission, and the outcome of each.

use super::member::{Member, Outcome};
use crate::dispatch::Dispatch;
use crate::engine::Engine;
use crate::step::{DraftSpan, Step, StepRow, StepWants};
use crate::{EngineError, Sequence};
use smallvec::SmallVec;
use std::ops::Range;

/// The outcome for each member, in order.
pub(super) type Outcomes = SmallVec<[Outcome; 8]>;

type Rows<'a> = SmallVec<[StepRow<'a>; 24]>;

/// Runs the planned rows of all members.
///
/// # Errors
/// The errors of the steps.
pub(super) fn run(engine: &mut Engine, members: &[&Member]) -> Result<Outcomes, EngineError> {
    let vocabulary = engine.model().hyper.vocab_size as usize;
    let biases: Vec<Vec<f32>> = members.iter().flat_map(|m| biases(m, vocabulary)).collect();
    let sequences: SmallVec<[&Sequence; 8]> = members.iter().map(|m| &m.sequence).collect();
    let drafted = members.iter().any(|m| m.drafts() > 0);
    let together = drafted && engine.dispatch() != Dispatch::Token;
    let (rows, spans) = rows(members, &biases, together);
    if together {
        let verified = engine.verify(&Step { sequences: &sequences, rows: &rows }, &spans)?;
        let each = verified.accepted.iter().zip(verified.next);
        return Ok(each.map(|(&accepted, &next)| Outcome { accepted: accepted as usize, next }).collect());
    }
    let sampled = engine.step(&Step { sequences: &sequences, rows: &rows })?;
    // A member in the middle of its prompt has no output row.
    let first = |span: &DraftSpan| Outcome { accepted: 0, next: sampled.get(span.first).copied().unwrap_or(0) };
    let mut outcomes: Outcomes = spans.iter().map(first).collect();
    if drafted {
        one_by_one(engine, members, &biases, &mut outcomes)?;
    }
    Ok(outcomes)
}

/// The logit bias of each of a member's output rows; empty without a mask or bias.
fn biases(member: &Member, vocabulary: usize) -> impl Iterator<Item = Vec<f32>> {
    let outs = if member.has_bias() { member.first_out()..member.rows().end } else { 0..0 };
    outs.map(move |at| {
        let mut bias = vec![0.0; vocabulary];
        member.bias(at, &mut bias);
        bias
    })
}

/// Collects the members' rows, with or without drafts, and the span of output rows of each member. A member in the
/// middle of its prompt has an output row only in a step that verifies drafts, where every member needs one.
fn rows<'a>(members: &[&'a Member], biases: &'a [Vec<f32>], drafts: bool) -> (Rows<'a>, SmallVec<[DraftSpan; 8]>) {
    let (mut rows, mut spans) = (Rows::new(), SmallVec::new());
    let (mut outs, mut biases) = (0, biases.iter());
    for (place, member) in members.iter().enumerate() {
        let first_out = member.first_out();
        let end = if drafts { member.rows().end } else { first_out + 1 };
        let asks = drafts || member.samples();
        let len = first_out + 1;
        let count = if asks { end - first_out } else { 0 };
        let mine: SmallVec<[&Vec<f32>; 16]> = if member.has_bias() {
            biases.by_ref().take(member.rows().end - first_out).collect()
        } else {
            SmallVec::new()
        };
        spans.push(DraftSpan { first: outs, drafts: count.saturating_sub(1), len });
        outs += count;
        for position in member.rows().start..end {
            let out = (asks && position >= first_out).then(|| position - first_out);
            let wants = out.map_or(StepWants::Nothing, |i| token(member, position, mine.get(i).map(|b| b.as_slice())));
            rows.push(StepRow { token: member.tokens[position], sequence: place, position, wants });
        }
    }
    (rows, spans)
}

fn token<'a>(member: &'a Member, position: usize, bias: Option<&'a [f32]>) -> StepWants<'a> {
    StepWants::Token { sampling: &member.request.sampling, recent: &member.tokens[..=position], bias }
}

/// The baseline: runs each draft in a separate step while they are accepted, comparing its sample on the host.
fn one_by_one(
    engine: &mut Engine,
    members: &[&Member],
    biases: &[Vec<f32>],
    outcomes: &mut Outcomes,
) -> Result<(), EngineError> {
    let mut biases = biases.iter();
    for (member, outcome) in members.iter().zip(outcomes) {
        let first_out = member.first_out();
        let count = if member.has_bias() { member.rows().end - first_out } else { 0 };
        let mine: SmallVec<[&Vec<f32>; 16]> = biases.by_ref().take(count).collect();
        let drafts: Range<usize> = first_out + 1..member.rows().end;
        for position in drafts {
            let draft = member.tokens[position];
            if draft != outcome.next {
                break;
            }
            let wants = token(member, position, mine.get(position - first_out).map(|b| b.as_slice()));
            let row = StepRow { token: draft, sequence: 0, position, wants };
            outcome.next = engine.step(&Step { sequences: &[&member.sequence], rows: &[row] })?[0];
            outcome.accepted += 1;
        }
    }
    Ok(())
}
