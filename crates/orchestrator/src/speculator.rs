//! The speculator, which an engine asks before each step or burst and tells the result after it.
//!
//! It has no clock: times come in as data, so a run can be replayed from its figures, and the same figures give the same
//! choices. They may be measured or modelled, but not both: the first one decides ([`Speculator::clock`]), and steps timed
//! by the other clock teach nothing.
//!
//! Several batches may share one: what a choice may lose is held back from the others until its step is observed or
//! abandoned.

use crate::acceptance::Acceptance;
use crate::bursts::{BurstChoice, BurstLimits, Bursts, ObservedBurst};
use crate::chooser::{Booking, Chooser, OUTLIER, Timed};
use crate::drafter::DrafterKind;
use crate::drafter::Match;
use crate::roofline::StepModel;
use crate::select::{Candidate, Choice};
use crate::step_time::StepTimes;
use aio_plan::{Clock, StepTime};

/// Fixed options of a speculator.
#[derive(Clone, Debug)]
pub struct SpeculationOptions {
    /// Maximum drafts of a sequence per step.
    pub max_drafts: u32,
    /// Maximum rows of a step; 0 and 1 leave no room for drafts.
    pub max_rows: u32,
    /// Initial prediction of step times.
    pub model: StepModel,
}

/// Share of the past that a step leaves in the gain.
const GAIN_KEPT: f64 = 0.98;

/// What drafts have brought lately, in seconds: what the tokens would have taken in plain steps, and what they took.
#[derive(Clone, Copy, Debug, Default)]
struct Gain {
    worth: f64,
    spent: f64,
}

impl Gain {
    fn note(&mut self, worth: f64, spent: f64) {
        if worth.is_finite() && spent.is_finite() {
            self.worth = GAIN_KEPT * self.worth + worth;
            self.spent = GAIN_KEPT * self.spent + spent;
        }
    }
}

/// Result of a step for one sequence.
#[derive(Debug)]
pub struct Outcome<'a> {
    /// The sequence's estimate, which is updated.
    pub acceptance: &'a mut Acceptance,
    /// The drafter's match.
    pub matched: Match,
    /// Number of drafts available, in the step or not.
    pub offered: u32,
    /// Number of drafts in the step.
    pub drafted: u32,
    /// Number of these that were fixed, not chosen.
    pub fixed: u32,
    /// Number of tokens produced, at least 1.
    pub produced: u32,
    /// Number of leading drafts that agree with these tokens. May exceed `drafted`: the token after the accepted ones
    /// shows whether one more draft would have been right.
    pub agreed: u32,
}

/// A completed step.
#[derive(Debug)]
pub struct Observed<'a, 'b> {
    /// The choice that it ran by.
    pub choice: &'a Choice,
    /// Bytes of keys and values read.
    pub kv_bytes: f64,
    /// Time taken, excluding drafting.
    pub time: StepTime,
    /// Seconds spent drafting by the same clock, if not negligible.
    pub draft_seconds: f64,
    /// The part of these spent on fixed drafts.
    pub fixed_seconds: f64,
    /// Results for its sequences.
    pub outcomes: &'a mut [Outcome<'b>],
}

/// Chooses the drafts of steps and bursts.
///
/// A *plain* step is one without chosen drafts. Fixed drafts (a [`Candidate`]'s `fixed`) are part of it: gains and
/// losses of chosen drafts are measured against that step.
#[derive(Clone, Debug)]
pub struct Speculator {
    options: SpeculationOptions,
    steps: Chooser,
    /// Made with the first burst.
    bursts: Option<Box<Bursts>>,
    /// Shared acceptance estimates, by [`DrafterKind`].
    shared: [Acceptance; 2],
    /// Seconds that steps and bursts under way may lose.
    held: f64,
    /// Where its times come from; `None` before the first.
    clock: Option<Clock>,
    gain: Gain,
}

impl Speculator {
    /// A speculator before its first step.
    pub fn new(options: SpeculationOptions) -> Speculator {
        Speculator {
            steps: Chooser::new(options.max_drafts, options.max_rows, options.model.clone()),
            bursts: None,
            shared: [DrafterKind::Text, DrafterKind::Model].map(Acceptance::shared),
            held: 0.0,
            clock: None,
            gain: Gain::default(),
            options,
        }
    }

    /// An estimate for a new sequence, starting from what other sequences with this kind of drafter have learned.
    pub fn sequence(&self, kind: DrafterKind) -> Acceptance {
        self.shared[kind as usize].child()
    }

    /// The step time estimates, except those of bursts.
    pub fn times(&self) -> &StepTimes {
        self.steps.times()
    }

    /// Whether its times are measured or modelled; `None` before the first.
    pub fn clock(&self) -> Option<Clock> {
        self.clock
    }

    /// Whether a time comes from the clock that the others came from.
    fn accepts(&mut self, time: StepTime) -> bool {
        *self.clock.get_or_insert(time.clock()) == time.clock()
    }

    /// Seconds that speculation may still lose, according to the account.
    pub fn balance(&self) -> f64 {
        self.steps.balance() + self.bursts.as_ref().map_or(0.0, |b| b.balance()) - self.held
    }

    /// Speed-up by drafts over recent steps, as a ratio; 1 before the first step. Bursts do not count.
    pub fn gain(&self) -> f64 {
        if self.gain.spent > 0.0 { self.gain.worth / self.gain.spent } else { 1.0 }
    }

    /// Chooses drafts for a step with one row plus its drafts per candidate, which reads `kv_bytes` bytes of keys and
    /// values. [`Speculator::observe`] or [`Speculator::abandon`] must follow.
    pub fn choose(&mut self, candidates: &[Candidate<'_>], kv_bytes: f64) -> Choice {
        let balance = self.balance();
        let pick = self.steps.pick(candidates, kv_bytes, balance);
        let choice = self.steps.choice(candidates, pick);
        self.held += choice.held;
        choice
    }

    /// Chooses the tokens of a burst and the maximum drafts of its steps. [`Speculator::observe_burst`] or
    /// [`Speculator::abandon`] must follow.
    pub fn choose_burst(&mut self, limits: BurstLimits) -> BurstChoice {
        let balance = self.balance();
        let SpeculationOptions { max_drafts, max_rows, model } = &self.options;
        let new = || Box::new(Bursts::new(*max_drafts, *max_rows, model.clone()));
        let choice = self.bursts.get_or_insert_with(new).choose(limits, balance);
        self.held += choice.step.held;
        choice
    }

    /// Forgets a choice whose step or burst failed or did not run.
    pub fn abandon(&mut self, choice: &Choice) {
        self.held = (self.held - choice.held).max(0.0);
    }

    /// Learns from a completed burst.
    pub fn observe_burst(&mut self, burst: &ObservedBurst<'_>) {
        self.abandon(&burst.choice.step);
        if !self.accepts(burst.time) {
            return;
        }
        let steps = &self.steps;
        if let Some(bursts) = &mut self.bursts {
            let opens = bursts.is_open() || !steps.is_open();
            bursts.observe(burst, opens, steps.balance());
        }
    }

    /// Learns from a completed step.
    pub fn observe(&mut self, step: Observed<'_, '_>) {
        self.abandon(step.choice);
        if !self.accepts(step.time) {
            return;
        }
        let sum = |of: fn(&Outcome<'_>) -> u32| step.outcomes.iter().map(of).sum::<u32>();
        let most = self.options.max_rows.max(1);
        let [rows, base] = [sum(|o| 1 + o.drafted), sum(|o| 1 + o.fixed)].map(|rows| rows.min(most));
        let speculative = sum(|o| o.drafted.saturating_sub(o.fixed)) > 0;
        // The tokens that the step would have produced without the chosen drafts.
        let (produced, kept) = (sum(|o| o.produced), sum(|o| o.produced.min(1 + o.fixed)));
        if kept == 0 {
            return;
        }
        let sequences = step.outcomes.len() as u32;
        for outcome in step.outcomes {
            self.learn(outcome);
        }
        let Observed { kv_bytes, draft_seconds, fixed_seconds, .. } = step;
        let seconds = step.time.seconds();
        let timing = Timed { rows, base, kv_bytes, seconds };
        self.steps.time(timing);
        let plain = self.steps.times().time(base, kv_bytes) + fixed_seconds;
        if speculative {
            self.steps.note_speculative(1);
        } else {
            let others = self.bursts.as_ref().is_some_and(|b| b.is_open());
            self.steps.note_plain(plain, self.steps.is_open() || !others);
        }
        self.steps.note_exploration(seconds + draft_seconds, step.choice.hope);
        let share = f64::from(produced) / f64::from(kept);
        let (drafting, fixed) = (draft_seconds, fixed_seconds);
        let worth = self.steps.times().time(sequences, kv_bytes) * f64::from(produced) / f64::from(sequences);
        // The expected time: what made a step slow would have made a plain one slow, too.
        self.gain.note(worth, self.steps.times().time(rows, kv_bytes) + draft_seconds);
        self.steps.book(Booking { timing, speculative, share, cap: OUTLIER, drafting, fixed });
        let other = self.bursts.as_ref().map_or(0.0, |b| b.balance());
        self.steps.cut(plain, other);
    }

    fn learn(&mut self, outcome: &mut Outcome<'_>) {
        let compared = outcome.offered.min(outcome.produced);
        if compared == 0 {
            outcome.acceptance.idle();
        } else {
            let agreed = outcome.agreed.min(compared);
            outcome.acceptance.observe(outcome.matched, compared, agreed);
            self.shared[outcome.acceptance.kind() as usize].observe(outcome.matched, compared, agreed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chooser::{SETTLED, WARM_UP};
    use crate::select::Reason;

    fn speculator(rows: u32) -> Speculator {
        Speculator::new(SpeculationOptions {
            max_drafts: 16,
            max_rows: rows,
            model: StepModel::Table { seconds: vec![(1, 1.0), (64, 2.0)], seconds_per_kv_byte: 0.0 },
        })
    }

    /// Runs a step in which all drafts are right, with the given estimates, and returns the choice.
    fn step(speculator: &mut Speculator, sequences: &mut [Acceptance], drafts: u32, seconds: f64) -> Choice {
        let matched = Match { len: 6 };
        let candidate = |acceptance| Candidate { acceptance, matched, drafts, fixed: 0, seconds_per_draft: 0.0 };
        let candidates: Vec<_> = sequences.iter().map(candidate).collect();
        let choice = speculator.choose(&candidates, 0.0);
        let outcome = |(acceptance, &drafted): (_, &u32)| {
            let produced = drafted + 1;
            Outcome { acceptance, matched, offered: drafts, drafted, fixed: 0, produced, agreed: produced.min(drafts) }
        };
        let mut outcomes: Vec<_> = sequences.iter_mut().zip(&choice.drafts).map(outcome).collect();
        let outcomes = &mut outcomes;
        let (kv_bytes, draft_seconds, fixed_seconds) = (0.0, 0.0, 0.0);
        let time = StepTime::Modelled(seconds);
        let step = Observed { choice: &choice, kv_bytes, time, draft_seconds, fixed_seconds, outcomes };
        speculator.observe(step);
        choice
    }

    #[test]
    fn without_room_for_drafts_there_are_none() {
        for rows in [0, 1] {
            for count in 1..4 {
                let mut speculator = speculator(rows);
                let mut sequences = [(); 3].map(|()| speculator.sequence(DrafterKind::Text));
                for _ in 0..2 * WARM_UP {
                    let choice = step(&mut speculator, &mut sequences[..count], 16, 1.0);
                    assert_eq!((choice.rows, choice.drafts.to_vec()), (count as u32, vec![0; count]), "{rows} {count}");
                }
            }
            let mut speculator = speculator(rows);
            let acceptance = speculator.sequence(DrafterKind::Text);
            let matched = Match { len: 6 };
            let fixed = Candidate { acceptance: &acceptance, matched, drafts: 16, fixed: 4, seconds_per_draft: 0.0 };
            assert_eq!(speculator.choose(&[fixed], 0.0).rows, 5);
            assert_eq!(speculator.choose(&[], 0.0).rows, 0);
        }
    }

    #[test]
    fn the_first_steps_are_plain_and_good_drafts_follow() {
        let mut speculator = speculator(17);
        let mut sequences = [speculator.sequence(DrafterKind::Text)];
        for _ in 0..WARM_UP {
            let choice = step(&mut speculator, &mut sequences, 16, 1.0);
            assert_eq!((choice.rows, choice.reason), (1, Reason::WarmUp));
        }
        let choices: Vec<_> = (0..40).map(|_| step(&mut speculator, &mut sequences, 16, 1.2)).collect();
        assert!(choices.iter().filter(|c| c.rows >= 8).count() > 20, "{choices:?}");
        assert!(step(&mut speculator, &mut sequences, 0, 1.0).reason == Reason::NoDrafts);
    }

    #[test]
    fn sequences_teach_those_with_drafts_of_their_kind() {
        for (kind, other) in [(DrafterKind::Text, DrafterKind::Model), (DrafterKind::Model, DrafterKind::Text)] {
            let mut speculator = speculator(17);
            let chance = |s: &Speculator, kind| s.sequence(kind).chance(Match { len: 6 }, 1);
            let before = [kind, other].map(|k| chance(&speculator, k));
            let mut sequences = [speculator.sequence(kind)];
            for _ in 0..40 {
                step(&mut speculator, &mut sequences, 16, 1.0);
            }
            assert!(
                chance(&speculator, kind) > before[0] + 0.05 && chance(&speculator, other) == before[1],
                "{kind:?}"
            );
        }
    }

    #[test]
    fn rows_are_never_exceeded() {
        let mut speculator = speculator(9);
        let mut sequences = vec![speculator.sequence(DrafterKind::Text); 6];
        for i in 0..50 {
            let choice = step(&mut speculator, &mut sequences, 16, 1.0 + f64::from(i % 3) * 0.01);
            assert!(choice.rows <= 9 && choice.rows == 6 + choice.drafts.iter().sum::<u32>());
        }
        let mut many = vec![speculator.sequence(DrafterKind::Text); 12];
        assert_eq!(step(&mut speculator, &mut many, 4, 1.0).reason, Reason::NoDrafts);
        assert_eq!(speculator.choose(&[], 0.0).rows, 0);
    }

    #[test]
    fn nothing_grows_after_the_first_steps() {
        let mut speculator = speculator(64);
        let mut sequences = vec![speculator.sequence(DrafterKind::Text); 8];
        let mut room = None;
        for i in 0..300 {
            let choice = step(&mut speculator, &mut sequences, 7, 1.0 + f64::from(i % 5) * 0.02);
            assert!(!choice.drafts.spilled() && !choice.losers.spilled());
            let now = speculator.steps.room();
            assert_eq!(*room.get_or_insert(now), now, "step {i}");
        }
    }

    #[test]
    fn the_gain_is_that_of_the_last_steps() {
        let mut speculator = speculator(17);
        let mut sequences = [speculator.sequence(DrafterKind::Text)];
        assert_eq!(speculator.gain(), 1.0);
        (0..20).for_each(|_| _ = step(&mut speculator, &mut sequences, 0, 1.0));
        assert!((speculator.gain() - 1.0).abs() < 1e-9, "plain steps: {}", speculator.gain());
        (0..400).for_each(|_| _ = step(&mut speculator, &mut sequences, 4, 1.25));
        // Steps of five tokens, and now and then a plain one, which takes as long.
        assert!((4.5..5.0).contains(&speculator.gain()), "{}", speculator.gain());
    }

    #[test]
    fn dear_drafts_are_not_made() {
        let mut speculator = speculator(17);
        let mut acceptance = speculator.sequence(DrafterKind::Text);
        for _ in 0..200 {
            let matched = Match { len: 6 };
            let acceptance = &mut acceptance;
            let candidate = Candidate { acceptance, matched, drafts: 8, fixed: 0, seconds_per_draft: 2.0 };
            let choice = speculator.choose(&[candidate], 0.0);
            let drafted = choice.drafts[0];
            assert_eq!(drafted, 0, "a draft takes longer than a plain step");
            let outcomes =
                &mut [Outcome { acceptance, matched, offered: 0, drafted, fixed: 0, produced: 1, agreed: 0 }];
            let (time, draft_seconds, fixed_seconds) = (StepTime::Modelled(1.0), 0.0, 0.0);
            let (choice, kv_bytes) = (&choice, 0.0);
            speculator.observe(Observed { choice, kv_bytes, time, draft_seconds, fixed_seconds, outcomes });
        }
    }

    #[test]
    fn clocks_that_tell_nothing_do_no_harm() {
        let mut speculator = speculator(17);
        let mut sequences = [speculator.sequence(DrafterKind::Text)];
        for seconds in [f64::NAN, 0.0, -1.0, f64::INFINITY].repeat(20) {
            let choice = step(&mut speculator, &mut sequences, 8, seconds);
            assert!(choice.expected_seconds.is_finite() && choice.rows <= 17);
        }
    }

    /// A step timed by another clock than the first one gives its stake back and teaches nothing.
    #[test]
    fn times_of_two_clocks_are_not_mixed() {
        let mut speculator = speculator(17);
        let mut sequences = [speculator.sequence(DrafterKind::Text)];
        assert_eq!(speculator.clock(), None);
        (0..SETTLED + 1).for_each(|_| _ = step(&mut speculator, &mut sequences, 0, 1.0));
        assert_eq!(speculator.clock(), Some(Clock::Modelled));
        let before = (speculator.times().time(1, 0.0), speculator.balance());
        let [acceptance] = &mut sequences;
        let matched = Match { len: 6 };
        let candidate = Candidate { acceptance, matched, drafts: 16, fixed: 0, seconds_per_draft: 0.0 };
        let choice = speculator.choose(&[candidate], 0.0);
        let outcomes =
            &mut [Outcome { acceptance, matched, offered: 16, drafted: 16, fixed: 0, produced: 1, agreed: 0 }];
        let (kv_bytes, draft_seconds, fixed_seconds) = (0.0, 0.0, 0.0);
        let time = StepTime::Measured(100.0);
        let (choice, outcomes) = (&choice, &mut outcomes[..]);
        speculator.observe(Observed { choice, kv_bytes, time, draft_seconds, fixed_seconds, outcomes });
        assert_eq!((speculator.times().time(1, 0.0), speculator.balance()), before);
    }

    /// What a step under way may lose is not there for another; an abandoned one gives it back.
    #[test]
    fn choices_under_way_share_the_account() {
        let mut speculator = speculator(17);
        let mut sequences = [speculator.sequence(DrafterKind::Text)];
        (0..SETTLED + 1).for_each(|_| _ = step(&mut speculator, &mut sequences, 0, 1.0));
        let before = speculator.balance();
        let matched = Match { len: 6 };
        let [acceptance] = &sequences;
        let candidate = Candidate { acceptance, matched, drafts: 16, fixed: 0, seconds_per_draft: 0.0 };
        let mut under_way = Vec::new();
        while speculator.balance() >= 1.0 && under_way.len() < 20 {
            under_way.push(speculator.choose(&[candidate], 0.0));
        }
        assert!(under_way[0].rows > 1 && speculator.balance() >= 0.0, "{under_way:?}");
        let last = speculator.choose(&[candidate], 0.0);
        assert!(last.rows < under_way[0].rows, "{last:?} after {under_way:?}");
        under_way.iter().chain([&last]).for_each(|choice| speculator.abandon(choice));
        assert!((speculator.balance() - before).abs() < 1e-9);
    }
}
