//! Medians and bounds of samples, for the tables of benchmarks.

use aio::orchestrator::Figure;

/// The median; 0 for no samples.
pub(crate) fn median(samples: &[f64]) -> f64 {
    Figure::of(samples).map_or(0.0, |f| f.median)
}

/// The one-sided lower 95 % bound of the median: the `k`-th smallest of `n` samples, where `k` is the largest number
/// for which `n` fair coins show fewer than `k` heads with a probability of at most 5 %. `None` if no such `k` exists.
///
/// Order statistics assume nothing about the distribution (for instance Conover, Practical Nonparametric Statistics,
/// 3.2).
pub(crate) fn low95(samples: &[f64]) -> Option<f64> {
    let n = samples.len();
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    // In logarithms, since 2^-n underflows.
    let mut term = -(n as f64) * std::f64::consts::LN_2;
    let (mut below, mut k) = (0.0, 0);
    loop {
        below += term.exp();
        if k >= n || below > 0.05 {
            return k.checked_sub(1).map(|i| sorted[i]);
        }
        term += ((n - k) as f64 / (k + 1) as f64).ln();
        k += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_an_order_statistic() {
        let low = |n: u32| low95(&(1..=n).map(f64::from).collect::<Vec<_>>());
        // From tables of the sign test.
        let expected = [(0, None), (4, None), (5, Some(1.0)), (8, Some(2.0)), (10, Some(2.0)), (20, Some(6.0))];
        for (n, want) in expected {
            assert_eq!(low(n), want, "{n}");
        }
        assert_eq!(low(24), Some(8.0));
        let many = low(4000).unwrap_or(0.0);
        assert!((many - (2000.0 - 1.645 * 4000f64.sqrt() / 2.0)).abs() < 2.0, "{many}");
    }
}
