//! Learns the shape: how much slower steps of some rows are than the model says, relative to steps of other rows.
//!
//! It learns from pairs of neighbouring steps with different rows, which ran on the machine in the same state, so that
//! common factors such as drift cancel. No step is in two pairs, so that their errors are independent.
//!
//! The unknown is a curve over the logarithm of the rows: the logarithm of measured over modelled time, 0 at one row.
//! Its prior is a random walk (a model may be wrong by some factor per doubling), so that what is learned at some rows
//! informs those nearby, and less those far away. Each pair is an observation of the difference of two points. The
//! estimate is the usual linear one (Kalman 1960), whose variances say how well each point is known. Variances grow
//! again over time.
//!
//! How noisy single steps are is itself only known after some of them. Until then, the first pairs are weighed again
//! whenever the noise turns out to be another: trusted too much, they would outweigh all later ones.
//!
//! A pair with a large disagreement is first left out, because single steps can take ten times as long for unrelated
//! reasons. If several such pairs follow, or pairs keep disagreeing slightly, the curve has changed, and its variance
//! is increased there.

/// Prior variance of the model's error per doubling of rows: a factor of 1.9 either way.
const PER_OCTAVE: f64 = 0.4;
/// The variance per doubling that each step adds.
const AGEING: f64 = 3e-6;
/// Row counts up to this have separate points; beyond, there are eight points per octave.
pub(crate) const SINGLE: u32 = 16;
const POINTS_PER_OCTAVE: f64 = 8.0;
/// A pair is odd beyond this many standard deviations.
const ODD: f64 = 3.0;
/// Consecutive odd pairs after which they are believed.
const NEWS: i32 = 3;
/// Number of agreeing pairs before a point and its deviation are relied on.
const PROVEN: u32 = 1;
/// Number of first pairs that are weighed again, and the factors by which the variance of their noise must have grown or
/// shrunk for it. Too much trust costs drafts that do not pay; too little only time.
const EARLY: usize = 16;
const GROWN: f64 = 2.0;
const SHRUNK: f64 = 4.0;
/// Running mean of disagreements, in standard deviations, at which the curve must have changed, and the weight of the
/// last pair.
const CHANGED: f64 = 1.5;
const MEAN_SHARE: f64 = 0.125;

/// Statistics of the pairs that a point was part of.
#[derive(Clone, Copy, Debug, Default)]
struct Record {
    /// Number of pairs that agreed.
    pairs: u32,
    /// Running mean of disagreements, in standard deviations.
    bias: f64,
    /// Consecutive odd pairs, negative if the time was shorter than expected.
    odd: i32,
}

/// The first pairs, until they are many or the curve changes.
#[derive(Clone, Debug)]
struct Early {
    /// Two points and the difference of their logarithms.
    pairs: Vec<(usize, usize, f64)>,
    /// Variance of the noise that they were weighed with.
    noise: f64,
    /// Whether no more pairs are kept.
    over: bool,
}

/// The estimate of the shape.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    /// The point of each row count, by rows minus 1.
    point: Vec<usize>,
    /// Base-2 logarithm of each point's rows.
    place: Vec<f64>,
    mean: Vec<f64>,
    /// Covariance matrix of the points.
    covariance: Vec<f64>,
    records: Vec<Record>,
    /// Scratch: a column of the covariances during an update.
    column: Vec<f64>,
    early: Early,
    /// Step number at the last ageing.
    aged: u64,
    /// Whether the last pair was odd and left out.
    doubts: bool,
    /// Whether the last pair showed that the curve has changed.
    changed: bool,
}

impl Shape {
    /// A shape for 1 to `max_rows` rows.
    pub fn new(max_rows: u32) -> Shape {
        let (mut point, mut place) = (Vec::new(), Vec::new());
        for rows in 1..=max_rows.max(1) {
            let log = f64::from(rows).log2();
            let far = place.last().is_none_or(|last| log >= last + 1.0 / POINTS_PER_OCTAVE);
            if rows <= SINGLE || far {
                place.push(log);
            }
            point.push(place.len() - 1);
        }
        let points = place.len();
        let mut shape = Shape {
            point,
            mean: vec![0.0; points],
            covariance: vec![0.0; points * points],
            records: vec![Record::default(); points],
            column: vec![0.0; points],
            early: Early { pairs: Vec::with_capacity(EARLY), noise: 0.0, over: false },
            place,
            aged: 0,
            doubts: false,
            changed: false,
        };
        shape.open(1.0);
        shape
    }

    /// Maximum rows.
    pub fn rows(&self) -> usize {
        self.point.len()
    }

    /// Logarithm of the factor for a row count.
    pub fn mean(&self, rows: usize) -> f64 {
        self.mean[self.point[rows - 1]]
    }

    /// Standard deviation of the difference between two row counts' logarithms.
    pub fn deviation(&self, rows: usize, other: usize) -> f64 {
        let (a, b) = (self.point[rows - 1], self.point[other - 1]);
        self.difference(a, b).max(0.0).sqrt()
    }

    /// Whether pairs have agreed at a row count.
    pub fn proven(&self, rows: usize) -> bool {
        self.records[self.point[rows - 1]].pairs >= PROVEN
    }

    /// Whether the last pair was odd and left out.
    pub fn doubts(&self) -> bool {
        self.doubts
    }

    /// Whether the last pair showed that the curve has changed.
    pub fn changed(&self) -> bool {
        self.changed
    }

    /// Number of agreeing pairs at a row count.
    pub fn pairs(&self, rows: usize) -> u32 {
        self.records[self.point[rows - 1]].pairs
    }

    /// Marks a row count as the reference for others.
    pub fn prove(&mut self, rows: usize) {
        self.records[self.point[rows - 1]].pairs = PROVEN + 1;
    }

    /// Learns that in two neighbouring steps, the second being number `step`, the logarithm at `rows` exceeded that at
    /// `other` by `difference`. `noise` is the variance of such differences. Returns the disagreement and its expected
    /// variance.
    pub fn compare(&mut self, rows: usize, other: usize, difference: f64, noise: f64, step: u64) -> (f64, f64) {
        let (a, b) = (self.point[rows - 1], self.point[other - 1]);
        self.changed = false;
        if a == b {
            return (difference, noise);
        }
        self.open(AGEING * (step - self.aged) as f64);
        self.aged = step;
        self.reweigh(noise);
        let disagreement = difference - (self.mean[a] - self.mean[b]);
        let expected = self.difference(a, b) + noise;
        let normal = disagreement / expected.sqrt();
        // The step with more rows is the one in question, since plain steps are frequent. `sign` makes the disagreement
        // that step's, relative to the other.
        let (judged, sign) = if a > b { (a, 1.0) } else { (b, -1.0) };
        if normal.abs() > ODD {
            self.doubts = !self.is_news(judged, sign * disagreement);
            if self.doubts {
                return (disagreement, expected);
            }
            self.change(a, b, disagreement * disagreement);
        }
        self.doubts = false;
        self.keep_early(a, b, difference);
        self.learn(a, b, disagreement, noise);
        self.note(a, b, judged, sign * normal, noise);
        (disagreement, expected)
    }

    /// Whether to believe an odd pair: it is the last of several in a row on the same side.
    fn is_news(&mut self, judged: usize, disagreement: f64) -> bool {
        let record = &mut self.records[judged];
        let side = if disagreement > 0.0 { 1 } else { -1 };
        record.odd = if record.odd * side > 0 { record.odd + side } else { side };
        record.odd.abs() >= NEWS
    }

    /// Records a pair that was learned from.
    fn note(&mut self, a: usize, b: usize, judged: usize, normal: f64, noise: f64) {
        for point in [a, b] {
            let pairs = &mut self.records[point].pairs;
            *pairs = pairs.saturating_add(1);
        }
        let record = &mut self.records[judged];
        record.odd = 0;
        record.bias += MEAN_SHARE * (normal - record.bias);
        if record.bias.abs() > CHANGED {
            record.bias = 0.0;
            self.change(a, b, noise / 4.0);
        }
    }

    /// Increases the variance between two points, whose difference is no longer what it was.
    fn change(&mut self, a: usize, b: usize, variance: f64) {
        self.open_between(a, b, variance);
        self.changed = true;
        self.early.over = true;
    }

    fn keep_early(&mut self, a: usize, b: usize, difference: f64) {
        self.early.over |= self.early.pairs.len() == EARLY;
        if !self.early.over {
            self.early.pairs.push((a, b, difference));
        }
    }

    /// Learns the first pairs anew if the variance of their noise was far from what it is now known to be.
    fn reweigh(&mut self, noise: f64) {
        let known = self.early.noise / SHRUNK..=self.early.noise * GROWN;
        if self.early.over || known.contains(&noise) {
            return;
        }
        self.early.noise = noise;
        self.mean.fill(0.0);
        self.covariance.fill(0.0);
        self.open(1.0 + AGEING * self.aged as f64);
        for at in 0..self.early.pairs.len() {
            let (a, b, difference) = self.early.pairs[at];
            self.learn(a, b, difference - (self.mean[a] - self.mean[b]), noise);
        }
    }

    /// Updates the linear estimate with an observation of `a` minus `b`.
    fn learn(&mut self, a: usize, b: usize, disagreement: f64, noise: f64) {
        let points = self.place.len();
        for i in 0..points {
            self.column[i] = self.covariance[i * points + a] - self.covariance[i * points + b];
        }
        let total = self.column[a] - self.column[b] + noise;
        for i in 0..points {
            let gain = self.column[i] / total;
            self.mean[i] += gain * disagreement;
            for j in 0..points {
                self.covariance[i * points + j] -= gain * self.column[j];
            }
        }
    }

    /// Adds the random walk's variances times `factor`.
    fn open(&mut self, factor: f64) {
        let points = self.place.len();
        for i in 0..points {
            for j in 0..points {
                self.covariance[i * points + j] += factor * PER_OCTAVE * self.place[i].min(self.place[j]);
            }
        }
    }

    /// Adds variance between two points. Everything beyond the farther one moves with it.
    fn open_between(&mut self, a: usize, b: usize, variance: f64) {
        let points = self.place.len();
        let (low, high) = (self.place[a.min(b)], self.place[a.max(b)]);
        let share = |at: usize| ((self.place[at] - low) / (high - low)).clamp(0.0, 1.0);
        for i in 0..points {
            for j in 0..points {
                self.covariance[i * points + j] += variance * share(i) * share(j);
            }
        }
    }

    fn difference(&self, a: usize, b: usize) -> f64 {
        let points = self.place.len();
        let at = |i: usize, j: usize| self.covariance[i * points + j];
        at(a, a) + at(b, b) - at(a, b) - at(b, a)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_learnt_spreads_to_rows_nearby() {
        let mut shape = Shape::new(32);
        assert!((shape.deviation(2, 1) - PER_OCTAVE.sqrt()).abs() < 1e-9);
        for i in 0..20 {
            shape.compare(4, 1, 0.5, 0.01, 2 * i + 1);
        }
        assert!((shape.mean(4) - 0.5).abs() < 0.02 && (shape.mean(2) - 0.25).abs() < 0.02);
        assert!((shape.mean(16) - 0.5).abs() < 0.02, "nothing is known of larger ones");
        assert!(shape.deviation(4, 1) < 0.05 && shape.deviation(2, 1) > 0.3 && shape.deviation(16, 1) > 0.8);
        assert!((shape.deviation(8, 4) - PER_OCTAVE.sqrt()).abs() < 0.01);
        assert!(shape.proven(4) && shape.proven(1) && !shape.proven(2));
    }

    #[test]
    fn one_wild_step_is_left_out_and_a_change_is_followed() {
        let mut shape = Shape::new(8);
        for step in 0..100 {
            shape.compare(8, 1, 0.3, 0.01, step);
        }
        let before = shape.mean(8);
        shape.compare(1, 8, 2.0, 0.01, 100);
        assert_eq!(shape.mean(8), before);
        for step in 102..140 {
            shape.compare(8, 1, 1.3, 0.01, step);
        }
        assert!((shape.mean(8) - 1.3).abs() < 0.02, "{}", shape.mean(8));
        for step in 140..220 {
            shape.compare(8, 1, 1.05, 0.01, step);
        }
        assert!((shape.mean(8) - 1.05).abs() < 0.05, "{}", shape.mean(8));
    }

    #[test]
    fn many_rows_share_points() {
        let shape = Shape::new(512);
        assert_eq!(shape.rows(), 512);
        assert!(shape.place.len() < 64, "{}", shape.place.len());
        assert!(shape.point.windows(2).all(|w| w[0] <= w[1] && w[1] <= w[0] + 1));
        assert_eq!(shape.point[15], 15);
    }
}
