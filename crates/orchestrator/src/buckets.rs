//! Which plans exist: the set of buckets, within a budget, whose steps have the least expected padding.
//!
//! Steps come with a size (rows, or pages of context); a step runs in the smallest bucket that holds it. For a histogram of
//! sizes the best set of a given number of buckets is found exactly, by dynamic programming over the sorted sizes, as in optimal
//! quantisation (Bruce 1965). A running histogram forgets, and a set that exists gives way only to one that is better by a
//! margin, so that buckets are not built and dropped in turn. Used by `aio graph buckets --plan-for`.

/// Weight of the histogram that each observation leaves.
const KEEP: f64 = 0.999;
/// Padding, relative to what all steps cost, that a new set must save.
const HYSTERESIS: f64 = 0.1;

/// A number of steps of one size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SizeCount {
    /// Size of a step.
    pub size: u32,
    /// Steps of this size.
    pub count: f64,
}

/// A bucket and what runs in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BucketUse {
    /// The size that it holds.
    pub size: u32,
    /// Steps that run in it.
    pub hits: f64,
    /// What they cost beyond steps of their own sizes, by the cost that was given.
    pub waste: f64,
}

/// The set of at most `most` buckets with the least padding for steps of these sizes. `cost`: what a step costs in a bucket
/// of a size; it must be finite and not fall with the size. The largest size always has a bucket.
pub fn best_buckets(sizes: &[SizeCount], most: usize, cost: impl Fn(u32) -> f64) -> Vec<BucketUse> {
    let mut sizes: Vec<SizeCount> = sizes.iter().copied().filter(|s| s.count > 0.0).collect();
    sizes.sort_by_key(|s| s.size);
    sizes.dedup_by(|next, kept| {
        let same = next.size == kept.size;
        kept.count += if same { next.count } else { 0.0 };
        same
    });
    let (n, most) = (sizes.len(), most.clamp(1, sizes.len().max(1)));
    if n == 0 {
        return Vec::new();
    }
    let costs: Vec<f64> = sizes.iter().map(|s| cost(s.size)).collect();
    if costs.iter().any(|c| !c.is_finite()) {
        return Vec::new();
    }
    let sums = |each: &dyn Fn(usize) -> f64| {
        let mut total = vec![0.0];
        (0..n).for_each(|i| total.push(total[i] + each(i)));
        total
    };
    let (count, paid) = (sums(&|i| sizes[i].count), sums(&|i| sizes[i].count * costs[i]));
    // Padding of sizes `from..=last` in a bucket of size `last`.
    let waste =
        |from: usize, last: usize| costs[last] * (count[last + 1] - count[from]) - (paid[last + 1] - paid[from]);
    // least[k][i]: least padding of the first `i` sizes in `k` buckets, and where the last bucket begins.
    let mut least = vec![vec![(f64::INFINITY, 0); n + 1]; most + 1];
    least[0][0].0 = 0.0;
    for k in 1..=most {
        for i in k..=n {
            let options = (k - 1..i).map(|from| (least[k - 1][from].0 + waste(from, i - 1), from));
            least[k][i] = options.fold((f64::INFINITY, 0), |a, b| if b.0 < a.0 { b } else { a });
        }
    }
    let (mut end, mut found) = (n, Vec::new());
    for k in (1..=most).rev() {
        let from = least[k][end].1;
        found.push(BucketUse {
            size: sizes[end - 1].size,
            hits: count[end] - count[from],
            waste: waste(from, end - 1),
        });
        end = from;
    }
    found.reverse();
    found
}

/// What steps of these sizes cost in a set of buckets; steps that none holds run at their own size.
pub fn bucket_uses(sizes: &[SizeCount], buckets: &[u32], cost: impl Fn(u32) -> f64) -> Vec<BucketUse> {
    let mut sorted = buckets.to_vec();
    sorted.sort_unstable();
    let mut uses: Vec<BucketUse> = sorted.iter().map(|&size| BucketUse { size, hits: 0.0, waste: 0.0 }).collect();
    for SizeCount { size, count } in sizes {
        let at = sorted.partition_point(|bucket| bucket < size);
        if let Some(bucket) = uses.get_mut(at) {
            bucket.hits += count;
            bucket.waste += count * (cost(bucket.size) - cost(*size));
        }
    }
    uses
}

/// A set of buckets that follows a running histogram.
#[derive(Clone, Debug)]
pub struct BucketSet {
    most: usize,
    sizes: Vec<SizeCount>,
    buckets: Vec<u32>,
}

/// Buckets to build, and to drop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BucketChange {
    /// Those that are missing.
    pub build: Vec<u32>,
    /// Those that are no longer worth their room.
    pub drop: Vec<u32>,
}

impl BucketSet {
    /// A set of at most `most` buckets.
    pub fn new(most: usize) -> BucketSet {
        BucketSet { most: most.max(1), sizes: Vec::new(), buckets: Vec::new() }
    }

    /// The present buckets, in ascending order.
    pub fn buckets(&self) -> &[u32] {
        &self.buckets
    }

    /// Notes a step.
    pub fn observe(&mut self, size: u32) {
        self.sizes.iter_mut().for_each(|s| s.count *= KEEP);
        match self.sizes.iter_mut().find(|s| s.size == size) {
            Some(known) => known.count += 1.0,
            None => self.sizes.push(SizeCount { size, count: 1.0 }),
        }
        self.sizes.retain(|s| s.count > 1e-3);
    }

    /// Changes the set if a step has no bucket, or if another set has clearly less padding.
    pub fn review(&mut self, cost: impl Fn(u32) -> f64) -> BucketChange {
        let padding = |uses: &[BucketUse]| uses.iter().map(|u| u.waste).sum::<f64>();
        let largest = self.sizes.iter().map(|s| s.size).max().unwrap_or(0);
        let holds = self.buckets.last().is_some_and(|b| *b >= largest);
        let now = padding(&bucket_uses(&self.sizes, &self.buckets, &cost));
        let best = best_buckets(&self.sizes, self.most, &cost);
        let all: f64 = self.sizes.iter().map(|s| s.count * cost(s.size)).sum();
        if best.is_empty() || (holds && now - padding(&best) <= HYSTERESIS * all) {
            return BucketChange::default();
        }
        let wanted: Vec<u32> = best.iter().map(|b| b.size).collect();
        let build = wanted.iter().copied().filter(|b| !self.buckets.contains(b)).collect();
        let drop = self.buckets.iter().copied().filter(|b| !wanted.contains(b)).collect();
        self.buckets = wanted;
        BucketChange { build, drop }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn sizes(of: &[(u32, f64)]) -> Vec<SizeCount> {
        of.iter().map(|&(size, count)| SizeCount { size, count }).collect()
    }

    /// Least padding, by trying every set that has the largest size.
    fn brute(sizes: &[SizeCount], most: usize, cost: &dyn Fn(u32) -> f64) -> f64 {
        let n = sizes.len();
        let largest = sizes.iter().map(|s| s.size).max().unwrap();
        let sets = (0..1u32 << n).filter(|set| set.count_ones() as usize <= most);
        let padding = |set: u32| {
            let buckets: Vec<u32> = (0..n).filter(|i| set >> i & 1 == 1).map(|i| sizes[i].size).collect();
            let holds = buckets.contains(&largest);
            if holds { bucket_uses(sizes, &buckets, cost).iter().map(|u| u.waste).sum() } else { f64::INFINITY }
        };
        sets.map(padding).fold(f64::INFINITY, f64::min)
    }

    #[test]
    fn the_best_set_is_as_good_as_brute_force() {
        println!("seed 21");
        let mut random = Random::new(21);
        for _ in 0..50 {
            let some: Vec<SizeCount> = (1..=8)
                .map(|i| SizeCount { size: i * i, count: (random.unit() * 10.0).floor() })
                .filter(|s| s.count > 0.0)
                .collect();
            let cost = |size: u32| 10.0 + f64::from(size) * 0.7;
            for most in 1..=4 {
                let found = best_buckets(&some, most, cost);
                let padding: f64 = found.iter().map(|b| b.waste).sum();
                assert!((padding - brute(&some, most, &cost)).abs() < 1e-9, "{some:?}, {most}");
                let hits: f64 = found.iter().map(|b| b.hits).sum();
                assert_eq!(hits, some.iter().map(|s| s.count).sum::<f64>());
                let buckets: Vec<u32> = found.iter().map(|b| b.size).collect();
                let uses = bucket_uses(&some, &buckets, cost);
                let same =
                    |(a, b): (&BucketUse, &BucketUse)| (a.hits - b.hits).abs() + (a.waste - b.waste).abs() < 1e-9;
                assert!(uses.iter().zip(&found).all(same), "{uses:?} {found:?}");
            }
        }
    }

    #[test]
    fn few_sizes_need_few_buckets() {
        let cost = f64::from;
        assert!(best_buckets(&[], 3, cost).is_empty());
        assert!(best_buckets(&sizes(&[(7, 2.0), (9, 1.0)]), 2, |_| f64::NAN).is_empty());
        let found = best_buckets(&sizes(&[(7, 2.0), (7, 1.0), (9, 0.0)]), 3, cost);
        assert_eq!(found, [BucketUse { size: 7, hits: 3.0, waste: 0.0 }]);
    }

    #[test]
    fn a_set_changes_when_steps_do_and_not_for_a_few() {
        let cost = |size: u32| 100.0 + f64::from(size);
        let mut set = BucketSet::new(2);
        (0..200).for_each(|i| set.observe(if i % 10 == 0 { 512 } else { 1 }));
        assert_eq!(set.review(cost), BucketChange { build: vec![1, 512], drop: vec![] });
        (0..40).for_each(|_| set.observe(2));
        assert_eq!(set.review(cost), BucketChange { build: vec![2], drop: vec![1] }, "two rows in 512 are dear");
        (0..20).for_each(|_| set.observe(1));
        assert_eq!(set.review(cost), BucketChange::default(), "one row in a bucket of two is cheap");
        (0..5).for_each(|_| set.observe(600));
        assert_eq!(set.review(cost).build, [600], "it needs a bucket at once");
    }
}
