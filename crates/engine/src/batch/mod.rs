//! Decodes several sequences together, each with its own drafts. All generation goes through this loop.
//!
//! A step runs what every member has pending: a chunk of its prompt, or its last token and the drafts after it. Members
//! join and leave between steps. Rows do not influence each other, so a member's tokens do not depend on other members
//! or on drafts.

mod assemble;
mod burst;
mod member;
mod stats;

pub use member::MemberId;
pub use stats::SpeculationStats;

use crate::flow::Flow;
use crate::limits::MAX_DRAFTS;
use crate::request::{Completion, Speculation};
use crate::{Engine, EngineError, Request, Sequence};
use aio_orchestrator::{Choice, Drafter, Observed};
use assemble::{Outcomes, run};
use member::Member;
use smallvec::SmallVec;
use std::time::Instant;

/// Sequences that are decoded together. Their pages belong to the engine: before dropping a batch, let its members
/// leave or call [`Batch::clear`], or the engine loses the pages.
#[derive(Debug, Default)]
pub struct Batch {
    members: Vec<Member>,
    joined: u64,
    choice: Option<Choice>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Number of members, including those that have ended but not left.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are no members.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Number of members that still generate.
    pub fn running(&self) -> usize {
        self.members.iter().filter(|m| m.is_running()).count()
    }

    /// How the drafts of the last step were chosen; `None` if nothing was weighed.
    pub fn choice(&self) -> Option<&Choice> {
        self.choice.as_ref()
    }

    /// The tokens that a member has generated so far.
    pub fn generated(&self, id: MemberId) -> Option<&[u32]> {
        self.members.iter().find(|m| m.id == id).map(Member::generated)
    }

    /// Of the members that have ended, the one that joined first.
    pub fn ended(&self) -> Option<MemberId> {
        self.members.iter().find(|m| !m.is_running()).map(|m| m.id)
    }

    /// Adds a request. The committed positions of `sequence` hold the first tokens of its prompt. If the request
    /// speculates, `drafter`, or else a suffix automaton, sees prompt and output.
    ///
    /// # Errors
    /// [`EngineError::ContextOverflow`], [`EngineError::EmptyPrompt`], [`EngineError::Token`], [`EngineError::Option`]
    /// and [`EngineError::BatchFull`]. The sequence is returned with the error.
    pub fn join(
        &mut self,
        engine: &Engine,
        request: Request,
        sequence: Sequence,
        drafter: Option<Box<dyn Drafter>>,
    ) -> Result<MemberId, (EngineError, Sequence)> {
        let limit = engine.batch_rows();
        if self.members.len() >= limit {
            return Err((EngineError::BatchFull { limit }, sequence));
        }
        if let Err(error) = request.check(engine.context(), engine.model().hyper.vocab_size) {
            return Err((error, sequence));
        }
        let id = MemberId(self.joined);
        self.joined += 1;
        self.members.push(Member::new(engine, id, request, sequence, drafter));
        Ok(id)
    }

    /// Removes a member, ended or not. Returns its completion and its sequence, which holds prompt and output except
    /// the last token. For a member that an error ended, returns [`EngineError::NoToken`] and the sequence, whose keys
    /// and values may be damaged; call [`Batch::generated`] first for the tokens generated before the error.
    pub fn leave(&mut self, engine: &Engine, id: MemberId) -> Option<(Result<Completion, EngineError>, Sequence)> {
        let at = self.members.iter().position(|m| m.id == id)?;
        Some(self.members.remove(at).finish(engine))
    }

    /// Removes all members and releases their pages. Their output is lost.
    pub fn clear(&mut self, engine: &mut Engine) {
        for member in self.members.drain(..) {
            member.abandon(engine);
        }
    }

    /// Runs one step for all running members, in one submission; or a burst of steps if the engine has bursts and only
    /// one member is running. `sink` receives each member's text as soon as it is final, at least once per step, and
    /// may end the member.
    ///
    /// Drafting never fails a step: a failing drafter is dropped ([`SpeculationStats::failure`]), and drafts for which
    /// the pool has no pages are left out.
    ///
    /// # Errors
    /// Device errors and [`EngineError::PoolFull`]. All members are unchanged and may continue or leave. A member whose
    /// logits give no token does not fail the step: it ends with an error, and the others continue.
    pub fn step(
        &mut self,
        engine: &mut Engine,
        sink: &mut dyn FnMut(MemberId, &str) -> Flow,
    ) -> Result<(), EngineError> {
        if self.running() == 0 {
            return Ok(());
        }
        if self.burst(engine, sink)? {
            return Ok(());
        }
        match self.run(engine) {
            Ok(run) => {
                let mut whole = true;
                for (member, outcome) in self.members.iter_mut().filter(|m| m.is_running()).zip(&run.outcomes) {
                    member.take(engine, *outcome, sink);
                    member.ran = true;
                    whole &= member.output.failure.is_none();
                }
                // A step without a token for every member says nothing about the value of drafts.
                if whole {
                    self.learn(engine, &run);
                }
                Ok(())
            }
            Err(error) => {
                self.members.iter_mut().for_each(|m| m.drop_drafts(engine));
                Err(error)
            }
        }
    }

    /// Drafts, reserves pages and runs the step.
    fn run(&mut self, engine: &mut Engine) -> Result<StepOutcome, EngineError> {
        for member in &mut self.members {
            member.ran = false;
        }
        let (draft_seconds, weighed) = self.choose(engine);
        // Each member has one row and its drafts. Prompts share the rest of the step.
        let rows: usize = self.members.iter().filter(|m| m.is_running()).map(|m| 1 + m.drafts()).sum();
        let mut spare = engine.prefill_rows().saturating_sub(rows);
        for member in self.members.iter_mut().filter(|m| m.is_running()) {
            member.plan_chunk(&mut spare);
            member.reserve(engine)?;
        }
        let context = engine.context();
        for member in self.members.iter_mut().filter(|m| m.is_running()) {
            member.reserve_drafts(engine)?;
            member.prepare(context);
        }
        let running: SmallVec<[&Member; 8]> = self.members.iter().filter(|m| m.is_running()).collect();
        let kv_bytes = kv_bytes(engine, &running);
        let started = Instant::now();
        let outcomes = run(engine, &running)?;
        let seconds = engine.clock().seconds(rows, kv_bytes, started);
        Ok(StepOutcome { outcomes, seconds, draft_seconds, kv_bytes, weighed })
    }

    /// Chooses each member's drafts. Returns the seconds spent making chosen and fixed drafts, and whether their number
    /// was weighed. Fixed drafts come first; the speculator divides the remaining rows.
    fn choose(&mut self, engine: &mut Engine) -> ([f64; 2], bool) {
        self.choice = None;
        let room = engine.verify_rows().saturating_sub(self.running());
        let (most, context) = (room.min(MAX_DRAFTS), engine.context());
        let mut members: SmallVec<[&mut Member; 8]> = self.members.iter_mut().filter(|m| m.is_running()).collect();
        for member in &mut members {
            member.look_ahead(context, most);
        }
        let each = share(members.iter().map(|m| m.fixed_drafts()), room as u32);
        let mut counts: SmallVec<[u32; 8]> = members.iter().map(|m| m.fixed_drafts().min(each)).collect();
        let auto = members.iter().any(|m| m.request.speculation == Speculation::Auto);
        // Steps with a prefill chunk say nothing about the cost of drafts.
        let weighed = auto && members.iter().all(|m| m.decodes());
        if weighed {
            let candidates: SmallVec<[_; 8]> = members.iter().zip(&counts).map(|(m, &c)| m.candidate(c)).collect();
            let rows: SmallVec<[&Member; 8]> = members.iter().map(|m| &**m).collect();
            let kv_bytes = kv_bytes(engine, &rows);
            let choice = engine.speculator.choose(&candidates, kv_bytes);
            counts.clone_from(&choice.drafts);
            self.choice = Some(choice);
        }
        let mut seconds = [0.0; 2];
        for (member, count) in members.iter_mut().zip(counts) {
            let fixed = member.fixed_drafts() > 0;
            seconds[usize::from(fixed)] += member.take_drafts(count as usize);
        }
        (seconds, weighed)
    }

    /// Reports the step to the speculator.
    fn learn(&mut self, engine: &mut Engine, run: &StepOutcome) {
        if !run.weighed {
            return;
        }
        let ran = self.members.iter_mut().filter(|m| m.ran);
        let mut outcomes: SmallVec<[_; 8]> = ran.map(Member::lesson).collect();
        let StepOutcome { kv_bytes, seconds, draft_seconds: [chosen, fixed_seconds], .. } = *run;
        let (draft_seconds, outcomes) = (chosen + fixed_seconds, &mut outcomes);
        engine.speculator.observe(Observed { kv_bytes, seconds, draft_seconds, fixed_seconds, outcomes });
    }
}

/// A completed step.
struct StepOutcome {
    outcomes: Outcomes,
    seconds: f64,
    /// Seconds spent on chosen and on fixed drafts.
    draft_seconds: [f64; 2],
    kv_bytes: f64,
    /// Whether the speculator chose its drafts.
    weighed: bool,
}

/// The largest number of drafts per member such that all `wanted` drafts, capped at it, fit into `room`.
fn share(wanted: impl Iterator<Item = u32> + Clone, room: u32) -> u32 {
    let total = |each: u32| wanted.clone().map(|w| w.min(each)).sum::<u32>();
    (0..=MAX_DRAFTS as u32).rev().find(|&each| total(each) <= room).unwrap_or(0)
}

/// Bytes of keys and values that a step of these members reads.
fn kv_bytes(engine: &Engine, members: &[&Member]) -> f64 {
    let positions: usize = members.iter().map(|m| m.committed).sum();
    positions as f64 * engine.work().kv_bytes_per_position as f64
}
