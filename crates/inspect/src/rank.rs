//! Whether one list of times is larger than another (the rank test of Mann and Whitney), by which ratio (Hodges and
//! Lehmann), and which of many such tests stand together (Benjamini and Hochberg). No distribution is assumed, and an
//! outlier counts by its rank alone. Used by `aio kernels compare`, and by whoever compares times of two runs.

/// Samples of both lists together up to which the distribution is counted exactly.
const EXACT: usize = 60;
/// Probability outside the interval, on each side.
const OUTSIDE: f64 = 0.025;
/// Intervals of the integral of the normal density, and its width in deviations.
const PARTS: usize = 2000;
const WIDTH: f64 = 12.0;

/// The probability that `b` outranks `a` as much as it does, or more, if both come from one distribution. Exact for up to 60
/// samples on both sides together, above that by the normal approximation; 1 if a side is empty.
pub fn p_greater(a: &[f64], b: &[f64]) -> f64 {
    if a.is_empty() || b.is_empty() {
        return 1.0;
    }
    let groups = groups(a, b);
    // Twice the number of pairs in which b is larger, equal pairs counting half.
    let (mut below, mut twice) = (0, 0);
    for &(in_a, in_b) in &groups {
        twice += in_b * (2 * below + in_a);
        below += in_a;
    }
    if a.len() + b.len() <= EXACT { exact(&groups, b.len(), twice) } else { normal(&groups, a.len(), b.len(), twice) }
}

/// The probability that they differ as much as they do, in either direction.
pub fn p_differs(a: &[f64], b: &[f64]) -> f64 {
    (2.0 * p_greater(a, b).min(p_greater(b, a))).min(1.0)
}

/// The smallest value that [`p_greater`] has for lists of these lengths: that of lists without overlap. Twice this is the
/// smallest of [`p_differs`].
pub fn p_least(a: usize, b: usize) -> f64 {
    match a + b {
        _ if a == 0 || b == 0 => 1.0,
        0..=EXACT => 1.0 / binomial(a + b, a),
        _ => normal(&untied(a, b), a, b, 2 * a * b),
    }
}

/// Probabilities adjusted for the number of tests, in the same order: those below `q` are a set of which a share of at most
/// `q` is expected to be false, and if no test has anything to find, a probability of at most `q` that there are any.
///
/// The step-up method of Benjamini and Hochberg ("Controlling the False Discovery Rate", Journal of the Royal Statistical
/// Society B 57, 1995), which holds for tests that are independent or depend on each other positively, as tests of
/// kernels on one drifting machine do (Benjamini and Yekutieli, Annals of Statistics 29, 2001).
pub fn adjusted(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&i, &j| p[i].total_cmp(&p[j]));
    let (mut out, mut least) = (vec![1.0; p.len()], 1.0f64);
    for (rank, &i) in order.iter().enumerate().rev() {
        least = least.min(p[i] * p.len() as f64 / (rank + 1) as f64);
        out[i] = least;
    }
    out
}

/// A ratio with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// The ratio itself.
    pub middle: f64,
    /// The ends of its interval; `None` if there are too few samples for one.
    pub interval: Option<(f64, f64)>,
}

/// The median ratio of all pairs, `b` by `a`. `None` if there are none or a number is not above 0.
pub fn ratio(a: &[f64], b: &[f64]) -> Option<Ratio> {
    let mut all: Vec<f64> = b.iter().flat_map(|b| a.iter().map(move |a| b / a)).collect();
    if all.is_empty() || all.iter().any(|r| !r.is_finite() || *r <= 0.0) {
        return None;
    }
    all.sort_by(f64::total_cmp);
    let middle = (all[(all.len() - 1) / 2] + all[all.len() / 2]) / 2.0;
    let cut = cut(a.len(), b.len());
    Some(Ratio { middle, interval: (cut > 0).then(|| (all[cut - 1], all[all.len() - cut])) })
}

/// How many of the smallest ratios lie below the interval, plus one: the largest `k` for which fewer than `k` pairs of `b`
/// above `a` have a probability of at most [`OUTSIDE`]. 0 if there is none.
fn cut(a: usize, b: usize) -> usize {
    let untied = untied(a, b);
    // By symmetry, fewer than k pairs are as likely as more than all but k.
    let twice = |k: usize| 2 * (a * b - (k - 1));
    let tails = if a + b <= EXACT { tails(&untied, b) } else { Vec::new() };
    let tail = |k: usize| tails.get(twice(k)).copied().unwrap_or_else(|| normal(&untied, a, b, twice(k)));
    let mut k = 0;
    while k < a * b / 2 && tail(k + 1) <= OUTSIDE {
        k += 1;
    }
    k
}

/// Groups of lists in which no two values are equal.
fn untied(a: usize, b: usize) -> Vec<(usize, usize)> {
    (0..a + b).map(|i| if i < a { (1, 0) } else { (0, 1) }).collect()
}

/// How many samples of each list have each value, in rising order of values.
fn groups(a: &[f64], b: &[f64]) -> Vec<(usize, usize)> {
    let mut all: Vec<(f64, bool)> = a.iter().map(|&v| (v, false)).chain(b.iter().map(|&v| (v, true))).collect();
    all.sort_by(|x, y| x.0.total_cmp(&y.0));
    let mut groups: Vec<(usize, usize)> = Vec::new();
    for (i, &(value, in_b)) in all.iter().enumerate() {
        if i == 0 || all[i - 1].0 != value {
            groups.push((0, 0));
        }
        let last = groups.last_mut().expect("a group was begun");
        if in_b { last.1 += 1 } else { last.0 += 1 }
    }
    groups
}

/// The probability that the statistic is at least `twice`.
fn exact(groups: &[(usize, usize)], b: usize, twice: usize) -> f64 {
    tails(groups, b).get(twice).copied().unwrap_or(0.0)
}

/// For each value of the statistic the probability that it is at least that: counts the ways to distribute the values over
/// the lists.
fn tails(groups: &[(usize, usize)], b: usize) -> Vec<f64> {
    let total: usize = groups.iter().map(|g| g.0 + g.1).sum();
    let most = 2 * b * (total - b);
    // Ways by the number of values in b and by the statistic.
    let mut ways = vec![vec![0.0f64; most + 1]; b + 1];
    ways[0][0] = 1.0;
    let mut seen = 0;
    for size in groups.iter().map(|g| g.0 + g.1) {
        let mut next = vec![vec![0.0f64; most + 1]; b + 1];
        for (in_b, row) in ways.iter().enumerate().take(b.min(seen) + 1) {
            for take in 0..=size.min(b - in_b) {
                // The lists' smaller values: `in_b` of b, the others of a.
                let add = take * (2 * (seen - in_b) + (size - take));
                let times = binomial(size, take);
                for (at, n) in row.iter().enumerate().filter(|(_, n)| **n > 0.0) {
                    if let Some(sum) = next[in_b + take].get_mut(at + add) {
                        *sum += n * times;
                    }
                }
            }
        }
        (ways, seen) = (next, seen + size);
    }
    let mut tails = ways.swap_remove(b);
    for i in (0..most).rev() {
        tails[i] += tails[i + 1];
    }
    let all = tails[0];
    tails.iter_mut().for_each(|tail| *tail /= all);
    tails
}

fn binomial(n: usize, k: usize) -> f64 {
    (0..k).fold(1.0, |product, i| product * (n - i) as f64 / (i + 1) as f64)
}

/// The normal approximation, with correction for equal values and for continuity.
fn normal(groups: &[(usize, usize)], a: usize, b: usize, twice: usize) -> f64 {
    let (a, b) = (a as f64, b as f64);
    let n = a + b;
    let ties: f64 = groups.iter().map(|g| (g.0 + g.1) as f64).map(|t| t * t * t - t).sum();
    let variance = a * b / 12.0 * (n + 1.0 - ties / (n * (n - 1.0)));
    if variance <= 0.0 {
        return 1.0;
    }
    upper((twice as f64 / 2.0 - a * b / 2.0 - 0.5) / variance.sqrt())
}

/// The probability that a normal number exceeds `z`, by Simpson's rule.
fn upper(z: f64) -> f64 {
    if z < 0.0 {
        return 1.0 - upper(-z);
    }
    let step = WIDTH / PARTS as f64;
    let weight = |i: usize| if i == 0 || i == PARTS { 1.0 } else { 2.0 + 2.0 * (i % 2) as f64 };
    let density = |x: f64| (-x * x / 2.0).exp();
    let sum: f64 = (0..=PARTS).map(|i| weight(i) * density(z + step * i as f64)).sum();
    sum * step / 3.0 / (2.0 * std::f64::consts::PI).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(got: f64, want: f64) {
        assert!((got - want).abs() < 1e-3 * want, "{got}, expected {want}");
    }

    #[test]
    fn the_normal_tail_is_that_of_tables() {
        for (z, p) in [(0.0, 0.5), (1.0, 0.158_655), (1.959_964, 0.025), (3.0, 1.349_9e-3), (6.0, 9.866e-10)] {
            near(upper(z), p);
        }
        near(upper(-1.0), 0.841_345);
    }

    #[test]
    fn small_samples_are_counted() {
        let low: Vec<f64> = (0..5).map(f64::from).collect();
        let high: Vec<f64> = (5..10).map(f64::from).collect();
        near(p_greater(&low, &high), 1.0 / 252.0);
        assert_eq!(p_greater(&high, &low), 1.0);
        near(p_differs(&high, &low), 2.0 / 252.0);
        // Tables of the statistic: with 4 and 6 samples, a U of 3 or less has 3.33 % one-sided.
        let (a, b) = ([1.0, 2.0, 3.0, 7.0], [4.0, 5.0, 6.0, 8.0, 9.0, 10.0]);
        near(p_greater(&a, &b), 7.0 / 210.0);
        // Equal values count half: 1 2 | 2 3 can be dealt in 6 ways, of which 2 are as extreme.
        near(p_greater(&[1.0, 2.0], &[2.0, 3.0]), 2.0 / 6.0);
        assert_eq!(p_differs(&[1.0; 5], &[1.0; 5]), 1.0);
        assert_eq!(p_greater(&[], &[1.0]), 1.0);
    }

    #[test]
    fn large_samples_agree_with_the_exact_count() {
        let a: Vec<f64> = (0..30).map(|i| f64::from(i * 7 % 30)).collect();
        let b: Vec<f64> = (0..30).map(|i| f64::from(i * 11 % 30) + 3.5).collect();
        let groups = groups(&a, &b);
        let twice: usize = b.iter().map(|b| 2 * a.iter().filter(|a| *a < b).count()).sum();
        let (counted, approximate) = (exact(&groups, 30, twice), normal(&groups, 30, 30, twice));
        assert!((counted - approximate).abs() < 2e-3, "{counted} {approximate}");
        assert_eq!(p_greater(&a, &b), counted);
        let many = |shift: f64| (0..200).map(|i| f64::from(i % 17) + shift).collect::<Vec<_>>();
        assert!(p_greater(&many(0.0), &many(3.0)) < 1e-6 && p_greater(&many(0.0), &many(0.0)) > 0.45);
    }

    #[test]
    fn the_ratio_has_an_interval_that_covers_it() {
        let a: Vec<f64> = (0..15).map(|i| 100.0 + f64::from(i * 7 % 15)).collect();
        let b: Vec<f64> = a.iter().rev().map(|v| 1.1 * v).collect();
        let ratio = ratio(&a, &b).expect("positive times");
        let (low, high) = ratio.interval.expect("fifteen samples are enough");
        near(ratio.middle, 1.1);
        assert!(low < 1.1 && 1.1 < high && high - low < 0.1, "{low} {high}");
        // From tables: with 15 and 15 samples the interval leaves out 64 ratios on each side.
        assert_eq!(cut(15, 15), 65);
        assert_eq!((cut(3, 3), cut(4, 4), cut(5, 5)), (0, 1, 3));
        let few = super::ratio(&[1.0, 2.0], &[2.0, 4.0]).expect("positive times");
        assert_eq!(few.interval, None);
        assert_eq!(super::ratio(&[0.0], &[1.0]), None);
    }

    #[test]
    fn lists_without_overlap_have_the_least_probability() {
        for (a, b) in [(1, 1), (3, 3), (7, 7), (4, 6), (40, 30)] {
            let (low, high) = ((0..a).map(f64::from), (a..a + b).map(f64::from));
            near(p_greater(&low.collect::<Vec<_>>(), &high.collect::<Vec<_>>()), p_least(a as usize, b as usize));
        }
        near(p_least(7, 7), 1.0 / 3432.0);
        assert_eq!((p_least(0, 7), p_least(7, 0)), (1.0, 1.0));
    }

    #[test]
    fn many_tests_need_smaller_probabilities() {
        assert_eq!(adjusted(&[0.01, 0.5, 0.02]), [0.03, 0.5, 0.03]);
        assert_eq!(adjusted(&[0.4, 0.4]), [0.4, 0.4]);
        assert!(adjusted(&[]).is_empty());
        // The example of Benjamini and Hochberg: at 5 %, four of fifteen stand, where Holm's method keeps three.
        let p = [
            0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528,
            0.7590, 1.0,
        ];
        let out = adjusted(&p);
        assert_eq!(out.iter().filter(|p| **p < 0.05).count(), 4);
        near(out[3], 0.0095 * 15.0 / 4.0);
        assert!(out.is_sorted(), "{out:?}");
        // Many small ones carry each other.
        let mut many = vec![1.0; 1596];
        many[..40].fill(2.0 / 3432.0);
        assert_eq!(adjusted(&many).iter().filter(|p| **p < 0.05).count(), 40);
    }
}
