//! A turn: one step of a batch, as a value that is planned, run, then settled.
//!
//! Planning chooses drafts, divides the step's rows and reserves pages. Running submits the step. Settling adds the
//! outcome to the members' texts and teaches the speculator. A turn that cannot be planned or run is abandoned: its
//! pages are returned, and the members are as before.

use super::chosen::Chosen;
use super::member::{Member, MemberId};
use super::rows::{self, Outcomes};
use super::share::{Outcome, Share};
use crate::flow::Flow;
use crate::limits::MAX_DRAFTS;
use crate::{Engine, EngineError, OutputBuffer};
use aio_ir::sampling::NO_TOKEN;
use aio_orchestrator::{Choice, Observed, Speculator};
use aio_plan::StepTime;
use smallvec::SmallVec;

/// See the module docs.
pub(super) struct Turn<'e> {
    shares: SmallVec<[Share; 4]>,
    /// How drafts were chosen; `None` if nothing was weighed.
    choice: Option<Chosen<'e>>,
    /// Bytes of keys and values that the step reads.
    kv_bytes: f64,
}

/// A step that has run.
pub(super) struct Ran {
    outcomes: Outcomes,
    time: StepTime,
}

impl<'e> Turn<'e> {
    /// Decides what each running member runs. Each has one row and its drafts; prompts share the other rows.
    pub(super) fn plan(engine: &'e Engine, members: &mut [Member]) -> Turn<'e> {
        let running = members.iter().filter(|m| m.is_running()).count();
        let room = engine.verify_rows().saturating_sub(running);
        let each = members.iter_mut().enumerate().filter(|(_, m)| m.is_running());
        let shares: SmallVec<[Share; 4]> =
            each.map(|(i, member)| Share::new(i, member, engine, room.min(engine.most_drafts()))).collect();
        let positions: usize = shares.iter().map(Share::text).sum();
        let kv_bytes = positions as f64 * engine.work().kv_bytes_per_position as f64;
        let mut turn = Turn { shares, choice: None, kv_bytes };
        turn.choose(engine, members, room as u32);
        let rows: usize = turn.shares.iter().map(|s| 1 + s.drafts().len()).sum();
        let mut spare = engine.prefill_rows().saturating_sub(rows);
        let snapshots = engine.keeps_snapshots();
        turn.shares.iter_mut().for_each(|s| s.take_chunk(&mut spare, snapshots));
        turn
    }

    /// Chooses each share's drafts. Fixed drafts come first; the speculator divides the remaining rows.
    fn choose(&mut self, engine: &'e Engine, members: &mut [Member], room: u32) {
        let each = fair(self.shares.iter().map(Share::fixed), room);
        let mut counts: SmallVec<[u32; 8]> = self.shares.iter().map(|s| s.fixed().min(each)).collect();
        // Steps with a prefill chunk say nothing about the cost of drafts.
        if self.shares.iter().any(Share::is_auto) && self.shares.iter().all(Share::samples) {
            if let Some(steps) = engine.speculating().clock() {
                let auto = self.shares.iter_mut().filter(|s| s.is_auto());
                auto.for_each(|s| s.keep_to(steps, &mut members[s.member]));
            }
            let candidate = |(share, &count): (&Share, &u32)| share.candidate(&members[share.member], count);
            let candidates: SmallVec<[_; 8]> = self.shares.iter().zip(&counts).map(candidate).collect();
            let choice = engine.speculating().choose(&candidates, self.kv_bytes);
            counts.clone_from(&choice.drafts);
            self.choice = Some(Chosen::new(engine, choice));
        }
        for (share, count) in self.shares.iter_mut().zip(counts) {
            share.take_drafts(&mut members[share.member], engine, count as usize);
        }
    }

    /// Reserves pages for all rows. Drafts for which the pool has no pages are left out.
    ///
    /// # Errors
    /// See [`Engine::reserve`].
    pub(super) fn reserve(&mut self, engine: &Engine, members: &mut [Member]) -> Result<(), EngineError> {
        for share in &mut self.shares {
            members[share.member].begin();
            share.reserve(&mut members[share.member], engine)?;
        }
        for share in &mut self.shares {
            share.reserve_drafts(&mut members[share.member], engine)?;
            share.prepare(&mut members[share.member], engine);
        }
        Ok(())
    }

    /// Runs the step.
    ///
    /// # Errors
    /// See [`Engine::step`].
    pub(super) fn run(
        &self,
        engine: &Engine,
        members: &mut [Member],
        out: &mut OutputBuffer,
    ) -> Result<Ran, EngineError> {
        let (outcomes, time) = rows::run(engine, members, &self.shares, out)?;
        Ok(Ran { outcomes, time })
    }

    /// Adds the outcomes to the members' texts and teaches the speculator. Returns how drafts were chosen.
    pub(super) fn settle(
        self,
        engine: &Engine,
        members: &mut [Member],
        ran: &Ran,
        sink: &mut dyn FnMut(MemberId, &str) -> Flow,
    ) -> Option<Choice> {
        let mut whole = true;
        for (share, outcome) in self.shares.iter().zip(&ran.outcomes) {
            let member = &mut members[share.member];
            take(member, share, *outcome, engine, sink);
            whole &= member.output.failure.is_none() && keeps_time(member, share, ran.time);
        }
        let Turn { shares, choice, kv_bytes } = self;
        let choice = choice?;
        // A step without a token for every member says nothing about the value of drafts.
        if !whole {
            return choice.abandon();
        }
        choice.observe(|speculator, choice| teach(speculator, members, (&shares, kv_bytes), choice, ran.time))
    }

    /// Returns the pages of a turn that was not run. Returns how drafts were chosen.
    pub(super) fn abandon(self, members: &mut [Member]) -> Option<Choice> {
        for share in &self.shares {
            share.abandon(&mut members[share.member]);
        }
        self.choice.and_then(Chosen::abandon)
    }
}

/// Reports a step to the speculator.
fn teach(
    speculator: &mut Speculator,
    members: &mut [Member],
    (shares, kv_bytes): (&[Share], f64),
    choice: &Choice,
    time: StepTime,
) {
    let of = |fixed: bool| shares.iter().filter(move |s| !fixed || s.fixed() > 0);
    let seconds = |fixed| of(fixed).filter_map(Share::drafting).map(StepTime::seconds).sum();
    let [draft_seconds, fixed_seconds]: [f64; 2] = [false, true].map(seconds);
    let mut left = shares.iter().peekable();
    let lesson = |(i, member)| left.next_if(|s| s.member == i).map(|share| share.lesson(member));
    let mut outcomes: SmallVec<[_; 8]> = members.iter_mut().enumerate().filter_map(lesson).collect();
    let outcomes = &mut outcomes;
    speculator.observe(Observed { choice, kv_bytes, time, draft_seconds, fixed_seconds, outcomes });
}

/// Whether a member's drafts are timed by the clock that timed the step. If not, nothing can be said of their value, and
/// a member with chosen drafts gives its drafter up.
fn keeps_time(member: &mut Member, share: &Share, step: StepTime) -> bool {
    let odd = share.drafting().filter(|drafting| drafting.checked_add(step).is_none());
    if odd.is_some() && share.is_auto() {
        member.keep_to(step.clock());
    }
    odd.is_none()
}

/// Applies the outcome of a step to a member.
fn take(
    member: &mut Member,
    share: &Share,
    outcome: Outcome,
    engine: &Engine,
    sink: &mut dyn FnMut(MemberId, &str) -> Flow,
) {
    member.output.steps += 1;
    if !share.samples() {
        member.commit(share.rows().end);
        return member.ask(sink);
    }
    let first = member.tick();
    let accepted = &share.drafts()[..outcome.accepted.min(share.drafts().len())];
    let next = Some(outcome.next).filter(|&t| t != NO_TOKEN);
    let new = member.push(engine, accepted.iter().copied().chain(next), sink);
    if next.is_none() && member.is_running() {
        member.fail(sink);
    }
    if !first {
        member.timing.decode_steps += 1;
        // Drafts after the end of the output were never compared, so they do not count.
        member.stats.add(share.drafts().len(), outcome.accepted.min(new), new <= outcome.accepted);
    }
    member.commit(member.tokens.len() - 1);
    if !share.drafts().is_empty() {
        share.trim(member);
    }
    member.teach_drafter(new);
}

/// The largest number of drafts per member such that all `wanted` drafts, capped at it, fit into `room`.
fn fair(wanted: impl Iterator<Item = u32> + Clone, room: u32) -> u32 {
    let total = |each: u32| wanted.clone().map(|w| w.min(each)).sum::<u32>();
    (0..=MAX_DRAFTS as u32).rev().find(|&each| total(each) <= room).unwrap_or(0)
}
