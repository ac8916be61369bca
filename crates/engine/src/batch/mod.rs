//! Decodes several sequences together, each with its own drafts. All generation goes through this loop.
//!
//! A step runs what every member has pending: a chunk of its prompt, or its last token and the drafts after it. Members
//! join and leave between steps. Rows do not influence each other, so a member's tokens do not depend on other members
//! or on drafts. `member.rs` is the text of a member, `turn.rs` one step.

mod burst;
mod chosen;
mod member;
mod rows;
mod share;
mod stats;
mod turn;

pub use member::MemberId;
pub use stats::SpeculationStats;

use crate::flow::Flow;
use crate::request::Completion;
use crate::{Engine, EngineError, OutputBuffer, Request, Sequence};
use aio_orchestrator::{Choice, Drafter};
use member::Member;
use turn::Turn;

/// Sequences that are decoded together. Dropping a batch drops its members' sequences, which returns their pages.
#[derive(Debug, Default)]
pub struct Batch {
    members: Vec<Member>,
    joined: u64,
    choice: Option<Choice>,
    outputs: OutputBuffer,
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

    /// Adds a request. The committed positions of `sequence` hold the first tokens of its prompt. With recurrent state, a
    /// sequence that is too long is cut at a length whose state was kept, and the rest runs again. If the request
    /// speculates, `drafter`, or else a suffix automaton, sees prompt and output.
    ///
    /// # Errors
    /// [`EngineError::ContextOverflow`], [`EngineError::EmptyPrompt`], [`EngineError::Token`], [`EngineError::Option`]
    /// and [`EngineError::BatchFull`]. The sequence is returned with the error.
    pub fn join(
        &mut self,
        engine: &Engine,
        request: Request,
        mut sequence: Sequence,
        drafter: Option<Box<dyn Drafter>>,
    ) -> Result<MemberId, (EngineError, Sequence)> {
        let limit = engine.batch_rows();
        if self.members.len() >= limit {
            return Err((EngineError::BatchFull { limit }, sequence));
        }
        if let Err(error) = engine.check(&request) {
            return Err((error, sequence));
        }
        // The last token always runs, for its logits. A request for no tokens leaves the sequence alone.
        let kept = sequence.len().min(request.prompt.len() - 1);
        if request.max_tokens != Some(0) {
            sequence.rewind(kept);
        }
        let id = MemberId(self.joined);
        self.joined += 1;
        self.members.push(Member::new(engine, id, request, sequence, drafter));
        Ok(id)
    }

    /// Removes a member, ended or not. Returns its completion and its sequence, which holds prompt and output except
    /// the last token (less if the recurrent state of that length was not kept). For a member that an error ended, returns [`EngineError::NoToken`] and the sequence, whose keys
    /// and values may be damaged; call [`Batch::generated`] first for the tokens generated before the error.
    pub fn leave(&mut self, engine: &Engine, id: MemberId) -> Option<(Result<Completion, EngineError>, Sequence)> {
        let at = self.members.iter().position(|m| m.id == id)?;
        Some(self.members.remove(at).finish(engine))
    }

    /// Runs one step for all running members, in one submission; or a burst of steps if the engine has bursts and only
    /// one member is running. `sink` receives each member's text as soon as it is final, at least once per step, and
    /// may end the member.
    ///
    /// Drafting never fails a step: a failing drafter is dropped ([`SpeculationStats::failure`]), and drafts for which
    /// the pool has no pages are left out.
    ///
    /// # Errors
    /// Device errors, [`EngineError::PoolFull`], [`EngineError::SlotsFull`], and [`EngineError::Reentered`] in a receiver
    /// of text during a burst. All members are unchanged and may continue or leave. A member whose logits give no token
    /// does not fail the step: it ends with an error, and the others continue.
    pub fn step(&mut self, engine: &Engine, sink: &mut dyn FnMut(MemberId, &str) -> Flow) -> Result<(), EngineError> {
        if self.running() == 0 || self.burst(engine, sink)? {
            return Ok(());
        }
        let Batch { members, outputs, .. } = self;
        let mut turn = Turn::plan(engine, members);
        let ran = turn.reserve(engine, members).and_then(|()| turn.run(engine, members, outputs));
        let (choice, result) = match ran {
            Ok(ran) => (turn.settle(engine, members, &ran, sink), Ok(())),
            Err(error) => (turn.abandon(members), Err(error)),
        };
        self.choice = choice;
        result
    }
}
