//! Running estimate of step times by row count.
//!
//! Real machines drift by factors of two within seconds, and steps of all row counts drift together. So two things are
//! kept separate: the current *speed*, a median over the last few steps, and the *shape*, how much slower steps of some
//! rows are than others (`shape.rs`), which changes slowly if at all.
//!
//! All values are logarithms of measured over modelled seconds. The model (a roofline or a table) includes the bytes of
//! keys and values, so that a growing context is not mistaken for drift.

use crate::roofline::StepModel;
use crate::shape::Shape;

/// Number of steps whose median is the current speed, and number of plain steps for theirs.
const WINDOW: usize = 7;
const PLAIN_WINDOW: usize = 5;
/// Standard deviations of the cautious estimate above the likely one, and of the hopeful one below it.
const CAUTION: f64 = 2.0;
const HOPE: f64 = 1.0;
/// Standard deviations by which a step with more rows may seem faster than its neighbour.
const IMPOSSIBLE: f64 = 2.5;
/// Standard deviations from a neighbour with the same rows beyond which a step is an outlier.
const OUTLIER: f64 = 3.0;
/// Change of speed, in logarithms, after which earlier plain steps say nothing about later ones: a factor of 1.5, or
/// the given number of a step's standard deviations if that is more.
const JUMP: f64 = 0.4;
const JUMP_DEVIATIONS: f64 = 4.0;
/// Minimum step size of the running median of differences.
const MEDIAN_STEP: f64 = 0.03;
/// Least noise of single steps, in logarithms.
const LEAST_NOISE: f64 = 1e-3;

/// The last few steps: rows, and logarithm of measured over modelled seconds.
#[derive(Clone, Copy, Debug)]
struct Window<const N: usize> {
    steps: [(usize, f64); N],
    count: usize,
}

impl<const N: usize> Window<N> {
    const EMPTY: Window<N> = Window { steps: [(1, 0.0); N], count: 0 };

    fn push(&mut self, rows: usize, x: f64) {
        self.steps[self.count % N] = (rows, x);
        self.count += 1;
    }

    /// Median of the logarithms minus the current shape (factors by rows minus 1). For an even count, the lower of the
    /// middle two: steps hiccup, but none is too fast.
    fn level(&self, shape: &[f64]) -> f64 {
        let mut levels = self.steps.map(|(rows, x)| x - shape[rows - 1].ln());
        let held = &mut levels[..self.count.min(N)];
        held.sort_by(f64::total_cmp);
        match held.len() {
            0 => 0.0,
            1 | 2 => held[0],
            n => (held[n / 2] + held[(n - 1) / 2]) / 2.0,
        }
    }
}

/// Likely, cautious and hopeful step times in seconds, by rows minus 1, at the current speed. None falls with the rows.
#[derive(Clone, Debug, Default)]
pub struct Curve {
    /// Expected time.
    pub likely: Vec<f64>,
    /// Upper estimate, seldom exceeded. For unmeasured rows: the time of two steps that together have as many rows.
    pub cautious: Vec<f64>,
    /// Lower estimate, seldom undercut.
    pub hopeful: Vec<f64>,
}

impl Curve {
    fn clear(&mut self, rows: usize) {
        for times in [&mut self.likely, &mut self.cautious, &mut self.hopeful] {
            times.clear();
            times.resize(rows, 0.0);
        }
    }
}

/// The estimate, for 1 row up to a maximum fixed at the start.
#[derive(Clone, Debug)]
pub struct StepTimes {
    model: StepModel,
    shape: Shape,
    /// Rows of plain steps, the reference for others.
    anchor: usize,
    /// Factors on the model for each row count, recomputed from the shape after each step.
    factors: Curve,
    window: Window<WINDOW>,
    plain: Window<PLAIN_WINDOW>,
    /// Levels of the two windows.
    level: f64,
    plain_level: f64,
    /// Rows and logarithm of the last step, unless it must not be compared with the next.
    last: Option<(usize, f64)>,
    /// Median difference between two neighbouring steps, without their shapes.
    noise: f64,
    noise_seen: u32,
    /// Lower bound of `noise`.
    least_noise: f64,
    steps: u64,
    /// Scratch: indices of the measured row counts.
    measured: Vec<usize>,
}

impl StepTimes {
    /// An estimate for steps of 1 to `max_rows` rows that starts from `model`.
    pub fn new(model: StepModel, max_rows: u32) -> StepTimes {
        let mut times = StepTimes {
            model,
            shape: Shape::new(max_rows),
            anchor: 1,
            factors: Curve::default(),
            window: Window::EMPTY,
            plain: Window::EMPTY,
            level: 0.0,
            plain_level: 0.0,
            last: None,
            noise: 0.1,
            noise_seen: 0,
            least_noise: LEAST_NOISE,
            steps: 0,
            measured: Vec::with_capacity(max_rows.max(1) as usize),
        };
        times.refill();
        times
    }

    /// The estimate for steps whose times differ by at least `least`, in logarithms, for no reason.
    pub fn with_noise(self, least: f64) -> StepTimes {
        StepTimes { least_noise: least, noise: self.noise.max(least), ..self }
    }

    /// Sets the rows of plain steps, to which deviations are relative. 1 at first.
    pub fn compare_with(&mut self, rows: u32) {
        let anchor = (rows as usize).clamp(1, self.shape.rows());
        if anchor != self.anchor {
            self.anchor = anchor;
            self.refill();
        }
    }

    /// Learns that a step of `rows` rows that read `kv_bytes` bytes of keys and values took `seconds`. Ignores other
    /// sizes and invalid times. Returns `true` if the step showed that the shape has changed, so that new estimates do
    /// not apply to earlier steps.
    pub fn observe(&mut self, rows: u32, kv_bytes: f64, seconds: f64) -> bool {
        let at = rows as usize;
        if at == 0 || at > self.shape.rows() || !(seconds.is_finite() && seconds > 0.0) {
            return false;
        }
        let x = (seconds / self.model.time(rows, kv_bytes)).ln();
        self.steps += 1;
        if self.steps == 1 {
            // The first measured row count is the reference for others.
            self.shape.prove(at);
        }
        let compared = self.last.is_some_and(|(before, y)| self.compare(at, x, before, y));
        self.last = Some((at, x)).filter(|_| !compared);
        self.refill();
        self.window.push(at, x);
        self.level = self.window.level(&self.factors.likely);
        if at == self.anchor {
            self.note_plain(x);
        }
        self.plain_level = self.plain.level(&self.factors.likely);
        compared && self.shape.changed()
    }

    /// Adds a plain step's logarithm to their window. If the speed has jumped since the last ones and this step
    /// confirms it, the old ones are dropped.
    fn note_plain(&mut self, x: f64) {
        let now = x - self.factors.likely[self.anchor - 1].ln();
        let jumped = (self.plain_level - self.level).abs() > self.jump();
        if jumped && (now - self.level).abs() < (now - self.plain_level).abs() {
            self.plain = Window::EMPTY;
        }
        self.plain.push(self.anchor, x);
    }

    /// Whether steps of these rows were measured often enough to rely on.
    pub fn proven(&self, rows: u32) -> bool {
        self.shape.proven((rows as usize).clamp(1, self.shape.rows()))
    }

    /// Whether the last comparison contradicted the estimate, so that another is wanted.
    pub fn doubts(&self) -> bool {
        self.shape.doubts()
    }

    /// Logarithm of the current speed: measured over modelled seconds, without the shape.
    pub fn level(&self) -> f64 {
        self.level
    }

    /// Standard deviation of a single step's logarithm.
    pub fn deviation(&self) -> f64 {
        (self.pair_variance() / 2.0).sqrt()
    }

    /// A change of level that makes earlier plain steps irrelevant.
    pub fn jump(&self) -> f64 {
        JUMP.max(JUMP_DEVIATIONS * self.deviation())
    }

    /// Likely seconds of a step, never falling with `rows`. `O(rows)`; rows above the maximum count as the maximum.
    pub fn time(&self, rows: u32, kv_bytes: f64) -> f64 {
        let rows = rows.clamp(1, self.shape.rows() as u32);
        let likely = |r: u32| self.modelled(r, kv_bytes) * self.factors.likely[r as usize - 1];
        (1..=rows).map(likely).fold(0.0, f64::max)
    }

    /// Seconds of a plain step as last measured, regardless of later other steps.
    pub fn plain_time(&self, kv_bytes: f64) -> f64 {
        self.model.time(self.anchor as u32, kv_bytes) * self.factors.likely[self.anchor - 1] * self.plain_level.exp()
    }

    /// Seconds by the model at the current speed, without the shape.
    pub fn modelled(&self, rows: u32, kv_bytes: f64) -> f64 {
        self.model.time(rows, kv_bytes) * self.level().exp()
    }

    /// The cautious factor on [`StepTimes::modelled`] by rows minus 1.
    pub fn caution(&self) -> &[f64] {
        &self.factors.cautious
    }

    /// Fills `out` with the times of 1 to `rows` rows, at most the maximum.
    pub fn curve(&self, rows: u32, kv_bytes: f64, out: &mut Curve) {
        let rows = (rows as usize).min(self.shape.rows());
        out.clear(rows);
        let speed = self.level().exp();
        for at in 0..rows {
            let modelled = self.model.time(at as u32 + 1, kv_bytes) * speed;
            let not_below = |times: &[f64]| if at == 0 { 0.0 } else { times[at - 1] };
            out.likely[at] = (modelled * self.factors.likely[at]).max(not_below(&out.likely));
            out.cautious[at] = (modelled * self.factors.cautious[at]).max(not_below(&out.cautious));
            out.hopeful[at] = (modelled * self.factors.hopeful[at]).max(not_below(&out.hopeful));
        }
    }

    /// Recomputes the factors from the shape.
    fn refill(&mut self) {
        let mut factors = std::mem::take(&mut self.factors);
        factors.clear(self.shape.rows());
        let (mut likely, mut hope) = (0.0f64, 0.0f64);
        for at in 0..self.shape.rows() {
            let (mean, deviation) = (self.shape.mean(at + 1), self.shape.deviation(at + 1, self.anchor));
            let modelled = self.model.time(at as u32 + 1, 0.0);
            likely = likely.max(modelled * mean.exp());
            factors.likely[at] = likely / modelled;
            // A single contradicting pair may have been an outlier and deserves another.
            if self.shape.pairs(at + 1) != 1 {
                hope = hope.max(modelled * (mean - HOPE * deviation).exp());
            }
            factors.hopeful[at] = hope / modelled;
            let caution = CAUTION * (1.0 + 1.0 / f64::from(self.shape.pairs(at + 1).max(1)));
            factors.cautious[at] = likely * (caution * deviation).exp();
        }
        self.bound(&mut factors.cautious);
        self.factors = factors;
    }

    /// Bounds the cautious estimate: a step takes no longer than a measured one with more rows, nor than two steps that
    /// together have its rows. For unmeasured rows these bounds are all that is known. Takes and returns cautious
    /// seconds by rows minus 1.
    fn bound(&mut self, out: &mut [f64]) {
        let mut least = f64::INFINITY;
        for at in (0..out.len()).rev() {
            if self.shape.proven(at + 1) {
                least = least.min(out[at]);
            }
            out[at] = least;
        }
        // All measured rows count, not only the nearest below: measuring another size must not loosen the bound.
        self.measured.clear();
        for at in 0..out.len() {
            // Rows are indices plus 1: `below + 1` and `at - below` rows make `at + 1`.
            let two = self.measured.iter().map(|&below| out[below] + out[at - below - 1]).fold(f64::INFINITY, f64::min);
            out[at] = out[at].min(two);
            if self.shape.proven(at + 1) {
                self.measured.push(at);
            }
        }
        for (at, time) in out.iter_mut().enumerate() {
            *time /= self.model.time(at as u32 + 1, 0.0);
        }
    }

    /// Variance of the difference between two neighbouring steps' logarithms.
    fn pair_variance(&self) -> f64 {
        // A normal variable's standard deviation is 1.48 times the median of its magnitude.
        (1.48 * self.noise).powi(2).max(1e-5)
    }

    /// Learns from two neighbouring steps. Returns `true` if the second must not be compared again.
    fn compare(&mut self, at: usize, x: f64, before: usize, y: f64) -> bool {
        let noise = self.pair_variance();
        if at == before {
            self.hear_noise((x - y).abs());
            // A step unlike its predecessor is a poor reference for others.
            return (x - y).abs() > OUTLIER * noise.sqrt();
        }
        // More rows never take less time. If they seem to, the machine changed or hiccuped in between.
        let longer = x - y + (self.model.time(at as u32, 0.0) / self.model.time(before as u32, 0.0)).ln();
        let backwards = if at > before { -longer } else { longer };
        if backwards > IMPOSSIBLE * noise.sqrt() {
            return false;
        }
        let (disagreement, expected) = self.shape.compare(at, before, x - y, noise, self.steps);
        if expected < 1.5 * noise {
            self.hear_noise(disagreement.abs());
        }
        true
    }

    /// Moves the running median of differences towards a new one: up if it is larger, down if not.
    fn hear_noise(&mut self, difference: f64) {
        self.noise_seen = self.noise_seen.saturating_add(1);
        let step = (1.0 / (f64::from(self.noise_seen) + 1.0)).max(MEDIAN_STEP);
        let factor = if difference > self.noise { 1.0 + step } else { 1.0 / (1.0 + step) };
        self.noise = (self.noise * factor).clamp(self.least_noise, 1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roofline::StepModel;

    fn flat() -> StepModel {
        StepModel::Table { seconds: vec![(1, 1.0)], seconds_per_kv_byte: 0.001 }
    }

    fn curve(times: &StepTimes, rows: u32) -> Curve {
        let mut curve = Curve::default();
        times.curve(rows, 0.0, &mut curve);
        curve
    }

    #[test]
    fn shape_and_speed_are_told_apart() {
        let mut times = StepTimes::new(flat(), 16);
        for i in 0..400 {
            // The machine becomes four times slower while steps of 1 and 4 rows alternate.
            let speed = 1.0 + 3.0 * f64::from(i) / 400.0;
            let (rows, shape) = if i % 2 == 0 { (1, 1.0) } else { (4, 1.5) };
            times.observe(rows, 0.0, speed * shape);
        }
        let curve = curve(&times, 8);
        assert!((curve.likely[3] / curve.likely[0] - 1.5).abs() < 0.02, "{curve:?}");
        assert!((curve.likely[0] / 4.0 - 1.0).abs() < 0.05, "{curve:?}");
        assert!((curve.likely[1] / curve.likely[0] - 1.5f64.sqrt()).abs() < 0.02, "between 1 and 4: {curve:?}");
        assert_eq!(times.time(4, 0.0), curve.likely[3]);
    }

    #[test]
    fn a_growing_context_is_no_drift() {
        let mut times = StepTimes::new(flat(), 4);
        for i in 0..100 {
            let kv = f64::from(i * 20);
            times.observe(1 + i as u32 % 2, kv, 1.0 + 0.001 * kv);
        }
        assert!(times.level().abs() < 1e-9);
        assert!((times.time(2, 5000.0) - 6.0).abs() < 1e-6);
    }

    #[test]
    fn a_machine_that_became_another_is_known_by_its_first_plain_step() {
        let mut times = StepTimes::new(flat(), 16);
        for i in 0..60 {
            times.observe(if i % 3 == 0 { 4 } else { 1 }, 0.0, if i % 3 == 0 { 1.5 } else { 1.0 });
        }
        (0..5).for_each(|_| _ = times.observe(4, 0.0, 6.0));
        assert!((times.plain_time(0.0) - 1.0).abs() < 0.05, "no plain step has told: {}", times.plain_time(0.0));
        times.observe(1, 0.0, 4.0);
        assert!((times.plain_time(0.0) - 4.0).abs() < 0.1, "{}", times.plain_time(0.0));
    }

    #[test]
    fn outliers_and_a_single_bad_pair_do_little() {
        let mut times = StepTimes::new(flat(), 4);
        for i in 0..200 {
            let slow = if i % 50 == 49 { 10.0 } else { 1.0 };
            times.observe(1 + u32::from(i % 3 == 0), 0.0, slow * if i % 3 == 0 { 1.2 } else { 1.0 });
        }
        let curve = curve(&times, 2);
        assert!((curve.likely[1] / curve.likely[0] - 1.2).abs() < 0.02, "{curve:?}");
        assert!(times.deviation() < 0.05);
    }

    #[test]
    fn a_wrong_model_gives_way_and_a_changed_shape_is_followed() {
        let mut times = StepTimes::new(flat(), 16);
        for i in 0..40 {
            times.observe(if i % 2 == 0 { 1 } else { 16 }, 0.0, if i % 2 == 0 { 1.0 } else { 14.0 });
        }
        assert!((curve(&times, 16).likely[15] - 14.0).abs() < 0.1);
        for i in 0..60 {
            times.observe(if i % 2 == 0 { 1 } else { 16 }, 0.0, if i % 2 == 0 { 2.0 } else { 14.0 });
        }
        let curve = curve(&times, 16);
        assert!((curve.likely[15] / curve.likely[0] - 7.0).abs() < 0.3, "{:?}", curve.likely[15] / curve.likely[0]);
    }

    #[test]
    fn rows_never_measured_are_bounded_by_what_was() {
        let mut times = StepTimes::new(flat(), 8);
        times.observe(1, 0.0, 1.0);
        let before = curve(&times, 8);
        let expected: Vec<f64> = (1..=8).map(f64::from).collect();
        for (rows, (have, expected)) in before.cautious.iter().zip(expected).enumerate() {
            assert!((have - expected).abs() < 1e-9, "{} rows: {have}", rows + 1);
        }
        assert!(before.hopeful.iter().all(|t| (t - 1.0).abs() < 1e-9), "{:?}", before.hopeful);
        for _ in 0..50 {
            times.observe(4, 0.0, 1.2);
            times.observe(1, 0.0, 1.0);
        }
        let after = curve(&times, 8);
        assert!(after.cautious[1] < 1.3 && after.cautious[3] < 1.3, "{:?}", after.cautious);
        assert!((after.cautious[4] - after.cautious[3] - 1.0).abs() < 1e-6, "{:?}", after.cautious);
        assert!(after.cautious[7] < 2.6, "{:?}", after.cautious);
        for times in [&after.likely, &after.cautious, &after.hopeful] {
            assert!(times.windows(2).all(|w| w[0] <= w[1]), "{times:?}");
        }
    }

    #[test]
    fn nonsense_is_ignored() {
        let mut times = StepTimes::new(flat(), 2);
        for seconds in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            times.observe(1, 0.0, seconds);
        }
        times.observe(3, 0.0, 1.0);
        times.observe(0, 0.0, 1.0);
        assert_eq!(times.time(2, 0.0), 1.0);
        assert_eq!(times.time(9, 0.0), 1.0);
    }
}
