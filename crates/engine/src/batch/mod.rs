//! Decoding of several sequences together, each with its own drafts: the loop that all generation goes through.
//!
//! A step takes what every member has pending: a chunk of its prompt, or its last token and the drafts after it. Members
//! join and leave between steps. Rows do not influence each other, so a member's tokens are the same in any company and
//! with any drafts.

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

/// Sequences that are decoded together. Their pages are the engine's: members leave, or [`Batch::clear`] gives all back, before
/// a batch is dropped, or the pages are lost to the engine.
#[derive(Debug, Default)]
pub struct Batch {
    members: Vec<Member>,
    joined: u64,
    choice: Option<Choice>,
}

impl Batch {
    /// Without members.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Members, those that have ended and not left included.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Members that still generate.
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

    /// The member that joined longest ago of those that have ended.
    pub fn ended(&self) -> Option<MemberId> {
        self.members.iter().find(|m| !m.is_running()).map(|m| m.id)
    }

    /// Takes a request on. The committed positions of `sequence` hold the first tokens of its prompt. If the request
    /// speculates, the drafter, or else a suffix automaton, is shown prompt and output.
    ///
    /// # Errors
    /// [`EngineError::ContextOverflow`], [`EngineError::EmptyPrompt`], [`EngineError::Token`], [`EngineError::Option`], and
    /// [`EngineError::BatchFull`]; the sequence is given back with the error.
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

    /// Takes a member out, ended or not: what it has generated, and its sequence, which holds prompt and output but for
    /// the last token. Or, of one that an error ended, that: [`EngineError::NoToken`], and the sequence, whose keys and
    /// values may be as broken. What it had generated before, [`Batch::generated`] says.
    pub fn leave(&mut self, engine: &Engine, id: MemberId) -> Option<(Result<Completion, EngineError>, Sequence)> {
        let at = self.members.iter().position(|m| m.id == id)?;
        Some(self.members.remove(at).finish(engine))
    }

    /// Takes all members out and gives their pages back; what they have generated is lost.
    pub fn clear(&mut self, engine: &mut Engine) {
        for member in self.members.drain(..) {
            member.abandon(engine);
        }
    }

    /// Runs one step for all members that have not ended, in one submission; or, where the engine has bursts and a member is
    /// alone, a burst of steps. `sink` gets each member's text as soon as it is final, at least once a step, and may end the
    /// member.
    ///
    /// A drafter that fails is given up ([`SpeculationStats::failure`]), and drafts for which the pool has no page are left
    /// out: neither fails a step.
    ///
    /// # Errors
    /// Device errors, and [`EngineError::PoolFull`]. All members are as they were and may go on or leave. A member whose
    /// logits give no token is none: it ends with an error of its own, the others go on.
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
                // A step without a token for everyone says nothing of what drafts are worth.
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

    /// Drafts, reserves and runs.
    fn run(&mut self, engine: &mut Engine) -> Result<StepOutcome, EngineError> {
        for member in &mut self.members {
            member.ran = false;
        }
        let (draft_seconds, weighed) = self.choose(engine);
        // Each has one row and its drafts; prompts share what is left of a step.
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

    /// Gives each member its drafts: the seconds that making them took, of chosen and of fixed ones, and whether their number
    /// was weighed. Fixed ones come first; what they leave of the rows is for the speculator to divide.
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
        // Steps with a piece of prompt say nothing of what drafts cost.
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

    /// Tells the speculator what a step taught.
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

/// A step that was run.
struct StepOutcome {
    outcomes: Outcomes,
    seconds: f64,
    /// Of chosen and of fixed drafts.
    draft_seconds: [f64; 2],
    kv_bytes: f64,
    /// Whether the speculator chose its drafts.
    weighed: bool,
}

/// The most drafts that each may have so that all fit, of members which want so many.
fn share(wanted: impl Iterator<Item = u32> + Clone, room: u32) -> u32 {
    let total = |each: u32| wanted.clone().map(|w| w.min(each)).sum::<u32>();
    (0..=MAX_DRAFTS as u32).rev().find(|&each| total(each) <= room).unwrap_or(0)
}

/// Bytes of keys and values that a step of these members reads.
fn kv_bytes(engine: &Engine, members: &[&Member]) -> f64 {
    let positions: usize = members.iter().map(|m| m.committed).sum();
    positions as f64 * engine.work().kv_bytes_per_position as f64
}
