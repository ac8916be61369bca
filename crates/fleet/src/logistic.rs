//! Multinomial logistic regression with a quadratic penalty, by gradient descent with momentum (Nesterov 1983). Small
//! enough for heads of a few categories on a few hundred samples. Used by the linear head.

/// Rounds of gradient descent.
const ROUNDS: usize = 400;
/// Momentum.
const MOMENTUM: f64 = 0.9;

/// A sample: features, and the index of its class.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// Features.
    pub features: Vec<f32>,
    /// Its class.
    pub class: usize,
}

/// A trained classifier.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Logistic {
    /// Mean and reciprocal deviation of each feature.
    pub mean: Vec<f64>,
    pub scale: Vec<f64>,
    /// For each class, a weight for each feature, and the bias last.
    pub weights: Vec<Vec<f64>>,
}

impl Logistic {
    /// Trains on samples of `classes` classes, each class with the same weight. `penalty`: weight of the squared weights.
    pub(crate) fn train(samples: &[Example], classes: usize, penalty: f64) -> Logistic {
        let width = samples.first().map_or(0, |s| s.features.len());
        let (mean, scale) = standard(samples, width);
        let mut model = Logistic { mean, scale, weights: vec![vec![0.0; width + 1]; classes] };
        let rows: Vec<Vec<f64>> = samples.iter().map(|s| model.standardised(&s.features)).collect();
        let counts: Vec<f64> =
            (0..classes).map(|c| samples.iter().filter(|s| s.class == c).count().max(1) as f64).collect();
        // A step that is safe for standardised features: the curvature is at most a quarter of their squared length.
        let curvature = (width as f64 + 1.0) * classes as f64 / 4.0;
        let rate = 1.0 / (curvature + penalty);
        let mut momentum = model.weights.clone();
        for _ in 0..ROUNDS {
            let ahead = sum(&model.weights, &momentum, MOMENTUM);
            let gradient = gradient(&ahead, &rows, samples, (&counts, penalty));
            for (c, own) in momentum.iter_mut().enumerate() {
                own.iter_mut().zip(&gradient[c]).for_each(|(m, g)| *m = MOMENTUM * *m - rate * g);
            }
            model.weights = sum(&model.weights, &momentum, 1.0);
        }
        model
    }

    fn standardised(&self, features: &[f32]) -> Vec<f64> {
        let each = features.iter().zip(self.mean.iter().zip(&self.scale));
        each.map(|(&x, (mean, scale))| (f64::from(x) - mean) * scale).chain([1.0]).collect()
    }

    /// Logarithms of the classes' probabilities, up to a constant.
    pub(crate) fn logs(&self, features: &[f32]) -> Vec<f64> {
        let row = self.standardised(features);
        self.weights.iter().map(|w| dot(w, &row)).collect()
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// `a` + `factor` * `b`.
fn sum(a: &[Vec<f64>], b: &[Vec<f64>], factor: f64) -> Vec<Vec<f64>> {
    let row = |(a, b): (&Vec<f64>, &Vec<f64>)| a.iter().zip(b).map(|(a, b)| a + factor * b).collect();
    a.iter().zip(b).map(row).collect()
}

fn standard(samples: &[Example], width: usize) -> (Vec<f64>, Vec<f64>) {
    let n = samples.len().max(1) as f64;
    let mean: Vec<f64> =
        (0..width).map(|i| samples.iter().map(|s| f64::from(s.features[i])).sum::<f64>() / n).collect();
    let square = |i: usize| samples.iter().map(|s| (f64::from(s.features[i]) - mean[i]).powi(2)).sum::<f64>() / n;
    let scale = (0..width).map(|i| 1.0 / square(i).sqrt().max(1e-6)).collect();
    (mean, scale)
}

/// The gradient of the mean loss and of the penalty. A sample's error is its class's share.
fn gradient(
    weights: &[Vec<f64>],
    rows: &[Vec<f64>],
    samples: &[Example],
    (counts, penalty): (&[f64], f64),
) -> Vec<Vec<f64>> {
    let mut gradient: Vec<Vec<f64>> = weights.iter().map(|w| w.iter().map(|w| penalty * w).collect()).collect();
    for (row, sample) in rows.iter().zip(samples) {
        let logs: Vec<f64> = weights.iter().map(|w| dot(w, row)).collect();
        let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let all: f64 = logs.iter().map(|l| (l - most).exp()).sum();
        let share = 1.0 / counts[sample.class] / counts.len() as f64;
        for (c, own) in gradient.iter_mut().enumerate() {
            let error = (logs[c] - most).exp() / all - f64::from(u8::from(c == sample.class));
            own.iter_mut().zip(row).for_each(|(g, x)| *g += share * error * x);
        }
    }
    gradient
}

/// How often each class was taken for each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion {
    /// By true class, then by answer.
    pub counts: Vec<Vec<u32>>,
}

impl Confusion {
    /// Of `classes` classes, before the first sample.
    pub fn new(classes: usize) -> Confusion {
        Confusion { counts: vec![vec![0; classes]; classes] }
    }

    /// Adds a sample.
    pub fn add(&mut self, class: usize, answer: usize) {
        if let Some(count) = self.counts.get_mut(class).and_then(|row| row.get_mut(answer)) {
            *count += 1;
        }
    }

    /// Mean over the classes of the share that was right, so that frequent classes count no more.
    pub fn balanced_accuracy(&self) -> f64 {
        let rows = self.counts.iter().enumerate().filter(|(_, row)| row.iter().sum::<u32>() > 0);
        let right: Vec<f64> = rows.map(|(c, row)| f64::from(row[c]) / f64::from(row.iter().sum::<u32>())).collect();
        if right.is_empty() { 0.0 } else { right.iter().sum::<f64>() / right.len() as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points around a corner for each class, with a feature of noise far larger than the others.
    fn samples(n: u32, seed: u32) -> Vec<Example> {
        let mut state = u64::from(seed);
        let mut unit = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u32 << 24) as f32 - 0.5
        };
        let sample = |i: u32| {
            let class = i as usize % 3;
            let corner = [[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]][class];
            Example { features: vec![corner[0] + unit(), corner[1] + unit(), 1000.0 * unit(), 7.0], class }
        };
        (0..n).map(sample).collect()
    }

    #[test]
    fn classes_apart_are_told_apart() {
        println!("seeds 1 and 2");
        let model = Logistic::train(&samples(90, 1), 3, 1e-3);
        let mut confusion = Confusion::new(3);
        for sample in samples(300, 2) {
            let logs = model.logs(&sample.features);
            let best = (0..3).max_by(|&a, &b| logs[a].total_cmp(&logs[b])).unwrap();
            confusion.add(sample.class, best);
        }
        assert!(confusion.balanced_accuracy() > 0.97, "{confusion:?}");
        assert!(model.weights.iter().flatten().all(|w| w.is_finite()), "a constant feature does no harm");
    }

    #[test]
    fn rare_classes_count_as_much() {
        let mut confusion = Confusion::new(2);
        (0..99).for_each(|_| confusion.add(0, 0));
        confusion.add(1, 0);
        assert_eq!(confusion.balanced_accuracy(), 0.5);
        assert_eq!(Confusion::new(2).balanced_accuracy(), 0.0);
    }
}
