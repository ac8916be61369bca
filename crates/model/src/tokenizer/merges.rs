//! Byte-pair merging: joins pairs of tokens in order of rank.
//!
//! A word starts as the tokens of its characters. Of all neighbours that can be joined, the pair with the lowest rank
//! is joined, the leftmost among equals, until none is left. Used by `bpe`. Made for tables of hundreds of thousands of
//! pairs, so a pair is four numbers without text.

use super::hash::Key;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// The result of joining a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Merge {
    rank: u32,
    token: u32,
}

/// All pairs that can be joined.
#[derive(Debug)]
pub(super) struct Merges(HashMap<(u32, u32), Merge, Key>);

/// A token of a word being merged.
struct Part {
    token: u32,
    /// Indices of the neighbours.
    before: Option<usize>,
    after: Option<usize>,
    /// Whether it was joined to its left neighbour.
    gone: bool,
}

/// A candidate pair: rank, index of its left part, resulting token.
type Pair = Reverse<(u32, usize, u32)>;

impl Merges {
    /// A table with room for this many pairs.
    pub(super) fn with_capacity(pairs: usize) -> Merges {
        Merges(HashMap::with_capacity_and_hasher(pairs, Key::random()))
    }

    /// Adds a pair, replacing an earlier equal one.
    pub(super) fn insert(&mut self, pair: (u32, u32), rank: u32, token: u32) {
        self.0.insert(pair, Merge { rank, token });
    }

    /// Merges a word's tokens and appends the result.
    pub(super) fn apply(&self, word: impl Iterator<Item = u32>, out: &mut Vec<u32>) {
        let part = |(i, token): (usize, u32)| Part { token, before: i.checked_sub(1), after: Some(i + 1), gone: false };
        let mut parts: Vec<Part> = word.enumerate().map(part).collect();
        if let Some(last) = parts.last_mut() {
            last.after = None;
        }
        let mut queue: BinaryHeap<Pair> = (0..parts.len()).filter_map(|i| self.pair(&parts, i)).collect();
        while let Some(Reverse((_, left, token))) = queue.pop() {
            // The parts may have changed since; only the current merge counts.
            if parts[left].gone || self.merge(&parts, left).is_none_or(|m| m.token != token) {
                continue;
            }
            let Some(right) = parts[left].after else { continue };
            let after = parts[right].after;
            parts[right].gone = true;
            (parts[left].token, parts[left].after) = (token, after);
            if let Some(after) = after {
                parts[after].before = Some(left);
            }
            queue.extend(parts[left].before.and_then(|before| self.pair(&parts, before)));
            queue.extend(self.pair(&parts, left));
        }
        out.extend(parts.iter().filter(|p| !p.gone).map(|p| p.token));
    }

    /// The merge of a part with the next one.
    fn merge(&self, parts: &[Part], left: usize) -> Option<Merge> {
        let right = &parts[parts[left].after?];
        self.0.get(&(parts[left].token, right.token)).copied()
    }

    fn pair(&self, parts: &[Part], left: usize) -> Option<Pair> {
        self.merge(parts, left).map(|m| Reverse((m.rank, left, m.token)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Letters are tokens 0..; pairs become the given tokens.
    fn apply(pairs: &[((u32, u32), u32)], word: &[u32]) -> Vec<u32> {
        let mut merges = Merges::with_capacity(pairs.len());
        for (rank, &(pair, token)) in (0..).zip(pairs) {
            merges.insert(pair, rank, token);
        }
        let mut out = vec![99];
        merges.apply(word.iter().copied(), &mut out);
        assert_eq!(out.remove(0), 99);
        out
    }

    #[test]
    fn the_lowest_rank_goes_first_and_then_the_leftmost() {
        // (b c) before (a b): in a b c the right pair is joined, although the left one exists too.
        assert_eq!(apply(&[((1, 2), 10), ((0, 1), 11)], &[0, 1, 2]), [0, 10]);
        assert_eq!(apply(&[((0, 0), 10)], &[0, 0, 0]), [10, 0]);
        assert_eq!(apply(&[((0, 0), 10), ((10, 10), 11)], &[0; 7]), [11, 10, 0]);
        assert!(apply(&[((0, 1), 10)], &[]).is_empty());
        assert_eq!(apply(&[((0, 1), 10)], &[1, 0, 5]), [1, 0, 5]);
    }

    #[test]
    fn of_a_pair_that_comes_twice_the_last_counts() {
        assert_eq!(apply(&[((0, 1), 10), ((1, 2), 11), ((0, 1), 12)], &[0, 1, 2]), [0, 11]);
        assert_eq!(apply(&[((0, 1), 10), ((0, 1), 12)], &[0, 1]), [12]);
    }

    /// Random merges over five letters, many of which form the same token from different parts.
    #[test]
    fn words_come_out_as_the_tokenizers_crate_has_them() {
        use tokenizers::Model;
        use tokenizers::models::bpe::BPE;
        let mut state = 7u64;
        let mut random = move |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        for round in 0..200 {
            let mut texts: Vec<String> = "abcde".chars().map(String::from).collect();
            let (mut merges, mut named) = (Merges::with_capacity(0), Vec::new());
            for rank in 0..1 + random(60) as u32 {
                let [left, right] = [(); 2].map(|()| random(texts.len()));
                let joined = texts[left].clone() + &texts[right];
                let token = texts.iter().position(|t| *t == joined).unwrap_or_else(|| {
                    texts.push(joined);
                    texts.len() - 1
                });
                merges.insert((left as u32, right as u32), rank, token as u32);
                named.push((texts[left].clone(), texts[right].clone()));
            }
            let ids: tokenizers::models::bpe::Vocab = texts.into_iter().zip(0..).collect();
            let theirs = BPE::builder().vocab_and_merges(ids, named).build();
            let theirs = theirs.expect("all parts are tokens");
            for _ in 0..50 {
                let word: Vec<u32> = (0..random(40)).map(|_| random(5) as u32).collect();
                let text: String = word.iter().map(|&letter| char::from(b'a' + letter as u8)).collect();
                let expected = theirs.tokenize(&text).expect("tokenizing a word of known letters");
                let mut got = Vec::new();
                merges.apply(word.into_iter(), &mut got);
                assert_eq!(got, expected.iter().map(|t| t.id).collect::<Vec<_>>(), "round {round}, {text}");
            }
        }
    }
}
