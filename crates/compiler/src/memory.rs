//! The memory planner: buffers that are never live together share bytes. A pure function, independent of devices.
//!
//! Greedy by size, as in "Efficient Memory Management for Deep Neural Net Inference" (arXiv 2001.03288): the largest
//! buffer first, each at the lowest offset that is free for its whole lifetime.

use std::collections::BTreeMap;

/// Size and lifetime of a buffer, as an inclusive range of task indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// The task that writes it.
    pub first: usize,
    /// The last task that reads it.
    pub last: usize,
    /// Size in bytes.
    pub bytes: u64,
}

/// The placement of buffers in the arena.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArenaMap {
    /// Byte offsets, in the order of the buffers.
    pub offsets: Vec<u64>,
    /// Size of the arena in bytes.
    pub bytes: u64,
    /// Peak bytes live at once; no placement can be smaller.
    pub lower_bound: u64,
}

/// Places buffers in an arena at offsets that are multiples of `alignment`, a power of two.
pub fn pack(buffers: &[Lifetime], alignment: u64) -> ArenaMap {
    let padded = |b: &Lifetime| b.bytes.next_multiple_of(alignment);
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(buffers[i].bytes), i));
    let mut offsets = vec![0; buffers.len()];
    let mut placed = Intervals::new(buffers.iter().map(|b| b.last + 1).max().unwrap_or(0));
    for i in order {
        let me = &buffers[i];
        let place = |j: usize| (offsets[j], offsets[j] + padded(&buffers[j]));
        let mut taken: Vec<(u64, u64)> = placed.overlapping(me.first, me.last).map(place).collect();
        taken.sort_unstable();
        offsets[i] = lowest_gap(&taken, padded(me));
        placed.insert(me.first, me.last, i);
    }
    let end = |i: usize| offsets[i] + padded(&buffers[i]);
    ArenaMap { bytes: (0..buffers.len()).map(end).max().unwrap_or(0), lower_bound: peak(buffers), offsets }
}

/// Lifetimes of placed buffers, for overlap queries: a segment tree finds the buffers live at a task, an ordered map
/// those that start after it. Both take logarithmic time plus the size of the result.
struct Intervals {
    /// A power of two.
    leaves: usize,
    /// By tree node, the buffers live throughout its tasks but not throughout its parent's.
    tree: Vec<Vec<usize>>,
    by_first: BTreeMap<usize, Vec<usize>>,
}

impl Intervals {
    fn new(tasks: usize) -> Intervals {
        let leaves = tasks.next_power_of_two();
        Intervals { leaves, tree: vec![Vec::new(); 2 * leaves], by_first: BTreeMap::new() }
    }

    fn insert(&mut self, first: usize, last: usize, buffer: usize) {
        let (mut left, mut right) = (first + self.leaves, last + self.leaves + 1);
        while left < right {
            if left % 2 == 1 {
                self.tree[left].push(buffer);
                left += 1;
            }
            if right % 2 == 1 {
                right -= 1;
                self.tree[right].push(buffer);
            }
            (left, right) = (left / 2, right / 2);
        }
        self.by_first.entry(first).or_default().push(buffer);
    }

    fn overlapping(&self, first: usize, last: usize) -> impl Iterator<Item = usize> + '_ {
        let path = std::iter::successors(Some(first + self.leaves), |&n| (n > 1).then_some(n / 2));
        let live = path.flat_map(|n| &self.tree[n]);
        let later = self.by_first.range(first + 1..last.max(first) + 1).flat_map(|(_, buffers)| buffers);
        live.chain(later).copied()
    }
}

fn lowest_gap(taken: &[(u64, u64)], bytes: u64) -> u64 {
    let mut at = 0;
    for &(start, end) in taken {
        if at + bytes <= start {
            break;
        }
        at = at.max(end);
    }
    at
}

fn peak(buffers: &[Lifetime]) -> u64 {
    let born = buffers.iter().map(|b| (b.first, false, b.bytes));
    let mut events: Vec<_> = born.chain(buffers.iter().map(|b| (b.last, true, b.bytes))).collect();
    events.sort_unstable();
    let (mut live, mut peak) = (0, 0);
    for (_, dies, bytes) in events {
        live = if dies { live - bytes } else { live + bytes };
        peak = peak.max(live);
    }
    peak
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

    const SEED: u8 = 5;

    fn lifetimes() -> impl Strategy<Value = Vec<Lifetime>> {
        let one = (0usize..20, 0usize..6, 1u64..5000);
        prop::collection::vec(one.prop_map(|(first, len, bytes)| Lifetime { first, last: first + len, bytes }), 0..24)
    }

    fn check(buffers: &[Lifetime]) -> Result<(), TestCaseError> {
        let map = pack(buffers, 64);
        for (i, a) in buffers.iter().enumerate() {
            prop_assert_eq!(map.offsets[i] % 64, 0);
            prop_assert!(map.offsets[i] + a.bytes <= map.bytes);
            for (j, b) in buffers.iter().enumerate().skip(i + 1) {
                let in_time = a.first <= b.last && b.first <= a.last;
                let (x, y) = (map.offsets[i], map.offsets[j]);
                prop_assert!(!in_time || x + a.bytes <= y || y + b.bytes <= x);
            }
        }
        prop_assert!(map.bytes >= map.lower_bound);
        prop_assert_eq!(pack(buffers, 64), map);
        Ok(())
    }

    #[test]
    fn live_buffers_share_no_bytes() {
        println!("seed {SEED}");
        let config = Config { cases: 256, failure_persistence: None, ..Config::default() };
        let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[SEED; 32]));
        runner.run(&lifetimes(), |buffers| check(&buffers)).expect("every map is sound");
    }

    #[test]
    fn a_chain_needs_two_buffers() {
        let chain: Vec<_> = (0..10).map(|i| Lifetime { first: i, last: i + 1, bytes: 64 }).collect();
        assert_eq!(pack(&chain, 64).bytes, 128);
    }
}
