//! Chooses drafts for steps whose times compare with each other, and keeps their account.
//!
//! It combines step times, selection and the ledger. The speculator has one for steps and one for bursts, since a step
//! takes longer alone than in a burst.

use crate::ledger::{CAP, Entry, Ledger};
use crate::roofline::StepModel;
use crate::select::{Alternative, Candidate, Choice, Division, Reason, losers};
use crate::shape::SINGLE;
use crate::step_time::{Curve, StepTimes};

/// Plain steps before the first draft.
pub(crate) const WARM_UP: u32 = 1;
/// Plain steps after which their time is considered known.
pub(crate) const SETTLED: u32 = 3;
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
pub(crate) const OUTLIER: f64 = 3.0;
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

/// A total of chosen drafts, before it is put as a [`Choice`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pick {
    /// Rows of the plain step, and chosen drafts besides.
    pub base: u32,
    pub total: usize,
    pub reason: Reason,
    /// Seconds that drafts may lose before the next pick.
    pub purse: f64,
    /// For an exploration, the seconds that it must stay below to be worth it.
    hope: Option<f64>,
}

impl Pick {
    /// No drafts instead, since the account cannot pay for these.
    pub fn plain(self) -> Pick {
        Pick { total: 0, reason: Reason::Account, hope: None, ..self }
    }
}

/// The rows and seconds that steps show to have taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timed {
    /// Rows of the step, and of the plain step that it is compared with.
    pub rows: u32,
    pub base: u32,
    pub kv_bytes: f64,
    pub seconds: f64,
}

/// A step for the account.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Booking {
    pub timing: Timed,
    pub speculative: bool,
    /// Tokens, relative to those of a plain step.
    pub share: f64,
    /// Cap on the booked seconds, relative to the expected ones.
    pub cap: f64,
    /// Seconds of drafting, and the part of these that a plain step has as well.
    pub drafting: f64,
    pub fixed: f64,
}

/// Least noise of a burst's mean step time, in logarithms, and plain bursts before the first draft. A mean hides that
/// one of few steps took ten times as long; of two means the lower counts.
const BURST_NOISE: f64 = 0.1;
const BURST_WARM_UP: u32 = 2;

/// See the module docs.
#[derive(Clone, Debug)]
pub(crate) struct Chooser {
    max_drafts: u32,
    max_rows: u32,
    /// Whether a pick is for all steps of a burst.
    bursts: bool,
    /// Plain steps before the first draft.
    warm_up: u32,
    times: StepTimes,
    ledger: Ledger,
    /// Plain steps seen, up to one more than [`SETTLED`].
    plain: u32,
    /// Steps with drafts since the last plain one, and the speed at that time.
    run: u32,
    anchor: f64,
    /// Rows of the last step.
    last_rows: u32,
    /// Steps since the last exploration, and the number required between two.
    waited: u32,
    wait: u32,
    curve: Curve,
    division: Division,
    considered: Vec<Alternative>,
}

impl Chooser {
    /// A chooser before its first step.
    pub fn new(max_drafts: u32, max_rows: u32, model: StepModel) -> Chooser {
        let rows = max_rows.max(1);
        Chooser {
            max_drafts,
            max_rows,
            bursts: false,
            warm_up: WARM_UP,
            times: StepTimes::new(model, rows),
            ledger: Ledger::new(rows),
            plain: 0,
            run: 0,
            anchor: 0.0,
            last_rows: 0,
            waited: 0,
            wait: EXPLORE_FIRST,
            curve: Curve::default(),
            division: Division::default(),
            considered: Vec::new(),
        }
    }

    /// A chooser for bursts: a pick must be paid for until a run of as many drafts could be complete.
    pub fn of_bursts(self) -> Chooser {
        Chooser { bursts: true, warm_up: BURST_WARM_UP, times: self.times.with_noise(BURST_NOISE), ..self }
    }

    /// The step time estimates.
    pub fn times(&self) -> &StepTimes {
        &self.times
    }

    /// Seconds that these steps may still lose, according to their ledger.
    pub fn balance(&self) -> f64 {
        self.ledger.balance(self.times.caution())
    }

    /// Whether the initial balance was deposited here.
    pub fn is_open(&self) -> bool {
        self.ledger.is_open()
    }

    /// Picks drafts for a step with one row plus its drafts per candidate, which reads `kv_bytes` bytes of keys and
    /// values. `balance`: seconds that may be lost.
    pub fn pick(&mut self, candidates: &[Candidate<'_>], kv_bytes: f64, balance: f64) -> Pick {
        let fixed: u32 = candidates.iter().map(|c| c.fixed).sum();
        let base = candidates.len() as u32 + fixed;
        // With fixed drafts, rows are limited to those with separate estimates. Beyond, the cost of one more draft in a
        // step that already has many is not known well enough.
        let most = if fixed > 0 { self.max_rows.min(SINGLE) } else { self.max_rows };
        let room = most.saturating_sub(base);
        self.division.fill(candidates, room, self.max_drafts);
        self.consider(base, fixed, kv_bytes);
        self.decide(base, balance)
    }

    /// The pick as a choice.
    pub fn choice(&self, candidates: &[Candidate<'_>], pick: Pick) -> Choice {
        let Pick { base, total, reason, hope, .. } = pick;
        let chosen = self.considered[total];
        Choice {
            drafts: self.division.drafts(candidates, total),
            rows: base + total as u32,
            expected_tokens: chosen.tokens,
            expected_seconds: chosen.seconds,
            losers: losers(&self.considered, total),
            reason,
            held: if total == 0 { 0.0 } else { self.risk(base, total).max(0.0) },
            hope,
        }
    }

    /// The alternatives of the last pick, by chosen drafts.
    pub fn considered(&self) -> &[Alternative] {
        &self.considered
    }

    /// Learns step times. What was spent so far keeps its estimate if the shape turns out to have changed.
    pub fn time(&mut self, step: Timed) {
        self.times.compare_with(step.base);
        self.last_rows = step.rows;
        let spent = self.ledger.spent(self.times.caution());
        if self.times.observe(step.rows, step.kv_bytes, step.seconds) {
            self.ledger.settle(spent);
        }
    }

    /// Notes `steps` steps with drafts.
    pub fn note_speculative(&mut self, steps: u32) {
        self.run = self.run.saturating_add(steps);
    }

    /// Notes a plain step of likely `plain` seconds. `opens`: whether the initial balance may be deposited here.
    pub fn note_plain(&mut self, plain: f64, opens: bool) {
        self.run = 0;
        self.anchor = self.times.level();
        self.plain = (self.plain + 1).min(SETTLED + 1);
        if opens && (WARM_UP..=SETTLED).contains(&self.plain) {
            self.ledger.open(plain);
        }
    }

    /// Notes the seconds of a step. `hope`: for an exploration, the seconds below which it was worth it.
    pub fn note_exploration(&mut self, seconds: f64, hope: Option<f64>) {
        self.waited = self.waited.saturating_add(1);
        if let Some(limit) = hope {
            self.waited = 0;
            self.wait = if seconds < limit { EXPLORE_FIRST } else { (2 * self.wait).min(EXPLORE_LAST) };
        }
    }

    /// Books a step, after its time was learned.
    pub fn book(&mut self, step: Booking) {
        let Booking { timing: Timed { rows, base, kv_bytes, seconds }, speculative, share, cap, drafting, fixed } =
            step;
        let plain = self.times.time(base, kv_bytes) + fixed;
        self.ledger.book(Entry {
            rows,
            speculative,
            worth: plain * share,
            modelled: self.times.modelled(rows, kv_bytes),
            // A plain step also makes its fixed drafts, so only chosen drafts are charged.
            drafting: drafting - if speculative { 0.0 } else { fixed },
            measured: seconds.min(cap * self.times.time(rows, kv_bytes)),
            measured_worth: (self.times.plain_time(kv_bytes) + fixed) * share,
        });
    }

    /// Caps the balance and that of the `other` chooser together, for plain steps of `plain` seconds.
    pub fn cut(&mut self, plain: f64, other: f64) {
        self.ledger.cut(self.times.caution(), (plain - other.max(0.0) / CAP).max(0.0));
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

    /// Capacities of the buffers.
    #[cfg(test)]
    pub fn room(&self) -> [usize; 7] {
        let (Division { order, tokens, drafting, .. }, curve) = (&self.division, &self.curve);
        let [likely, cautious, hopeful] = [&curve.likely, &curve.cautious, &curve.hopeful].map(Vec::capacity);
        let considered = self.considered.capacity();
        [order.capacity(), tokens.capacity(), drafting.capacity(), considered, likely, cautious, hopeful]
    }

    fn decide(&self, base: u32, balance: f64) -> Pick {
        let plain = self.considered[0];
        let purse = balance.min(RISK * plain.seconds);
        let pick = |total, reason| Pick { base, total, reason, purse, hope: None };
        let most = self.considered.len() - 1;
        if most == 0 {
            return pick(0, Reason::NoDrafts);
        }
        if self.plain < self.warm_up {
            return pick(0, Reason::WarmUp);
        }
        if self.must_probe(base, balance, purse) {
            return pick(0, Reason::Probe);
        }
        let threshold = plain.rate() * (1.0 + MARGIN);
        let all = self.best(1..=most, threshold, |n| self.considered[n].rate());
        // If the account is low, considers only totals whose failure it can pay for.
        let paid = (1..=most).filter(|&n| self.stake(base, n) <= purse);
        let best = self.best(paid, threshold, |n| self.considered[n].rate());
        let left = purse - EXPLORE_LEAVES * plain.seconds;
        if let Some((n, hope)) = self.explore(base, best.unwrap_or(0), left) {
            return Pick { purse: left, hope: Some(hope), ..pick(n, Reason::Explore) };
        }
        if best.is_some_and(|n| self.repeats_unproven(base, n)) {
            return pick(0, Reason::Probe);
        }
        match (best, all) {
            (Some(n), Some(m)) if n == m => pick(n, Reason::Gain),
            (_, Some(_)) => pick(best.unwrap_or(0), Reason::Account),
            _ => pick(0, Reason::NoGain),
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
    pub fn risk(&self, base: u32, total: usize) -> f64 {
        self.seconds(&self.curve.cautious, base, total) - self.considered[0].seconds
    }

    /// Seconds that the account must have for a total. In a burst, as many tokens must be wanted as there are drafts, and
    /// steps whose drafts are rejected leave fewer.
    fn stake(&self, base: u32, total: usize) -> f64 {
        let first = if self.bursts { 1 } else { total };
        (first..=total).map(|n| self.risk(base, n)).sum()
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
            .any(|n| self.considered[n].rate() > CLEAR * plain.rate() && self.stake(base, n) <= purse);
        self.run >= if clear { PATIENCE * due } else { due }
    }

    /// A total that would beat the best known one if its steps took only the hopeful time, and the seconds below which
    /// they would. `left`: seconds that it may lose.
    fn explore(&self, base: u32, best: usize, left: f64) -> Option<(usize, f64)> {
        let wait = if best > 0 { self.wait.min(EXPLORE_PAYING) } else { self.wait };
        if self.waited < wait {
            return None;
        }
        let threshold = self.considered[best].rate() * (1.0 + MARGIN);
        let paid = (1..self.considered.len()).filter(|&n| self.stake(base, n) <= left);
        let hopeful = |n: usize| self.considered[n].tokens / self.seconds(&self.curve.hopeful, base, n);
        let chosen = self.best(paid, threshold, hopeful)?;
        Some((chosen, self.considered[chosen].tokens / threshold))
    }
}
