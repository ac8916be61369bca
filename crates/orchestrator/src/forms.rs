//! Chooses the form of each step among those that a device offers, such as captured attention that reads a whole bucket of
//! lengths, or one whose lengths the host replaces before each step.
//!
//! What forms of a step share does not matter, so a form costs bytes of keys and values times seconds per byte, plus
//! replaced tasks times seconds per task. Both rates are learned from pairs of neighbouring steps of the same rows, by the
//! usual linear filter (Kalman 1960): a pair's shared part cancels. A form that might win but is not known well enough is
//! measured now and then. Used by the engine.

use aio_plan::StepForm;
use smallvec::SmallVec;

/// Seconds to replace a task of a captured graph, before any measurement.
const UPDATE: f64 = 20e-6;
/// Standard deviations of the rates before any measurement, relative to them.
const UNSURE: [f64; 2] = [0.5, 10.0];
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
/// Consecutive surprises on the same side after which the device must have changed.
const CHANGED: i32 = 3;
/// Standard deviations by which a form may be better than expected.
const HOPE: f64 = 2.0;
/// Gain, relative to the step, below which a form is not worth a measurement.
const MARGIN: f64 = 0.02;
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

/// A step that ran in one of several forms.
#[derive(Clone, Copy, Debug)]
pub struct FormObserved {
    /// Identifies steps whose shared parts take equally long: those of the same plan and rows.
    pub size: u64,
    /// Its form.
    pub form: StepForm,
    /// What it took.
    pub seconds: f64,
}

/// Learns what forms cost. See the module docs.
#[derive(Clone, Debug)]
pub struct FormChooser {
    /// Seconds per byte, and per replaced task.
    rates: [f64; 2],
    covariance: [[f64; 2]; 2],
    prior: [f64; 2],
    /// Whether steps with fewer and with more updates were compared.
    compared: bool,
    /// Variance of a step's seconds, relative to their square.
    noise: f64,
    last: Option<FormObserved>,
    /// Running mean of the seconds that forms share, for steps of the last one's size.
    shared: f64,
    /// Consecutive surprises, negative if steps were faster than expected.
    odd: i32,
    /// Steps since the last measurement, and the number required between two.
    waited: u32,
    wait: u32,
}

fn terms(form: &StepForm) -> [f64; 2] {
    [form.kv_bytes as f64, form.updates as f64]
}

fn dot(a: [f64; 2], b: [f64; 2]) -> f64 {
    a[0] * b[0] + a[1] * b[1]
}

fn minus(a: [f64; 2], b: [f64; 2]) -> [f64; 2] {
    [a[0] - b[0], a[1] - b[1]]
}

impl FormChooser {
    /// A chooser for a device that reads `bandwidth` bytes per second.
    pub fn new(bandwidth: f64) -> FormChooser {
        let rates = [if bandwidth > 0.0 { 1.0 / bandwidth } else { 0.0 }, UPDATE];
        let prior = [0, 1].map(|i| (UNSURE[i] * rates[i]).powi(2));
        let covariance = [[prior[0], 0.0], [0.0, prior[1]]];
        let (noise, wait) = (NOISE * NOISE, FIRST_WAIT);
        FormChooser {
            rates,
            covariance,
            prior,
            compared: false,
            noise,
            last: None,
            shared: 0.0,
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
        let less = |a: usize, b: usize| if seconds[b] < seconds[a] { b } else { a };
        let best = (1..forms.len()).fold(0, less);
        let (form, reason) = match self.worth_measuring(forms, best) {
            Some(other) => (other, FormReason::Measure),
            None => (best, FormReason::Fastest),
        };
        FormChoice { form, seconds, reason }
    }

    /// A form that may be faster than the best known one by enough to find out.
    fn worth_measuring(&self, forms: &[StepForm], best: usize) -> Option<usize> {
        let step = self.last?.seconds;
        if self.waited < self.wait {
            return None;
        }
        let fewer = forms.iter().position(|form| form.updates < forms[best].updates);
        if let Some(other) = fewer.filter(|_| !self.compared) {
            return Some(other);
        }
        (0..forms.len()).filter(|&other| other != best).find(|&other| self.promise(forms, other, best) > MARGIN * step)
    }

    /// Seconds by which a form is faster than another if it is as much better than expected as one may hope. Neither
    /// bytes nor replaced tasks take less than nothing.
    fn promise(&self, forms: &[StepForm], form: usize, than: usize) -> f64 {
        let more = minus(terms(&forms[than]), terms(&forms[form]));
        let most = more[0].max(0.0) * self.upper(0) + more[1].max(0.0) * self.upper(1);
        let hoped = dot(self.rates, more) + HOPE * self.variance(more).max(0.0).sqrt();
        hoped.min(most)
    }

    fn upper(&self, rate: usize) -> f64 {
        self.rates[rate] + HOPE * self.covariance[rate][rate].max(0.0).sqrt()
    }

    fn variance(&self, more: [f64; 2]) -> f64 {
        dot(more, self.covariance.map(|row| dot(row, more)))
    }

    /// Learns what a step took. `choice` is what [`FormChooser::choose`] returned for it.
    pub fn observe(&mut self, choice: &FormChoice, step: FormObserved) {
        if !(step.seconds.is_finite() && step.seconds > 0.0) {
            return;
        }
        self.waited = self.waited.saturating_add(1);
        (0..2)
            .for_each(|i| self.covariance[i][i] = (self.covariance[i][i] + AGEING * self.prior[i]).min(self.prior[i]));
        match self.last.filter(|last| last.size == step.size) {
            Some(last) => {
                self.compare(step, last);
                self.watch(step);
            }
            None => self.forget_shared(step),
        }
        self.last = Some(step);
        if choice.reason == FormReason::Measure {
            let cheapest = choice.seconds.iter().copied().fold(f64::INFINITY, f64::min);
            let won = dot(self.rates, terms(&step.form)) < cheapest;
            self.waited = 0;
            self.wait = if won { FIRST_WAIT } else { (2 * self.wait).min(LAST_WAIT) };
        }
    }

    fn forget_shared(&mut self, step: FormObserved) {
        self.shared = step.seconds - dot(self.rates, terms(&step.form));
        self.odd = 0;
    }

    /// Notices that the device has changed: several steps in a row differ from those before. Then nothing is known of the
    /// rates, and forms are measured again soon.
    fn watch(&mut self, step: FormObserved) {
        let shared = step.seconds - dot(self.rates, terms(&step.form));
        let surprise = shared - self.shared;
        if surprise.abs() <= OUTLIER * self.noise.sqrt() * step.seconds {
            self.odd = 0;
            self.shared += SHARED_SHARE * surprise;
            return;
        }
        let side = if surprise > 0.0 { 1 } else { -1 };
        self.odd = if self.odd * side > 0 { self.odd + side } else { side };
        if self.odd.abs() >= CHANGED {
            self.covariance = [[self.prior[0], 0.0], [0.0, self.prior[1]]];
            (self.compared, self.wait) = (false, FIRST_WAIT);
            self.forget_shared(step);
        }
    }

    fn compare(&mut self, step: FormObserved, before: FormObserved) {
        let more = minus(terms(&step.form), terms(&before.form));
        let surprise = step.seconds - before.seconds - dot(self.rates, more);
        let square = before.seconds * before.seconds;
        let noise = 2.0 * self.noise * square;
        self.compared |= more[1] != 0.0;
        let unsure = self.variance(more);
        let total = unsure + noise;
        let bounded = surprise.clamp(-OUTLIER * total.sqrt(), OUTLIER * total.sqrt());
        let column = self.covariance.map(|row| dot(row, more));
        for (i, covered) in column.into_iter().enumerate() {
            self.rates[i] = (self.rates[i] + covered / total * bounded).max(0.0);
            (0..2).for_each(|j| self.covariance[i][j] -= covered / total * column[j]);
        }
        // What the rates do not explain is noise.
        let left = (bounded * bounded - unsure).max(0.0) / (2.0 * square);
        self.noise = (self.noise + NOISE_SHARE * (left - self.noise)).max(LEAST_NOISE * LEAST_NOISE);
    }
}
