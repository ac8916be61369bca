//! The median of paired differences with its 95 % interval, by order statistics: a step that hiccups does little to
//! either.

use aio::orchestrator::Figure;

/// A median and half the width of its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Interval {
    pub median: f64,
    pub half: f64,
}

/// The interval of `values`, at least six. `None` if one is not finite.
pub(super) fn interval(values: &[f64]) -> Option<Interval> {
    let median = Figure::of(values)?.median;
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let outside = outside(sorted.len());
    let (low, high) = (sorted[outside], sorted[sorted.len() - 1 - outside]);
    Some(Interval { median, half: (high - low) / 2.0 })
}

/// The number of values on each side that the interval leaves out. Of `n` values, `k` lie below the true median with a
/// chance of `n` over `k` divided by `2^n`; at most 2.5 % may be left out on a side.
fn outside(n: usize) -> usize {
    let (mut chance, mut sum, mut k) = (0.5f64.powi(n as i32), 0.0, 0);
    while sum + chance <= 0.025 {
        sum += chance;
        chance *= (n - k) as f64 / (k + 1) as f64;
        k += 1;
    }
    k.saturating_sub(1).min(n.saturating_sub(1) / 2)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_those_of_the_sign_test() {
        // Tables of the sign test: of 6 values all count, of 9 all but one on each side, of 15 all but three.
        assert_eq!([6, 9, 15, 25].map(outside), [0, 1, 3, 7]);
        let values: Vec<f64> = (0..9).map(f64::from).collect();
        assert_eq!(interval(&values).unwrap(), Interval { median: 4.0, half: 3.0 });
        assert_eq!(interval(&[f64::NAN; 6]), None);
    }
}
