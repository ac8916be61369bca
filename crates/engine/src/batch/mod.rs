//! Decoding of several sequences together, each with its own drafts: the loop that all generation goes through.
//!
//! A step takes what every member has pending: a chunk of its prompt, or its last token and the drafts after it. Members
//! join and leave between steps. Rows do not influence each other, so a member's tokens are the same in any company and
//! with any drafts.

mod assemble;
mod member;
mod stats;

pub use member::MemberId;
pub use stats::SpeculationStats;

use crate::engine::WIDE_ROWS;
use crate::generate::Flow;
use crate::request::{Completion, Speculation};
use crate::{Engine, EngineError, Request, Sequence};
use aio_orchestrator::{Drafter, SuffixDrafter};
use assemble::{Outcomes, run};
use member::Member;
use smallvec::SmallVec;

/// Sequences that are decoded together.
#[derive(Debug, Default)]
pub struct Batch {
    members: Vec<Member>,
    joined: u64,
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

    /// The member that joined longest ago of those that have ended.
    pub fn ended(&self) -> Option<MemberId> {
        self.members.iter().find(|m| !m.is_running()).map(|m| m.id)
    }

    /// Takes a request on. The committed positions of `sequence` hold the first tokens of its prompt. If the request
    /// speculates, the drafter, or else a suffix automaton, is shown prompt and output.
    ///
    /// # Errors
    /// [`EngineError::ContextOverflow`], [`EngineError::EmptyPrompt`], [`EngineError::Option`], and
    /// [`EngineError::BatchFull`]; the sequence is given back with the error.
    pub fn join(
        &mut self,
        engine: &Engine,
        request: Request,
        sequence: Sequence,
        drafter: Option<Box<dyn Drafter>>,
    ) -> Result<MemberId, (EngineError, Sequence)> {
        let limit = WIDE_ROWS as usize;
        if self.members.len() >= limit {
            return Err((EngineError::BatchFull { limit }, sequence));
        }
        if let Err(error) = request.check(engine) {
            return Err((error, sequence));
        }
        let id = MemberId(self.joined);
        self.joined += 1;
        let wanted = request.speculation != Speculation::Off;
        let drafter = drafter.or_else(|| Some(Box::new(SuffixDrafter::default()) as _)).filter(|_| wanted);
        self.members.push(Member::new(id, request, sequence, drafter));
        Ok(id)
    }

    /// Takes a member out, ended or not: what it has generated, and its sequence, which holds prompt and output but for
    /// the last token.
    pub fn leave(&mut self, engine: &Engine, id: MemberId) -> Option<(Completion, Sequence)> {
        let at = self.members.iter().position(|m| m.id == id)?;
        Some(self.members.remove(at).finish(engine))
    }

    /// Runs one step for all members that have not ended, in one submission. `sink` gets each member's text as soon as it is
    /// final, at least once a step, and may end the member.
    ///
    /// # Errors
    /// Device and drafter errors, and [`EngineError::PoolFull`]. All members are as they were and may go on or leave.
    pub fn step(
        &mut self,
        engine: &mut Engine,
        sink: &mut dyn FnMut(MemberId, &str) -> Flow,
    ) -> Result<(), EngineError> {
        if self.running() == 0 {
            return Ok(());
        }
        match self.run(engine) {
            Ok(outcomes) => {
                for (member, outcome) in self.members.iter_mut().filter(|m| m.is_running()).zip(outcomes) {
                    member.take(engine, outcome, sink);
                }
                Ok(())
            }
            Err(error) => {
                self.members.iter_mut().for_each(Member::drop_drafts);
                Err(error)
            }
        }
    }

    /// Drafts, reserves and runs; for each running member how many drafts were right and the token after them.
    fn run(&mut self, engine: &mut Engine) -> Result<Outcomes, EngineError> {
        let mut budget = engine.prefill_rows();
        let context = engine.context();
        let running = self.running();
        for member in self.members.iter_mut().filter(|m| m.is_running()) {
            member.plan_chunk(&mut budget);
            member.draft(context, (WIDE_ROWS as usize - running) / running)?;
        }
        for member in self.members.iter_mut().filter(|m| m.is_running()) {
            let end = member.rows().end;
            engine.reserve(&mut member.sequence, end)?;
        }
        let running: SmallVec<[&Member; 8]> = self.members.iter().filter(|m| m.is_running()).collect();
        run(engine, &running)
    }
}
