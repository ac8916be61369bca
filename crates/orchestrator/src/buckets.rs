//! Which plans exist: the set of buckets, within a budget, whose steps have the least expected padding.
//!
//! Steps come with a size (rows, or pages of context); a step runs in the smallest bucket that holds it. For a histogram of
//! sizes the best set of a given number of buckets is found exactly, by dynamic programming over the sorted sizes, as in optimal
//! quantisation (Bruce 1965). A running histogram forgets, and a set that exists gives way only to one whose building is paid
//! several times by the padding it saves, so that buckets are not built and dropped in turn. `aio graph buckets --plan-for`
//! plans for a trace; the engine follows the steps that it runs.

/// Weight of the histogram that each observation leaves.
const KEEP: f64 = 0.995;
/// Times that a new set must save what its building costs, over the steps that are remembered.
const PAYS: f64 = 2.0;
/// Sizes that are remembered; the rarest are forgotten first.
const MOST_SIZES: usize = 64;
/// Steps between two reviews.
const REVIEW: u32 = 16;

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
    best(sizes, most, &Costs { bucket: &cost, without: &|_| f64::INFINITY })
}

/// What a step of a size costs.
struct Costs<'a> {
    /// In a bucket of just this size.
    bucket: &'a dyn Fn(u32) -> f64,
    /// Without any bucket of the set; infinite if it needs one.
    without: &'a dyn Fn(u32) -> f64,
}

/// Like [`best_buckets`], where steps may run in no bucket of the set.
fn best(sizes: &[SizeCount], most: usize, cost: &Costs<'_>) -> Vec<BucketUse> {
    let sizes = merged(sizes);
    let (n, most) = (sizes.len(), most.clamp(1, sizes.len().max(1)));
    let own: Vec<f64> = sizes.iter().map(|s| (cost.bucket)(s.size)).collect();
    if n == 0 || own.iter().any(|c| !c.is_finite()) {
        return Vec::new();
    }
    let without: Vec<f64> = sizes.iter().map(|s| (cost.without)(s.size)).collect();
    // waste[last][from]: padding of sizes `from..=last` in a bucket of size `last`.
    let waste: Vec<Vec<f64>> = (0..n)
        .map(|last| {
            let mut waste = vec![0.0; last + 1];
            let mut sum = 0.0;
            for from in (0..=last).rev() {
                sum += sizes[from].count * (own[last].min(without[from]) - own[from]);
                waste[from] = sum;
            }
            waste
        })
        .collect();
    // least[k][i]: least padding of the first `i` sizes in `k` buckets, and where the last bucket begins.
    let mut least = vec![vec![(f64::INFINITY, 0); n + 1]; most + 1];
    least[0][0].0 = 0.0;
    for k in 1..=most {
        for i in k..=n {
            let options = (k - 1..i).map(|from| (least[k - 1][from].0 + waste[i - 1][from], from));
            least[k][i] = options.fold((f64::INFINITY, 0), |a, b| if b.0 < a.0 { b } else { a });
        }
    }
    let (mut end, mut found) = (n, Vec::new());
    for k in (1..=most).rev() {
        let from = least[k][end].1;
        let hits = sizes[from..end].iter().map(|s| s.count).sum();
        found.push(BucketUse { size: sizes[end - 1].size, hits, waste: waste[end - 1][from] });
        end = from;
    }
    found.reverse();
    found
}

/// Sizes in ascending order, each once, without those of no step.
fn merged(sizes: &[SizeCount]) -> Vec<SizeCount> {
    let mut sizes: Vec<SizeCount> = sizes.iter().copied().filter(|s| s.count > 0.0).collect();
    sizes.sort_by_key(|s| s.size);
    sizes.dedup_by(|next, kept| {
        let same = next.size == kept.size;
        kept.count += if same { next.count } else { 0.0 };
        same
    });
    sizes
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

/// A set of buckets that follows a running histogram, beside what a device rounds sizes up to by itself.
#[derive(Clone, Debug)]
pub struct BucketSet {
    most: usize,
    sizes: Vec<SizeCount>,
    buckets: Vec<u32>,
    /// Steps since the last review.
    waited: u32,
}

/// What the steps of a [`BucketSet`] cost, in any unit.
#[derive(Clone, Copy, Debug)]
pub struct BucketCosts<C, R> {
    /// A step in a bucket of a size. It must be finite and not fall with the size.
    pub step: C,
    /// What the device rounds a size up to without the set.
    pub rounded: R,
    /// Building a bucket.
    pub build: f64,
}

impl BucketSet {
    /// A set of at most `most` buckets.
    pub fn new(most: usize) -> BucketSet {
        BucketSet { most: most.max(1), sizes: Vec::new(), buckets: Vec::new(), waited: 0 }
    }

    /// The present buckets, in ascending order.
    pub fn buckets(&self) -> &[u32] {
        &self.buckets
    }

    /// Notes a step. Returns whether the set should be reviewed, which is so every few steps.
    pub fn observe(&mut self, size: u32) -> bool {
        self.sizes.iter_mut().for_each(|s| s.count *= KEEP);
        match self.sizes.iter_mut().find(|s| s.size == size) {
            Some(known) => known.count += 1.0,
            None => self.remember(size),
        }
        self.waited += 1;
        self.waited >= REVIEW
    }

    fn remember(&mut self, size: u32) {
        if self.sizes.len() >= MOST_SIZES {
            let rarest = (0..self.sizes.len()).min_by(|&a, &b| self.sizes[a].count.total_cmp(&self.sizes[b].count));
            rarest.map(|at| self.sizes.swap_remove(at));
        }
        self.sizes.push(SizeCount { size, count: 1.0 });
    }

    /// Changes the set if the remembered steps would have saved enough, and returns whether it did.
    pub fn review(&mut self, costs: &BucketCosts<impl Fn(u32) -> f64, impl Fn(u32) -> u32>) -> bool {
        self.waited = 0;
        let step = |size| (costs.step)(size);
        let without = |size| step((costs.rounded)(size).max(size));
        let paid = |buckets: &[u32]| self.paid(buckets, &step, &without);
        let wanted: Vec<u32> = best(&self.sizes, self.most, &Costs { bucket: &step, without: &without })
            .into_iter()
            .map(|bucket| bucket.size)
            .collect();
        // Only what pays for itself beside the others stays.
        let mut kept = wanted.clone();
        for bucket in wanted {
            let others: Vec<u32> = kept.iter().copied().filter(|b| *b != bucket).collect();
            if paid(&others) - paid(&kept) <= self.build(&[bucket], costs.build) {
                kept = others;
            }
        }
        let saved = paid(&self.buckets) - paid(&kept);
        // Not so where a cost is no number.
        let better = saved > self.build(&kept, costs.build) && saved > 0.0;
        if better {
            self.buckets = kept;
        }
        better
    }

    /// What the remembered steps cost with these buckets.
    fn paid(&self, buckets: &[u32], step: &dyn Fn(u32) -> f64, without: &dyn Fn(u32) -> f64) -> f64 {
        let one = |s: &SizeCount| {
            let bucket = buckets.iter().find(|b| **b >= s.size).map_or(f64::INFINITY, |&b| step(b));
            s.count * bucket.min(without(s.size))
        };
        self.sizes.iter().map(one).sum()
    }

    /// What must be saved to build those of these buckets that do not exist.
    fn build(&self, buckets: &[u32], each: f64) -> f64 {
        PAYS * each * buckets.iter().filter(|b| !self.buckets.contains(b)).count() as f64
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

    /// A device that rounds to multiples of 128, where a row costs 1 and a bucket `build`.
    fn costs(build: f64) -> BucketCosts<impl Fn(u32) -> f64, impl Fn(u32) -> u32> {
        BucketCosts { step: |size| 100.0 + f64::from(size), rounded: |size: u32| size.next_multiple_of(128), build }
    }

    fn observe(set: &mut BucketSet, steps: u32, sizes: &[u32]) -> u32 {
        let mut changes = 0;
        for i in 0..steps {
            if set.observe(sizes[i as usize % sizes.len()]) {
                changes += u32::from(set.review(&costs(500.0)));
            }
        }
        changes
    }

    #[test]
    fn a_set_follows_its_steps() {
        let mut set = BucketSet::new(2);
        assert_eq!(observe(&mut set, 15, &[130]), 0, "it is too early");
        assert_eq!((observe(&mut set, 100, &[130]), set.buckets()), (1, &[130][..]), "256 rows for 130 are dear");
        assert_eq!((observe(&mut set, 100, &[130, 129, 131]), set.buckets()), (1, &[130, 131][..]));
        assert_eq!(observe(&mut set, 1000, &[130, 129, 131]), 0, "a row is not worth a bucket");
        observe(&mut set, 1000, &[300, 20, 300]);
        assert_eq!(set.buckets(), [20, 300], "buckets that nobody uses go");
        assert_eq!(observe(&mut set, 1000, &[256, 128]), 0, "nothing is padded");
    }

    #[test]
    fn a_set_that_costs_more_than_it_saves_is_not_built() {
        let mut set = BucketSet::new(4);
        (0..200).for_each(|_| _ = set.observe(130));
        assert!(!set.review(&costs(f64::INFINITY)));
        assert!(!set.review(&costs(1e5)));
        let unknown = BucketCosts { step: |_| f64::NAN, rounded: |size| size + 1, build: 0.0 };
        assert!(!set.review(&unknown));
        let free = BucketCosts { step: |_| 1.0, rounded: |size| size + 1, build: 0.0 };
        assert!(!set.review(&free), "padding costs nothing");
        assert!(set.review(&costs(10.0)));
    }

    #[test]
    fn many_sizes_share_few_buckets_and_never_change_in_turn() {
        println!("seed 22");
        let mut random = Random::new(22);
        let mut set = BucketSet::new(4);
        let mut late = 0;
        for i in 0..4000 {
            if set.observe(129 + (random.unit() * 200.0) as u32) && set.review(&costs(500.0)) {
                assert!(set.buckets().len() <= 4);
                late += u32::from(i >= 1000);
            }
        }
        assert!(!set.buckets().is_empty());
        assert!(late <= 4, "{late} changes while steps stay the same");
    }
}
