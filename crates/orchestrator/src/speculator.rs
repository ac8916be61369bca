//! The speculator, which an engine asks before each step and tells the result after it.
//!
//! It combines step times, acceptance, selection and the account. It has no clock: seconds come in as data, so a run
//! can be replayed from its figures, and the same figures give the same choices.

use crate::acceptance::Acceptance;
use crate::drafter::DrafterKind;
use crate::drafter::Match;
use crate::ledger::{CAP, Entry, Ledger};
use crate::roofline::StepModel;
use crate::select::{Alternative, Candidate, Choice, Division, Reason, losers};
use crate::shape::SINGLE;
use crate::step_time::{Curve, StepTimes};

/// Plain steps before the first draft.
const WARM_UP: u32 = 1;
/// Plain steps after which their time is considered known.
const SETTLED: u32 = 3;
/// Minimum expected gain, so that noise does not make choices flicker.
const MARGIN: f64 = 0.02;
/// Steps with drafts between timings of a plain step: while the account is low, and while it is well filled.
const PROBE_LOW: u32 = 8;
const PROBE_FULL: u32 = 32;
/// The same, when something looks wrong.
const PROBE_SOON: u32 = 4;
/// A gain too large for any plausible misjudgement of plain steps, and the factor by which a timing may then be
/// delayed, until a step in which drafts promise less.
const CLEAR: f64 = 2.0;
const PATIENCE: u32 = 4;
/// Cap on a step's booked time, relative to the expected time: any step may hiccup, including plain ones.
const OUTLIER: f64 = 3.0;
/// Change of speed, in logarithms, that triggers an earlier plain step. Grows with the noise.
const SURPRISE: f64 = 0.1;
const SURPRISE_DEVIATIONS: f64 = 2.0;
/// Steps between explorations: initially, the maximum after failures, and the maximum while drafts pay.
const EXPLORE_FIRST: u32 = 8;
const EXPLORE_LAST: u32 = 512;
const EXPLORE_PAYING: u32 = 24;
/// Balance that an exploration must leave, in plain steps.
const EXPLORE_LEAVES: f64 = 1.0;
/// Maximum risk of a single step, in plain steps, however full the account: its cost estimate may be wrong.
const RISK: f64 = 6.0;

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
    /// Bytes of keys and values read.
    pub kv_bytes: f64,
    /// Seconds taken, excluding drafting.
    pub seconds: f64,
    /// Seconds spent drafting, if not negligible.
    pub draft_seconds: f64,
    /// The part of these spent on fixed drafts.
    pub fixed_seconds: f64,
    /// Results for its sequences.
    pub outcomes: &'a mut [Outcome<'b>],
}

/// Chooses drafts for the steps of one batch.
///
/// A *plain* step is one without chosen drafts. Fixed drafts (a [`Candidate`]'s `fixed`) are part of it: gains and
/// losses of chosen drafts are measured against that step.
#[derive(Clone, Debug)]
pub struct Speculator {
    options: SpeculationOptions,
    times: StepTimes,
    ledger: Ledger,
    /// Shared acceptance estimates, by [`DrafterKind`].
    shared: [Acceptance; 2],
    /// Plain steps seen, up to one more than [`SETTLED`].
    plain: u32,
    /// Steps with drafts since the last plain one, and the speed at that time.
    run: u32,
    anchor: f64,
    /// Rows of the last step.
    last_rows: u32,
    /// Steps since the last exploration, the number required between two, and, during an exploration, the seconds it
    /// must stay below to be worth it.
    waited: u32,
    wait: u32,
    exploring: Option<f64>,
    curve: Curve,
    division: Division,
    considered: Vec<Alternative>,
}

impl Speculator {
    /// A speculator before its first step.
    pub fn new(options: SpeculationOptions) -> Speculator {
        let rows = options.max_rows.max(1);
        Speculator {
            times: StepTimes::new(options.model.clone(), rows),
            ledger: Ledger::new(rows),
            shared: [DrafterKind::Text, DrafterKind::Model].map(Acceptance::shared),
            plain: 0,
            run: 0,
            anchor: 0.0,
            last_rows: 0,
            waited: 0,
            wait: EXPLORE_FIRST,
            exploring: None,
            curve: Curve::default(),
            division: Division::default(),
            considered: Vec::new(),
            options,
        }
    }

    /// An estimate for a new sequence, starting from what other sequences with this kind of drafter have learned.
    pub fn sequence(&self, kind: DrafterKind) -> Acceptance {
        self.shared[kind as usize].child()
    }

    /// The step time estimates.
    pub fn times(&self) -> &StepTimes {
        &self.times
    }

    /// Seconds that speculation may still lose, according to the account.
    pub fn balance(&self) -> f64 {
        self.ledger.balance(self.times.caution())
    }

    /// Chooses drafts for a step with one row plus its drafts per candidate, which reads `kv_bytes` bytes of keys and
    /// values.
    pub fn choose(&mut self, candidates: &[Candidate<'_>], kv_bytes: f64) -> Choice {
        let fixed: u32 = candidates.iter().map(|c| c.fixed).sum();
        let base = candidates.len() as u32 + fixed;
        // With fixed drafts, rows are limited to those with separate estimates. Beyond, the cost of one more draft in a
        // step that already has many is not known well enough.
        let most = if fixed > 0 { self.options.max_rows.min(SINGLE) } else { self.options.max_rows };
        let room = most.saturating_sub(base);
        self.division.fill(candidates, room, self.options.max_drafts);
        self.consider(base, fixed, kv_bytes);
        let (total, reason) = self.decide(base);
        let chosen = self.considered[total];
        Choice {
            drafts: self.division.drafts(candidates, total),
            rows: base + total as u32,
            expected_tokens: chosen.tokens,
            expected_seconds: chosen.seconds,
            losers: losers(&self.considered, total),
            reason,
        }
    }

    /// Learns from a completed step.
    pub fn observe(&mut self, step: Observed<'_, '_>) {
        let sum = |of: fn(&Outcome<'_>) -> u32| step.outcomes.iter().map(of).sum::<u32>();
        let most = self.options.max_rows.max(1);
        let [rows, base] = [sum(|o| 1 + o.drafted), sum(|o| 1 + o.fixed)].map(|rows| rows.min(most));
        let speculative = sum(|o| o.drafted.saturating_sub(o.fixed)) > 0;
        // The tokens that the step would have produced without the chosen drafts.
        let (produced, kept) = (sum(|o| o.produced), sum(|o| o.produced.min(1 + o.fixed)));
        if kept == 0 {
            return;
        }
        for outcome in step.outcomes {
            self.learn(outcome);
        }
        self.times.compare_with(base);
        self.last_rows = rows;
        let spent = self.ledger.spent(self.times.caution());
        if self.times.observe(rows, step.kv_bytes, step.seconds) {
            self.ledger.settle(spent);
        }
        let plain = self.times.time(base, step.kv_bytes) + step.fixed_seconds;
        if speculative {
            self.run += 1;
        } else {
            self.note_plain(plain);
        }
        self.note_exploration(step.seconds + step.draft_seconds);
        let share = f64::from(produced) / f64::from(kept);
        self.ledger.book(Entry {
            rows,
            speculative,
            worth: plain * share,
            modelled: self.times.modelled(rows, step.kv_bytes),
            // A plain step also makes its fixed drafts, so only chosen drafts are charged.
            drafting: step.draft_seconds - if speculative { 0.0 } else { step.fixed_seconds },
            measured: step.seconds.min(OUTLIER * self.times.time(rows, step.kv_bytes)),
            measured_worth: (self.times.plain_time(step.kv_bytes) + step.fixed_seconds) * share,
        });
        self.ledger.cut(self.times.caution(), plain);
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

    fn note_plain(&mut self, plain: f64) {
        self.run = 0;
        self.anchor = self.times.level();
        self.plain = (self.plain + 1).min(SETTLED + 1);
        if (WARM_UP..=SETTLED).contains(&self.plain) {
            self.ledger.open(plain);
        }
    }

    fn note_exploration(&mut self, seconds: f64) {
        self.waited = self.waited.saturating_add(1);
        if let Some(limit) = self.exploring.take() {
            self.waited = 0;
            self.wait = if seconds < limit { EXPLORE_FIRST } else { (2 * self.wait).min(EXPLORE_LAST) };
        }
    }

    /// Computes tokens and seconds of each total beyond the `base` rows of a plain step, of which `fixed` are drafts.
    fn consider(&mut self, base: u32, fixed: u32, kv_bytes: f64) {
        let totals = self.division.tokens.len() as u32;
        self.times.compare_with(base);
        self.times.curve((base + totals - 1).max(1), kv_bytes, &mut self.curve);
        self.considered.clear();
        for total in 0..totals {
            let seconds = self.seconds(&self.curve.likely, base, total as usize);
            let tokens = self.division.tokens[total as usize];
            self.considered.push(Alternative { drafts: fixed + total, tokens, seconds });
        }
    }

    /// Seconds of a total by one of the curve's estimates, including drafting.
    fn seconds(&self, times: &[f64], base: u32, total: usize) -> f64 {
        let rows = (base as usize + total).clamp(1, times.len());
        times[rows - 1] + self.division.drafting[total]
    }

    fn decide(&mut self, base: u32) -> (usize, Reason) {
        self.exploring = None;
        let most = self.considered.len() - 1;
        if most == 0 {
            return (0, Reason::NoDrafts);
        }
        if self.plain < WARM_UP {
            return (0, Reason::WarmUp);
        }
        let plain = self.considered[0];
        let balance = self.balance();
        let purse = balance.min(RISK * plain.seconds);
        if self.must_probe(base, balance, purse) {
            return (0, Reason::Probe);
        }
        let threshold = plain.rate() * (1.0 + MARGIN);
        let all = self.best(1..=most, threshold, |n| self.considered[n].rate());
        // If the account is low, considers only totals whose failure it can pay for.
        let paid = (1..=most).filter(|&n| self.risk(base, n) <= purse);
        let best = self.best(paid, threshold, |n| self.considered[n].rate());
        if let Some(n) = self.explore(base, best.unwrap_or(0), purse) {
            return (n, Reason::Explore);
        }
        if best.is_some_and(|n| self.repeats_unproven(base, n)) {
            return (0, Reason::Probe);
        }
        match (best, all) {
            (Some(n), Some(m)) if n == m => (n, Reason::Gain),
            (_, Some(_)) => (best.unwrap_or(0), Reason::Account),
            _ => (0, Reason::NoGain),
        }
    }

    /// Whether a total repeats a row count that is not yet proven. Only a change of rows teaches what rows cost, so the
    /// plain step in between is not wasted.
    fn repeats_unproven(&self, base: u32, total: usize) -> bool {
        let rows = base + total as u32;
        rows == self.last_rows && !self.times.proven(rows)
    }

    /// The total with the highest rate above a threshold, the smallest among equals.
    fn best(&self, totals: impl Iterator<Item = usize>, threshold: f64, rate: impl Fn(usize) -> f64) -> Option<usize> {
        let mut best = None;
        let mut highest = threshold;
        for n in totals {
            if rate(n) > highest {
                (best, highest) = (Some(n), rate(n));
            }
        }
        best
    }

    /// Seconds lost if no draft of a total is accepted.
    fn risk(&self, base: u32, total: usize) -> f64 {
        self.seconds(&self.curve.cautious, base, total) - self.considered[0].seconds
    }

    /// Whether a plain step is due to be timed.
    fn must_probe(&self, base: u32, balance: f64, purse: f64) -> bool {
        let plain = self.considered[0];
        let interval = if balance > CAP / 2.0 * plain.seconds { PROBE_FULL } else { PROBE_LOW };
        let change = (self.times.level() - self.anchor).abs();
        let surprise = SURPRISE + SURPRISE_DEVIATIONS * self.times.deviation();
        let amiss = self.times.doubts() || change > surprise || self.plain < SETTLED;
        let due = match amiss {
            // The speed has jumped, so earlier plain steps say nothing about the present.
            _ if change > self.times.jump() => 1,
            true => PROBE_SOON,
            false => interval,
        };
        let clear = (1..self.considered.len())
            .any(|n| self.considered[n].rate() > CLEAR * plain.rate() && self.risk(base, n) <= purse);
        self.run >= if clear { PATIENCE * due } else { due }
    }

    /// A total that would beat the best known one if its steps took only the hopeful time.
    fn explore(&mut self, base: u32, best: usize, purse: f64) -> Option<usize> {
        let wait = if best > 0 { self.wait.min(EXPLORE_PAYING) } else { self.wait };
        if self.waited < wait {
            return None;
        }
        let threshold = self.considered[best].rate() * (1.0 + MARGIN);
        let left = purse - EXPLORE_LEAVES * self.considered[0].seconds;
        let paid = (1..self.considered.len()).filter(|&n| self.risk(base, n) <= left);
        let hopeful = |n: usize| self.considered[n].tokens / self.seconds(&self.curve.hopeful, base, n);
        let chosen = self.best(paid, threshold, hopeful)?;
        self.exploring = Some(self.considered[chosen].tokens / threshold);
        Some(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        speculator.observe(Observed { kv_bytes: 0.0, seconds, draft_seconds: 0.0, fixed_seconds: 0.0, outcomes });
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
            let Division { order, tokens, drafting, .. } = &speculator.division;
            let now = [order.capacity(), tokens.capacity(), drafting.capacity(), speculator.considered.capacity()];
            let curve = &speculator.curve;
            let curves = [curve.likely.capacity(), curve.cautious.capacity(), curve.hopeful.capacity()];
            assert_eq!(*room.get_or_insert((now, curves)), (now, curves), "step {i}");
        }
    }

    #[test]
    fn dear_drafts_are_not_made() {
        let mut speculator = speculator(17);
        let mut acceptance = speculator.sequence(DrafterKind::Text);
        for _ in 0..200 {
            let matched = Match { len: 6 };
            let acceptance = &mut acceptance;
            let candidate = Candidate { acceptance, matched, drafts: 8, fixed: 0, seconds_per_draft: 2.0 };
            let drafted = speculator.choose(&[candidate], 0.0).drafts[0];
            assert_eq!(drafted, 0, "a draft takes longer than a plain step");
            let outcomes =
                &mut [Outcome { acceptance, matched, offered: 0, drafted, fixed: 0, produced: 1, agreed: 0 }];
            let (seconds, draft_seconds, fixed_seconds) = (1.0, 0.0, 0.0);
            speculator.observe(Observed { kv_bytes: 0.0, seconds, draft_seconds, fixed_seconds, outcomes });
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
}
