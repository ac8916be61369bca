//! Chooses how many tokens a burst makes, and whether the device may draft in it.
//!
//! In a burst the device drafts by itself, up to a number that is chosen before. So the account must cover the case
//! that every step of the burst has as many drafts and none is accepted. A burst is shortened until it does, or runs
//! plain. Afterwards its steps are booked one by one.
//!
//! *Times.* The steps of a burst are compared with the steps of plain bursts, which take less time than steps that the
//! host submits. A burst shows only the sum of its steps' times. It is attributed to the mean rows of its steps, as if
//! a step's time grew evenly with its drafts; bursts with few drafts tell nothing. Nor does a plain burst of one step
//! whose launch was not measured: the launch may be most of its time, and every estimate is relative to plain steps.
//! Means are trusted less than single steps, and bursts with drafts grow only while they take as long as estimated.
//!
//! *The launch* is what a burst takes besides its steps. A plain burst of all tokens has one launch, so what a shortened
//! burst's launch takes beyond its share is charged to the account.
//!
//! *One bound.* Steps and bursts have a ledger each, and the speculator lets neither lose more than the sum of both
//! balances. The initial balance is deposited in one of them.

use crate::acceptance::Acceptance;
use crate::chooser::{Booking, Chooser, Pick, Timed};
use crate::drafter::{DrafterKind, Match};
use crate::roofline::StepModel;
use crate::select::{Candidate, Choice, Reason};
use aio_plan::StepTime;

/// Tokens of a plain burst that is only timed, and steps with drafts that count as one when the next is due.
const PROBE_TOKENS: u32 = 4;
/// The device looks for runs of a few tokens and does not tell how long a match is.
const MATCH: Match = Match { len: 4 };
/// Tokens of the first bursts with drafts. Bursts grow to twice the length at a time, so that a wrong estimate of their
/// times costs little before it shows.
const REACH: u32 = 4;
/// Seconds of a burst's steps, relative to the estimate, beyond which bursts shrink.
const SURPRISE: f64 = 1.3;
/// Mean drafts of a step from which a burst tells what drafts cost.
const TELLING: f64 = 0.5;
/// Weight of the newest measurement in the moving average of the launch.
const NEWEST: f64 = 0.2;
/// Cap on a launch, relative to the average and a plain step.
const OUTLIER: f64 = 3.0;

/// A burst that may run next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BurstLimits {
    /// Maximum tokens, at least 1: what a plain burst would make.
    pub tokens: u32,
    /// Maximum drafts of a step.
    pub drafts: u32,
    /// Bytes of keys and values that a step reads.
    pub kv_bytes: f64,
}

/// How to run a burst.
#[derive(Clone, Debug, PartialEq)]
pub struct BurstChoice {
    /// Tokens to make.
    pub tokens: u32,
    /// Its steps: the only element of `drafts` is the maximum drafts of each.
    pub step: Choice,
    /// Tokens that a plain burst would have made.
    whole: u32,
}

impl BurstChoice {
    /// Maximum drafts of a step; 0 for a plain burst.
    pub fn drafts(&self) -> u32 {
        self.step.drafts.first().copied().unwrap_or(0)
    }
}

/// A completed burst.
#[derive(Clone, Copy, Debug)]
pub struct ObservedBurst<'a> {
    /// The choice that it ran by.
    pub choice: &'a BurstChoice,
    /// Bytes of keys and values that a step read.
    pub kv_bytes: f64,
    /// From its submission to its end.
    pub time: StepTime,
    /// The part of these that its steps did not take, if known.
    pub launch: Option<f64>,
    /// Number of drafts, and of accepted drafts, of each step.
    pub steps: &'a [[u32; 2]],
    /// Number of tokens produced. Fewer than chosen if the output ended.
    pub produced: u32,
}

/// See the module docs.
#[derive(Clone, Debug)]
pub(crate) struct Bursts {
    chooser: Chooser,
    /// Chances that a step finds a draft and that it is accepted.
    acceptance: Acceptance,
    /// Average seconds of a launch, once known.
    launch: Option<f64>,
    /// Maximum tokens of a burst with drafts.
    reach: u32,
}

impl Bursts {
    pub fn new(max_drafts: u32, max_rows: u32, model: StepModel) -> Bursts {
        let chooser = Chooser::new(max_drafts, max_rows, model).of_bursts();
        Bursts { chooser, acceptance: Acceptance::new(DrafterKind::Text), launch: None, reach: REACH }
    }

    pub fn balance(&self) -> f64 {
        self.chooser.balance()
    }

    pub fn is_open(&self) -> bool {
        self.chooser.is_open()
    }

    /// Chooses a burst. `balance`: seconds that may be lost.
    pub fn choose(&mut self, limits: BurstLimits, balance: f64) -> BurstChoice {
        let whole = limits.tokens.max(1);
        let (acceptance, drafts) = (&self.acceptance, limits.drafts.min(whole - 1));
        let candidates = [Candidate { acceptance, matched: MATCH, drafts, fixed: 0, seconds_per_draft: 0.0 }];
        let pick = self.chooser.pick(&candidates, limits.kv_bytes, balance);
        let (pick, tokens, held) = length(&self.chooser, pick, self.launch.unwrap_or(0.0), [whole, self.reach]);
        let step = Choice { held, ..self.chooser.choice(&candidates, pick) };
        BurstChoice { tokens, step, whole }
    }

    /// Learns from a completed burst. `opens`: whether the initial balance may be deposited here. `other`: the
    /// balance of steps.
    pub fn observe(&mut self, burst: &ObservedBurst<'_>, opens: bool, other: f64) {
        let (count, drafts) = (burst.steps.len() as u32, burst.choice.drafts());
        let seconds = burst.time.seconds();
        if count == 0 || burst.produced == 0 || !(seconds.is_finite() && seconds > 0.0) {
            return;
        }
        self.learn(burst.steps, drafts > 0);
        let launch = self.launch(burst);
        let running = seconds - launch;
        let each = running / f64::from(count);
        let typical = self.typical(burst, each);
        if let Some(step) = typical {
            self.chooser.time(step);
        }
        let plain = self.chooser.times().time(1, burst.kv_bytes);
        if drafts > 0 {
            self.chooser.note_speculative(count.div_ceil(PROBE_TOKENS));
        } else if typical.is_some() {
            self.chooser.note_plain(plain, opens);
        }
        self.chooser.note_exploration(each, burst.choice.step.hope);
        if drafts > 0 {
            self.note_reach(burst, running);
        }
        self.book(burst, running, launch);
        self.chooser.cut(plain, other);
    }

    /// Learns the acceptance. A step that found no draft counts as one whose first was rejected.
    fn learn(&mut self, steps: &[[u32; 2]], drafts: bool) {
        for &[drafted, accepted] in steps {
            if drafts {
                self.acceptance.observe(MATCH, drafted.max(1), accepted);
            } else {
                self.acceptance.idle();
            }
        }
    }

    /// Lets bursts grow while their steps take as long as estimated, and shrink where they take longer.
    fn note_reach(&mut self, burst: &ObservedBurst<'_>, running: f64) {
        let times = self.chooser.times();
        let rows = burst.steps.iter().map(|[drafted, _]| drafted.saturating_add(1));
        let expected: f64 = rows.map(|rows| times.time(rows, burst.kv_bytes)).sum();
        if running > SURPRISE * expected {
            self.reach = (self.reach / 2).max(REACH);
        } else if burst.choice.tokens >= self.reach {
            self.reach = self.reach.saturating_mul(2);
        }
    }

    /// The seconds of a burst's launch: measured, or else the average.
    fn launch(&mut self, burst: &ObservedBurst<'_>) -> f64 {
        let known = burst.launch.filter(|l| l.is_finite() && *l >= 0.0);
        let launch = known.or(self.launch).unwrap_or(0.0).min(burst.time.seconds());
        if known.is_some() {
            let plain = self.chooser.times().time(1, burst.kv_bytes);
            let newest = |average: f64| average + NEWEST * (launch.min(OUTLIER * (average + plain)) - average);
            self.launch = Some(self.launch.map_or(launch, newest));
        }
        launch
    }

    /// The rows whose time the burst tells, of which it took `each` seconds a step.
    fn typical(&self, burst: &ObservedBurst<'_>, each: f64) -> Option<Timed> {
        let kv_bytes = burst.kv_bytes;
        if burst.choice.drafts() == 0 {
            let unclear = burst.steps.len() == 1 && burst.launch.is_none() && self.launch.is_some();
            return (!unclear).then_some(Timed { rows: 1, base: 1, kv_bytes, seconds: each });
        }
        let drafted: u32 = burst.steps.iter().map(|[drafted, _]| drafted).sum();
        let mean = f64::from(drafted) / burst.steps.len() as f64;
        if mean < TELLING {
            return None;
        }
        let plain = self.chooser.times().time(1, kv_bytes);
        let drafts = mean.ceil();
        let seconds = plain + (each - plain) * drafts / mean;
        Some(Timed { rows: 1 + drafts as u32, base: 1, kv_bytes, seconds })
    }

    /// Books the steps, of `running` seconds together. Those after the end of the output would have run in a plain burst
    /// too, until the host stopped it.
    fn book(&mut self, burst: &ObservedBurst<'_>, running: f64, launch: f64) {
        let kv_bytes = burst.kv_bytes;
        let times = self.chooser.times();
        let total: f64 = burst.steps.iter().map(|[drafted, _]| times.time(drafted.saturating_add(1), kv_bytes)).sum();
        // Where the output ended, a plain burst would have ended too.
        let whole = if burst.produced < burst.choice.tokens { burst.produced } else { burst.choice.whole };
        let (mut left, mut drafting) = (burst.produced, extra(launch, burst.produced, whole));
        for &[drafted, accepted] in burst.steps {
            if left == 0 {
                break;
            }
            let (rows, tokens) = (drafted.saturating_add(1), left.min(accepted.saturating_add(1)));
            let seconds = running * self.chooser.times().time(rows, kv_bytes) / total;
            let timing = Timed { rows, base: 1, kv_bytes, seconds };
            let (speculative, share) = (burst.choice.drafts() > 0, f64::from(tokens));
            self.chooser.book(Booking { timing, speculative, share, cap: f64::INFINITY, drafting, fixed: 0.0 });
            (left, drafting) = (left - tokens, 0.0);
        }
    }
}

/// What the launch of a burst of `tokens` tokens takes beyond its share of that of a whole one.
fn extra(launch: f64, tokens: u32, whole: u32) -> f64 {
    launch * (1.0 - f64::from(tokens) / f64::from(whole.max(1))).max(0.0)
}

/// Tokens of the picked burst, at most `whole`, and the seconds that it may lose. It runs plain if the account cannot
/// pay for any that gains.
fn length(chooser: &Chooser, pick: Pick, launch: f64, [whole, reach]: [u32; 2]) -> (Pick, u32, f64) {
    if pick.total == 0 {
        let short = whole.min(PROBE_TOKENS);
        let loss = extra(launch, short, whole);
        let timed = matches!(pick.reason, Reason::WarmUp | Reason::Probe);
        let paid = pick.reason == Reason::WarmUp || loss <= pick.purse;
        return if timed && paid { (pick, short, loss) } else { (pick, whole, 0.0) };
    }
    let mut paid = affordable(chooser, pick, pick.purse, whole.min(reach));
    if paid < whole {
        paid = affordable(chooser, pick, pick.purse - launch, whole.min(reach));
    }
    if paid > 1 && (pick.reason == Reason::Explore || gains(chooser, pick, launch, [paid, whole])) {
        return (pick, paid, pick.purse);
    }
    (pick.plain(), whole, 0.0)
}

/// The most tokens, up to `whole`, whose steps lose at most `seconds` if no draft is accepted. Each step then makes one
/// token, and has no more drafts than tokens are wanted after it.
fn affordable(chooser: &Chooser, pick: Pick, seconds: f64, whole: u32) -> u32 {
    let risk = |drafts: usize| if drafts == 0 { 0.0 } else { chooser.risk(pick.base, drafts).max(0.0) };
    let (mut tokens, mut left) = (0, seconds);
    // The last steps have fewer drafts.
    while tokens < whole && tokens as usize <= pick.total {
        left -= risk(tokens as usize);
        if left < 0.0 {
            return tokens;
        }
        tokens += 1;
    }
    // A quotient beyond the range is the largest number.
    tokens.saturating_add((left / risk(pick.total)) as u32).min(whole)
}

/// Whether a burst with drafts that is shortened from `whole` to `tokens` is expected to take less time than a plain
/// one takes for as many tokens.
fn gains(chooser: &Chooser, pick: Pick, launch: f64, [tokens, whole]: [u32; 2]) -> bool {
    let [plain, drafting] = [0, pick.total].map(|total| 1.0 / chooser.considered()[total].rate());
    f64::from(tokens) * drafting + extra(launch, tokens, whole) < f64::from(tokens) * plain
}
