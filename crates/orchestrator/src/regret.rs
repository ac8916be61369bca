//! How far the drafts that a speculator settles on are from the best ones.
//!
//! A trial is a batch of like sequences: equal contexts, and drafts that are each accepted with the same chance after
//! accepted ones. The speculator chooses, step by step, as it does in an engine; whoever runs the trial says what each
//! step took, by measuring it or from a table ([`RecordedSteps`](crate::RecordedSteps)). Whether drafts agree is drawn
//! from a seed. Used by `aio bench plans` and by the tests.

use crate::acceptance::Acceptance;
use crate::drafter::{DrafterKind, Match};
use crate::random::Random;
use crate::select::{Candidate, Choice, Reason};
use crate::speculator::{Observed, Outcome, Speculator};
use aio_plan::StepTime;

/// The match that drafts are based on.
const MATCHED: Match = Match { len: 4 };

/// Like sequences that are decoded together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trial {
    /// Sequences of a step.
    pub sequences: u32,
    /// Drafts that each sequence has in each step.
    pub offered: u32,
    /// Chance in [0, 1] that a draft is accepted after accepted ones.
    pub chance: f64,
    /// Bytes of keys and values that a step reads.
    pub kv_bytes: f64,
}

impl Trial {
    /// Expected tokens of a step with these drafts by sequence.
    pub fn tokens(&self, drafts: &[u32]) -> f64 {
        drafts.iter().map(|&n| (0..=n).map(|i| self.chance.powi(i as i32)).sum::<f64>()).sum()
    }

    /// `total` drafts, divided as evenly as possible, which is best for like sequences.
    pub fn even(&self, total: u32) -> Vec<u32> {
        (0..self.sequences).map(|i| total / self.sequences + u32::from(i < total % self.sequences)).collect()
    }

    /// The total of drafts, at most `most`, with the highest rate of expected tokens over `seconds` of a number of rows,
    /// and that rate. The smallest total among equals.
    pub fn best(&self, most: u32, seconds: impl Fn(u32) -> f64) -> (u32, f64) {
        let rate = |total: u32| self.tokens(&self.even(total)) / seconds(self.sequences + total);
        let totals = 0..=most.min(self.offered * self.sequences);
        totals.map(|total| (total, rate(total))).fold((0, 0.0), |best, next| if next.1 > best.1 { next } else { best })
    }

    /// Runs `steps` steps by the speculator's choices, then goes on until a choice is not made to measure something, at
    /// most as many steps again. Returns that choice. `time` runs a step with these drafts by sequence.
    ///
    /// # Errors
    /// The errors of `time`.
    pub fn settle<E>(
        &self,
        speculator: &mut Speculator,
        (steps, seed): (u32, u64),
        mut time: impl FnMut(&[u32]) -> Result<StepTime, E>,
    ) -> Result<Choice, E> {
        let mut random = Random::new(seed);
        let mut estimates: Vec<_> = (0..self.sequences).map(|_| speculator.sequence(DrafterKind::Text)).collect();
        let mut step = 0;
        loop {
            let choice = self.choose(speculator, &estimates);
            let measures = matches!(choice.reason, Reason::WarmUp | Reason::Probe | Reason::Explore);
            if step >= steps && (!measures || step >= 2 * steps) {
                speculator.abandon(&choice);
                return Ok(choice);
            }
            match time(&choice.drafts) {
                Ok(time) => self.learn(speculator, &mut estimates, (&choice, time), &mut random),
                Err(error) => {
                    speculator.abandon(&choice);
                    return Err(error);
                }
            }
            step += 1;
        }
    }

    fn choose(&self, speculator: &mut Speculator, estimates: &[Acceptance]) -> Choice {
        let candidate = |acceptance| Candidate {
            acceptance,
            matched: MATCHED,
            drafts: self.offered,
            fixed: 0,
            seconds_per_draft: 0.0,
        };
        let candidates: Vec<_> = estimates.iter().map(candidate).collect();
        speculator.choose(&candidates, self.kv_bytes)
    }

    fn learn(
        &self,
        speculator: &mut Speculator,
        estimates: &mut [Acceptance],
        (choice, time): (&Choice, StepTime),
        random: &mut Random,
    ) {
        let offered = self.offered;
        let outcome = |(acceptance, &drafted): (_, &u32)| {
            let right = (0..offered).take_while(|_| random.unit() < self.chance).count() as u32;
            let produced = right.min(drafted) + 1;
            let agreed = right.min(produced);
            Outcome { acceptance, matched: MATCHED, offered, drafted, fixed: 0, produced, agreed }
        };
        let mut outcomes: Vec<_> = estimates.iter_mut().zip(&choice.drafts).map(outcome).collect();
        let (kv_bytes, draft_seconds, fixed_seconds, outcomes) = (self.kv_bytes, 0.0, 0.0, &mut outcomes[..]);
        speculator.observe(Observed { choice, kv_bytes, time, draft_seconds, fixed_seconds, outcomes });
    }
}
