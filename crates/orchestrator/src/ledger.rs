//! The account that bounds the losses of speculation.
//!
//! *The bound.* Let `s_i` be the time of a plain step when step `i` runs (the machine drifts), `V_i` the factor by
//! which a step of its rows takes longer, and `n_i` its number of tokens relative to a plain step's. Then over any run,
//! whatever the drafts, `sum(s_i V_i) <= 1.01 sum(s_i n_i) + 8 plain steps`: the expected time is bounded by that of
//! plain steps making the same tokens on the same machine at the same time. Time spent drafting is included.
//!
//! *How.* The account starts with a few plain steps' worth of time and gains slightly less than one percent of the
//! plain time that passes. A step with drafts earns what its tokens would have cost in plain steps and spends what it
//! takes. It is allowed only if the account can pay for it with no draft accepted. The slack between these numbers and
//! the bound's covers estimation errors.
//!
//! *Step times* are booked as modelled seconds by rows. They are multiplied by the shape's cautious estimate only when
//! the balance is read. So single slow steps (a hiccup hits plain steps as well) are not charged to speculation, drift
//! cancels, and a better estimate of the shape revalues all earlier spending. When the shape itself has changed,
//! earlier spending is settled at the old estimate. The new estimate starts out very uncertain and does not apply to
//! that spending; using it would push the account so far below zero that no draft could be run to measure the new
//! shape.
//!
//! *A second account* uses measured seconds, against plain steps as last measured. It is noisier, but no wrong estimate
//! of a shape can mislead it for long. The lower of both balances counts.
//!
//! The estimates come from noisy times, so the bound holds only as reliably as they allow. In simulated runs
//! (`tests/speculation.rs`) it always holds while single steps vary by 10 %. Where they vary by 30 %, about one run in five hundred
//! exceeds it at some time, the worst that was seen with 26 plain steps in place of 8.
//!
//! *Credit* is capped at a number of plain steps, by scaling down earlier bookings, so that a long gain cannot be
//! followed by an equally long loss.

/// Initial balance, in plain steps.
const START: f64 = 4.0;
/// Share of plain time that the account gains.
const RATE: f64 = 0.007;
/// Maximum balance, in plain steps.
pub(crate) const CAP: f64 = 16.0;

/// The figures of one step, in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// Number of rows in the step.
    pub rows: u32,
    /// Whether it had drafts.
    pub speculative: bool,
    /// Time that its tokens would have taken in plain steps.
    pub worth: f64,
    /// Modelled time at the current speed, without the shape.
    pub modelled: f64,
    /// Time spent drafting.
    pub drafting: f64,
    /// Measured time.
    pub measured: f64,
    /// Time that its tokens would have taken in plain steps, as the last ones were measured.
    pub measured_worth: f64,
}

/// The account, in seconds.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    /// Plain step seconds used for the initial balance.
    start: Option<f64>,
    granted: f64,
    earned: f64,
    drafting: f64,
    /// Modelled seconds of steps with drafts, by rows minus 1.
    spent: Vec<f64>,
    /// Balance of the second account.
    measured: f64,
}

impl Ledger {
    /// An empty account for steps of up to `max_rows` rows, at least one. Larger steps are booked as the largest.
    pub fn new(max_rows: u32) -> Ledger {
        let spent = vec![0.0; max_rows.max(1) as usize];
        Ledger { start: None, granted: 0.0, earned: 0.0, drafting: 0.0, spent, measured: 0.0 }
    }

    /// Deposits the initial balance for plain steps of `plain` seconds. Later calls lower it to the smallest `plain`
    /// given, so that a slow first step does not inflate the account.
    pub fn open(&mut self, plain: f64) {
        let start = START * self.start.map_or(plain, |before| before.min(plain));
        let change = start - START * self.start.unwrap_or(0.0);
        self.start = Some(start / START);
        self.granted += change;
        self.measured += change;
    }

    /// Whether an initial balance was deposited.
    pub fn is_open(&self) -> bool {
        self.start.is_some()
    }

    /// Books a step.
    pub fn book(&mut self, entry: Entry) {
        self.granted += RATE * entry.worth;
        self.drafting += entry.drafting;
        self.measured += RATE * entry.measured_worth - entry.drafting;
        if entry.speculative {
            self.measured += entry.measured_worth - entry.measured;
            self.earned += entry.worth;
            let rows = (entry.rows as usize).clamp(1, self.spent.len());
            self.spent[rows - 1] += entry.modelled;
        }
    }

    /// Seconds that may still be lost, given the cautious factors on modelled times by rows minus 1.
    pub fn balance(&self, caution: &[f64]) -> f64 {
        self.estimated(caution).min(self.measured)
    }

    /// Unsettled seconds of steps with drafts, with the cautious factors.
    pub fn spent(&self, caution: &[f64]) -> f64 {
        self.spent.iter().zip(caution).filter(|(s, _)| **s > 0.0).map(|(s, c)| s * c).sum()
    }

    /// Fixes the cost of all steps with drafts so far at `spent`, independent of later estimates.
    pub fn settle(&mut self, spent: f64) {
        self.earned -= spent;
        self.spent.fill(0.0);
    }

    fn estimated(&self, caution: &[f64]) -> f64 {
        self.granted + self.earned - self.drafting - self.spent(caution)
    }

    /// Caps both balances at [`CAP`] plain steps of `plain` seconds.
    pub fn cut(&mut self, caution: &[f64], plain: f64) {
        let most = CAP * plain;
        // The part of the initial balance above the cap cannot be taken back later.
        self.start = self.start.map(|start| start.min(most / START));
        self.measured = self.measured.min(most);
        let balance = self.estimated(caution);
        if balance <= most {
            return;
        }
        let keep = most / balance;
        for sum in [&mut self.granted, &mut self.earned, &mut self.drafting].into_iter().chain(&mut self.spent) {
            *sum *= keep;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAUTION: [f64; 4] = [1.0, 1.5, 2.0, 4.0];

    fn step(rows: u32, worth: f64) -> Entry {
        let measured = CAUTION[rows as usize - 1];
        let speculative = rows > 1;
        Entry { rows, speculative, worth, modelled: 1.0, drafting: 0.0, measured, measured_worth: worth }
    }

    #[test]
    fn gains_and_losses_are_booked_at_the_present_estimate() {
        let mut ledger = Ledger::new(4);
        ledger.open(1.0);
        ledger.book(step(2, 1.0));
        assert!((ledger.balance(&CAUTION) - (START + RATE - 0.5)).abs() < 1e-12);
        // The step's value rises if its time turns out to be lower, and falls below the measured one if higher.
        assert!((ledger.estimated(&[1.0; 4]) - (START + RATE)).abs() < 1e-12);
        assert!((ledger.balance(&[2.0; 4]) - (START + RATE - 1.0)).abs() < 1e-12);
        assert!((ledger.balance(&[1.0; 4]) - (START + RATE - 0.5)).abs() < 1e-12);
        ledger.book(Entry { drafting: 0.25, ..step(1, 1.0) });
        assert!((ledger.balance(&CAUTION) - (START + 2.0 * RATE - 0.75)).abs() < 1e-12);
    }

    #[test]
    fn what_is_settled_keeps_its_estimate() {
        let mut ledger = Ledger::new(4);
        ledger.open(1.0);
        ledger.book(step(2, 1.0));
        let before = ledger.estimated(&CAUTION);
        ledger.settle(ledger.spent(&CAUTION));
        assert!((ledger.estimated(&CAUTION) - before).abs() < 1e-12);
        assert!((ledger.estimated(&[9.0; 4]) - before).abs() < 1e-12);
    }

    #[test]
    fn a_first_step_that_hiccups_does_not_stay_in_the_account() {
        let mut ledger = Ledger::new(4);
        for plain in [10.0, 1.0, 2.0] {
            ledger.open(plain);
        }
        assert!((ledger.balance(&CAUTION) - START).abs() < 1e-12);
        // Nor is the capped part taken back.
        let mut ledger = Ledger::new(4);
        ledger.open(10.0);
        ledger.cut(&CAUTION, 1.0);
        ledger.open(1.0);
        assert!((ledger.balance(&CAUTION) - START).abs() < 1e-9, "{}", ledger.balance(&CAUTION));
    }

    #[test]
    fn credit_is_cut() {
        let mut ledger = Ledger::new(4);
        ledger.open(1.0);
        for _ in 0..1000 {
            ledger.book(step(4, 5.0));
            ledger.cut(&CAUTION, 1.0);
        }
        assert!((ledger.balance(&CAUTION) - CAP).abs() < 1e-9);
        let mut steps = 0;
        while ledger.balance(&CAUTION) > 3.0 {
            ledger.book(step(4, 1.0));
            steps += 1;
        }
        assert_eq!(steps, 5, "a step of 4 rows loses 3");
    }
}
