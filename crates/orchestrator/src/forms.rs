//! Chooses the form of each step among those that a device offers, such as captured attention that reads a whole bucket of
//! lengths, or one whose lengths the host replaces before each step.
//!
//! What forms of a step share does not matter, so a form costs bytes of keys and values times seconds per byte, plus
//! replaced tasks times seconds per replacement, plus its other tasks times seconds per task. The rates are learned from pairs of successive steps of the same rows, by the
//! usual linear filter (Kalman 1960): a pair's shared part cancels. A form that might win but is not known well enough is
//! measured now and then, if that costs little of the time spent so far. Used by the engine.

use aio_plan::StepForm;
use smallvec::SmallVec;

/// What a form has of bytes, replaced tasks and other tasks; or seconds for one of each.
type Terms = [f64; 3];

/// Seconds to replace a task of a captured graph, before any measurement.
const UPDATE: f64 = 20e-6;
/// Seconds of a small task in a captured graph, before any measurement.
const TASK: f64 = 3e-6;
/// Standard deviations of the rates before any measurement, relative to them.
const UNSURE: Terms = [0.5, 10.0, 1.0];
/// The share of these variances that each step adds, since machines change.
const AGEING: f64 = 1e-4;
/// Noise of a step before any measurement, relative to its time, and the least.
const NOISE: f64 = 0.05;
const LEAST_NOISE: f64 = 1e-3;
/// Weight of the last pair in the noise.
const NOISE_SHARE: f64 = 0.1;
/// Standard deviations beyond which a surprise counts no more.
const OUTLIER: f64 = 3.0;
/// Weight of the last step in what forms share.
const SHARED_SHARE: f64 = 0.2;
/// Steps of a size whose median begins what forms share: one may be an accident.
const FIRST_STEPS: usize = 3;
/// Sizes that are remembered, and the steps after which one is forgotten.
const MOST_SIZES: usize = 32;
const OLD: u64 = 256;
/// Consecutive surprises on the same side after which the device must have changed.
const CHANGED: i32 = 3;
/// Standard deviations by which a form may be better than expected.
const HOPE: f64 = 2.0;
/// Gain, relative to the step, below which a form is not worth a measurement.
const MARGIN: f64 = 0.02;
/// Steps before the first measurement: what it teaches would not pay in a run that ends soon.
const SHORT: u64 = 16;
/// The share of all time that measurements may cost.
const BUDGET: f64 = 0.01;
/// Steps between measurements of forms that do not win: at first, and at most.
const FIRST_WAIT: u32 = 8;
const LAST_WAIT: u32 = 512;

/// The reason for a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormReason {
    /// There is no other.
    Only,
    /// It is expected to take the least time.
    Fastest,
    /// It may take less time than the one expected to, which this step measures.
    Measure,
}

/// The form of a step, and what each would cost.
#[derive(Clone, Debug, PartialEq)]
pub struct FormChoice {
    /// Index of the chosen form; 0 if there are none.
    pub form: usize,
    /// Expected seconds of each form, besides what all of them take.
    pub seconds: SmallVec<[f64; 2]>,
    /// The reason.
    pub reason: FormReason,
}

/// What is known of steps of one size.
#[derive(Clone, Debug)]
struct Known {
    size: u64,
    /// The last one: its form's terms and its seconds.
    last: (Terms, f64),
    /// When it ran, counted in steps.
    at: u64,
    /// Seconds that forms share: of the first steps, and then their running mean.
    first: SmallVec<[f64; FIRST_STEPS]>,
    shared: f64,
}

/// Learns what forms cost. See the module docs.
#[derive(Clone, Debug)]
pub struct FormChooser {
    /// Seconds per byte, per replaced task and per task.
    rates: Terms,
    covariance: [Terms; 3],
    prior: Terms,
    /// Whether steps with fewer and with more updates were compared.
    compared: bool,
    /// Variance of a step's seconds, relative to their square.
    noise: f64,
    /// Sizes of steps, of which any may come next.
    known: Vec<Known>,
    /// Steps so far, the seconds of the last one and of all, and those that measurements cost.
    steps: u64,
    last: f64,
    spent: f64,
    paid: f64,
    /// Consecutive surprises, negative if steps were faster than expected.
    odd: i32,
    /// Steps since the last measurement, and the number required between two.
    waited: u32,
    wait: u32,
}

fn terms(form: &StepForm) -> Terms {
    [form.kv_bytes as f64, form.updates as f64, form.tasks as f64]
}

fn dot(a: Terms, b: Terms) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn minus(a: Terms, b: Terms) -> Terms {
    std::array::from_fn(|i| a[i] - b[i])
}

/// The covariance of independent rates.
fn diagonal(variances: Terms) -> [Terms; 3] {
    std::array::from_fn(|i| std::array::from_fn(|j| if i == j { variances[i] } else { 0.0 }))
}

impl FormChooser {
    /// A chooser for a device that reads `bandwidth` bytes per second.
    pub fn new(bandwidth: f64) -> FormChooser {
        let rates = [if bandwidth > 0.0 { 1.0 / bandwidth } else { 0.0 }, UPDATE, TASK];
        let prior = std::array::from_fn(|i| (UNSURE[i] * rates[i]).powi(2));
        let covariance = diagonal(prior);
        let (noise, wait) = (NOISE * NOISE, FIRST_WAIT);
        FormChooser {
            rates,
            covariance,
            prior,
            compared: false,
            noise,
            known: Vec::new(),
            steps: 0,
            last: 0.0,
            spent: 0.0,
            paid: 0.0,
            odd: 0,
            waited: wait,
            wait,
        }
    }

    /// Chooses among the forms of a step. The first is the default, which wins ties.
    pub fn choose(&self, forms: &[StepForm]) -> FormChoice {
        let seconds: SmallVec<[f64; 2]> = forms.iter().map(|form| dot(self.rates, terms(form))).collect();
        if forms.len() < 2 {
            return FormChoice { form: 0, seconds, reason: FormReason::Only };
        }
        let best = self.best(forms);
        let (form, reason) = match self.worth_measuring(forms, best) {
            Some(other) => (other, FormReason::Measure),
            None => (best, FormReason::Fastest),
        };
        FormChoice { form, seconds, reason }
    }

    /// The form that is expected to take the least time.
    fn best(&self, forms: &[StepForm]) -> usize {
        let seconds = |form: usize| dot(self.rates, terms(&forms[form]));
        (1..forms.len()).fold(0, |best, form| if seconds(form) < seconds(best) { form } else { best })
    }

    /// A form that may be faster than the best known one by enough to find out.
    fn worth_measuring(&self, forms: &[StepForm], best: usize) -> Option<usize> {
        if self.steps == 0 || self.waited < self.wait {
            return None;
        }
        let fewer = forms.iter().position(|form| form.updates < forms[best].updates);
        if let Some(other) = fewer.filter(|_| !self.compared) {
            return Some(other);
        }
        (0..forms.len()).filter(|&other| other != best).find(|&other| {
            let promise = self.promise(forms, other, best);
            let cost = self.cost(forms, other, best);
            let affordable = self.steps >= SHORT && self.paid + cost < BUDGET * self.spent;
            affordable && promise > MARGIN * self.last
        })
    }

    /// Seconds by which a form is faster than another if it is as much better than expected as one may hope. Nothing
    /// takes less than no time.
    fn promise(&self, forms: &[StepForm], form: usize, than: usize) -> f64 {
        let more = minus(terms(&forms[than]), terms(&forms[form]));
        let most: f64 = (0..more.len()).map(|i| more[i].max(0.0) * self.upper(i)).sum();
        let hoped = dot(self.rates, more) + HOPE * self.variance(more).max(0.0).sqrt();
        hoped.min(most)
    }

    /// Seconds that measuring a form is expected to cost.
    fn cost(&self, forms: &[StepForm], form: usize, than: usize) -> f64 {
        dot(self.rates, minus(terms(&forms[form]), terms(&forms[than]))).max(0.0)
    }

    fn upper(&self, rate: usize) -> f64 {
        self.rates[rate] + HOPE * self.covariance[rate][rate].max(0.0).sqrt()
    }

    fn variance(&self, more: Terms) -> f64 {
        dot(more, self.covariance.map(|row| dot(row, more)))
    }

    /// Learns what a step took in the form that [`FormChooser::choose`] chose for it. Steps of the same `size` share what
    /// forms share: those of the same plan and rows.
    pub fn observe(&mut self, forms: &[StepForm], choice: &FormChoice, size: u64, seconds: f64) {
        let Some(form) = forms.get(choice.form).filter(|_| seconds.is_finite() && seconds > 0.0) else { return };
        let step = (terms(form), seconds);
        self.waited = self.waited.saturating_add(1);
        self.steps += 1;
        self.spent += seconds;
        self.last = seconds;
        for (i, prior) in self.prior.into_iter().enumerate() {
            self.covariance[i][i] = (self.covariance[i][i] + AGEING * prior).min(prior);
        }
        let mut known = self.take_known(size, step);
        if known.at < self.steps {
            self.compare(step, known.last);
        }
        let changed = self.watch(&mut known, step);
        (known.last, known.at) = (step, self.steps);
        if changed {
            self.forget(&mut known);
        }
        self.known.push(known);
        if choice.reason == FormReason::Measure {
            self.measured(forms, choice.form);
        }
    }

    /// What is known of a size; nothing but this step if it is new, or was last seen long ago.
    fn take_known(&mut self, size: u64, step: (Terms, f64)) -> Known {
        let now = self.steps;
        self.known.retain(|known| known.at + OLD >= now);
        if let Some(i) = self.known.iter().position(|known| known.size == size) {
            return self.known.remove(i);
        }
        // The oldest is first.
        if self.known.len() >= MOST_SIZES {
            self.known.remove(0);
        }
        Known { size, last: step, at: now, first: SmallVec::new(), shared: 0.0 }
    }

    /// Sets when to measure next, by what is known now.
    fn measured(&mut self, forms: &[StepForm], form: usize) {
        let best = self.best(forms);
        self.paid += dot(self.rates, minus(terms(&forms[form]), terms(&forms[best]))).max(0.0);
        self.waited = 0;
        self.wait = if best == form { FIRST_WAIT } else { (2 * self.wait).min(LAST_WAIT) };
    }

    /// Whether the device must have changed: several steps in a row differ from those of their sizes before.
    fn watch(&mut self, known: &mut Known, (terms, seconds): (Terms, f64)) -> bool {
        let shared = seconds - dot(self.rates, terms);
        if known.first.len() < FIRST_STEPS {
            known.first.push(shared);
            let mut sorted = known.first.clone();
            sorted.sort_by(f64::total_cmp);
            known.shared = sorted[(sorted.len() - 1) / 2];
            return false;
        }
        let surprise = shared - known.shared;
        if surprise.abs() <= OUTLIER * self.noise.sqrt() * seconds {
            self.odd = 0;
            known.shared += SHARED_SHARE * surprise;
            return false;
        }
        let side = if surprise > 0.0 { 1 } else { -1 };
        self.odd = if self.odd * side > 0 { self.odd + side } else { side };
        self.odd.abs() >= CHANGED
    }

    /// Nothing is known of the rates any more, and forms are measured again soon.
    fn forget(&mut self, known: &mut Known) {
        self.covariance = diagonal(self.prior);
        (self.compared, self.wait, self.odd) = (false, FIRST_WAIT, 0);
        self.known.clear();
        known.first.clear();
    }

    fn compare(&mut self, step: (Terms, f64), before: (Terms, f64)) {
        let more = minus(step.0, before.0);
        let surprise = step.1 - before.1 - dot(self.rates, more);
        // A form that takes very long says little of how precise steps are.
        let square = before.1.min(step.1).powi(2);
        let noise = 2.0 * self.noise * square;
        self.compared |= more[1] != 0.0;
        let unsure = self.variance(more);
        let total = unsure + noise;
        let bounded = surprise.clamp(-OUTLIER * total.sqrt(), OUTLIER * total.sqrt());
        let column = self.covariance.map(|row| dot(row, more));
        for (i, covered) in column.into_iter().enumerate() {
            self.rates[i] = (self.rates[i] + covered / total * bounded).max(0.0);
            (0..column.len()).for_each(|j| self.covariance[i][j] -= covered / total * column[j]);
        }
        // What the rates do not explain is noise.
        let left = (bounded * bounded - unsure).max(0.0) / (2.0 * square);
        self.noise = (self.noise + NOISE_SHARE * (left - self.noise)).max(LEAST_NOISE * LEAST_NOISE);
    }
}
