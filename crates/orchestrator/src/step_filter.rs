//! The filter behind the cost model: factors of the roofline's terms and the machine's level, from what steps took.
//!
//! An extended Kalman filter (Jazwinski 1970) on logarithms. Used by `cost_model.rs`.

use crate::regimes::StepWork;
use crate::shape::SINGLE;

/// What is estimated: level, and factors of weights, of keys and values, of arithmetic with weights, of attention; all as
/// logarithms.
const STATES: usize = 5;
/// Variances before any measurement, and those that each step adds. The profile says nothing of attention's rate.
const PRIOR: [f64; STATES] = [0.25, 0.1, 0.25, 0.25, 1.0];
const DRIFT: [f64; STATES] = [4e-4, 1e-6, 1e-5, 1e-5, 1e-5];
/// Variance of a single step's logarithm: at first, at least, and the share of the last step in it.
const NOISE: f64 = 2.5e-3;
const LEAST_NOISE: f64 = 1e-4;
const NOISE_SHARE: f64 = 0.05;
/// Standard deviations beyond which a surprise counts no more.
const BOUND: f64 = 3.0;
/// Surprises in a row beyond the bound and on one side that mean that the level has jumped.
const JUMP: u32 = 3;
/// Those of one row count, with other steps as predicted between them, that mean that this row count is odd.
const ODD_CLASS: u32 = 5;
/// The share of what is left of a surprise that a row count's correction learns, at least.
const CORRECTION_SHARE: f64 = 0.05;
/// Classes of rows: each count up to [`SINGLE`], then four an octave.
const ROW_CLASSES: usize = SINGLE as usize + 4 * 6 + 1;

/// A step, for the model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepSize {
    /// Sequences.
    pub sequences: u32,
    /// Rows of all sequences.
    pub rows: u32,
    /// Positions of all sequences together.
    pub positions: u64,
}

/// A correction that learns from fewer steps the more it knows.
#[derive(Clone, Copy, Debug, Default)]
struct Correction {
    value: f64,
    steps: u32,
    /// Surprises in a row beyond the bound, negative if steps were faster than predicted, and the least of them.
    odd: i32,
    least: f64,
    /// Steps of other classes that were as predicted by the last of them.
    fits: u64,
}

impl Correction {
    fn learn(&mut self, surprise: f64) {
        self.steps = self.steps.saturating_add(1);
        self.value += surprise * CORRECTION_SHARE.max(1.0 / f64::from(self.steps + 1));
        self.odd = 0;
    }

    /// Leaves out a surprise beyond the bound. If several in a row are on one side, and steps of other classes between them
    /// were as predicted, it is the class that is odd, and it learns the least of them.
    fn doubt(&mut self, surprise: f64, fits: u64) {
        let between = std::mem::replace(&mut self.fits, fits) < fits;
        let side = if surprise > 0.0 { 1 } else { -1 };
        if self.odd * side <= 0 || !between {
            (self.odd, self.least) = (side, surprise);
            return;
        }
        self.odd += side;
        self.least = if surprise.abs() < self.least.abs() { surprise } else { self.least };
        if self.odd.unsigned_abs() >= ODD_CLASS {
            self.value += self.least;
            self.odd = 0;
        }
    }
}

/// See the module docs.
#[derive(Clone, Debug)]
pub(crate) struct StepFilter {
    state: [f64; STATES],
    covariance: [[f64; STATES]; STATES],
    noise: f64,
    rows: [Correction; ROW_CLASSES],
    /// Steps that were as predicted.
    fits: u64,
    /// Surprises in a row beyond the bound, negative if steps were faster than predicted.
    odd: i32,
    /// The last of them.
    surprises: [f64; JUMP as usize],
}

fn dot(a: &[f64; STATES], b: &[f64; STATES]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn row_class(rows: u32) -> usize {
    if rows <= SINGLE {
        return rows.max(1) as usize - 1;
    }
    let octaves = (f64::from(rows) / f64::from(SINGLE)).log2();
    (SINGLE as usize + (octaves * 4.0) as usize).min(ROW_CLASSES - 1)
}

impl StepFilter {
    /// One that knows nothing but the roofline.
    pub(crate) fn new() -> StepFilter {
        let mut covariance = [[0.0; STATES]; STATES];
        (0..STATES).for_each(|i| covariance[i][i] = PRIOR[i]);
        let rows = [Correction::default(); ROW_CLASSES];
        StepFilter {
            state: [0.0; STATES],
            covariance,
            noise: NOISE,
            rows,
            fits: 0,
            odd: 0,
            surprises: [0.0; JUMP as usize],
        }
    }

    /// Seconds by the corrected terms, and how their logarithm changes with each of the states.
    fn terms(&self, work: &StepWork, step: StepSize) -> (f64, [f64; STATES]) {
        let sequences = f64::from(step.sequences.max(1));
        let each = step.positions as f64 / sequences;
        let [launch, weights, kv, compute, attention] = work.parts(sequences, f64::from(step.rows) / sequences, each);
        let factor = |i: usize| self.state[i].exp();
        let (weights, kv, compute, attention) =
            (weights * factor(1), kv * factor(2), compute * factor(3), attention * factor(4));
        let (matrices, attended) = (weights.hypot(compute), kv.hypot(attention));
        let all = matrices + attended + launch;
        let share = |part: f64, of: f64| if of > 0.0 { part * part / (of * all) } else { 0.0 };
        let [kv, attention] = [kv, attention].map(|part| share(part, attended));
        let slope = [1.0, share(weights, matrices), kv, share(compute, matrices), attention];
        (all, slope)
    }

    /// Predicted seconds of a step, at the machine's present speed.
    pub(crate) fn predict(&self, work: &StepWork, step: StepSize) -> f64 {
        let correction = self.rows[row_class(step.rows)].value;
        self.terms(work, step).0 * (self.state[0] + correction).exp()
    }

    /// Like [`StepFilter::predict`], without corrections by row count.
    pub(crate) fn predict_by_terms(&self, work: &StepWork, step: StepSize) -> f64 {
        self.terms(work, step).0 * self.state[0].exp()
    }

    /// The logarithm of how much longer than at the ceilings everything takes at present.
    pub(crate) fn level(&self) -> f64 {
        self.state[0]
    }

    /// Moves the level.
    pub(crate) fn shift(&mut self, level: f64) {
        self.state[0] += level;
    }

    /// How fast weights are read at present, relative to the ceiling.
    pub(crate) fn speed(&self) -> f64 {
        (-self.state[0] - self.state[1]).exp()
    }

    /// Learns what a step took. `surprise` is the logarithm of measured over predicted seconds.
    pub(crate) fn observe(&mut self, work: &StepWork, step: StepSize, surprise: f64) {
        let slope = self.terms(work, step).1;
        (0..STATES).for_each(|i| self.covariance[i][i] = (self.covariance[i][i] + DRIFT[i]).min(PRIOR[i]));
        let column = self.covariance.map(|row| dot(&row, &slope));
        let unsure = dot(&column, &slope);
        let bound = BOUND * (unsure + self.noise).sqrt();
        if surprise.abs() > bound {
            self.rows[row_class(step.rows)].doubt(surprise, self.fits);
            self.doubt(surprise);
            return;
        }
        self.odd = 0;
        self.fits += 1;
        let total = unsure + self.noise;
        for i in 0..STATES {
            self.state[i] += column[i] / total * surprise;
            (0..STATES).for_each(|j| self.covariance[i][j] -= column[i] / total * column[j]);
        }
        let left = surprise * self.noise / total;
        self.rows[row_class(step.rows)].learn(left);
        let noise = (surprise * surprise - unsure).max(0.0);
        self.noise = (self.noise + NOISE_SHARE * (noise - self.noise)).max(LEAST_NOISE);
    }

    /// Leaves out a surprise beyond the bound. If it is the last of several in a row on its side, the level has jumped.
    fn doubt(&mut self, surprise: f64) {
        let side = if surprise > 0.0 { 1 } else { -1 };
        self.odd = if self.odd * side > 0 { self.odd + side } else { side };
        self.surprises.rotate_left(1);
        self.surprises[JUMP as usize - 1] = surprise;
        if self.odd.unsigned_abs() >= JUMP {
            self.odd = 0;
            // One of them may be a wild step besides.
            let mut sorted = self.surprises;
            sorted.sort_by(f64::total_cmp);
            self.state[0] += sorted[JUMP as usize / 2];
            self.covariance[0][0] = PRIOR[0];
            self.rows.iter_mut().for_each(|class| class.odd = 0);
        }
    }
}
