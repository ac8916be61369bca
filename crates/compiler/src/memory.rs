//! The memory planner: buffers that are never live together share bytes. A pure function, no device in sight.
//!
//! Greedy by size, as in "Efficient Memory Management for Deep Neural Net Inference" (arXiv 2001.03288): the
//! largest buffer first, each at the lowest offset that is free for its whole life.

/// When a buffer is live, in task numbers (both ends included), and how large it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// The task that writes it.
    pub first: usize,
    /// The last task that reads it.
    pub last: usize,
    /// Its size.
    pub bytes: u64,
}

/// Where each buffer lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArenaMap {
    /// Offsets in the order of the buffers.
    pub offsets: Vec<u64>,
    /// Size of the arena.
    pub bytes: u64,
    /// The most bytes that are live at once: no map can be smaller.
    pub lower_bound: u64,
}

/// Packs buffers into an arena; offsets are multiples of `alignment` (a power of two).
pub fn pack(buffers: &[Lifetime], alignment: u64) -> ArenaMap {
    let padded = |b: &Lifetime| b.bytes.next_multiple_of(alignment);
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(buffers[i].bytes), i));
    let mut offsets = vec![0; buffers.len()];
    let mut placed: Vec<usize> = Vec::new();
    for i in order {
        let me = &buffers[i];
        let mut taken: Vec<(u64, u64)> = placed
            .iter()
            .filter(|&&j| buffers[j].first <= me.last && me.first <= buffers[j].last)
            .map(|&j| (offsets[j], offsets[j] + padded(&buffers[j])))
            .collect();
        taken.sort_unstable();
        offsets[i] = lowest_gap(&taken, padded(me));
        placed.push(i);
    }
    let end = |i: usize| offsets[i] + padded(&buffers[i]);
    ArenaMap { bytes: (0..buffers.len()).map(end).max().unwrap_or(0), lower_bound: peak(buffers), offsets }
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
    let live_at = |t: usize| buffers.iter().filter(|b| b.first <= t && t <= b.last).map(|b| b.bytes).sum();
    buffers.iter().map(|b| live_at(b.first)).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lifetimes() -> impl Strategy<Value = Vec<Lifetime>> {
        let one = (0usize..20, 0usize..6, 1u64..5000);
        prop::collection::vec(one.prop_map(|(first, len, bytes)| Lifetime { first, last: first + len, bytes }), 0..24)
    }

    proptest! {
        #[test]
        fn live_buffers_share_no_bytes(buffers in lifetimes()) {
            let map = pack(&buffers, 64);
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
            prop_assert_eq!(pack(&buffers, 64), map);
        }
    }

    #[test]
    fn a_chain_needs_two_buffers() {
        let chain: Vec<_> = (0..10).map(|i| Lifetime { first: i, last: i + 1, bytes: 64 }).collect();
        assert_eq!(pack(&chain, 64).bytes, 128);
    }
}
