//! Prompt lookup: drafts the tokens that followed the last occurrence of the history's last few tokens.
//!
//! The n-grams of the history form a tree: the parent of an n-gram is its prefix of n-1 tokens. The node of each length
//! is carried along, so a token costs one look-up per length, and no n-gram is compared or hashed as a whole. After
//! Saxena, "Prompt lookup decoding" (2023).

use crate::drafter::{DraftError, Drafter, Match, follow};
use std::collections::HashMap;

/// No n-gram, or no earlier occurrence.
const NONE: u32 = u32::MAX;
/// The empty n-gram.
const ROOT: u32 = 0;

/// The n-gram lengths that prompt lookup uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookupOptions {
    /// Shortest n-gram to look for, at least 1.
    pub min_n: u32,
    /// Longest n-gram to look for.
    pub max_n: u32,
}

impl LookupOptions {
    /// Maximum n-gram length; time and memory grow with it. [`SuffixDrafter`](crate::SuffixDrafter) has no limit.
    pub const MAX_N: u32 = 64;
}

impl Default for LookupOptions {
    /// 1 to 6: a match of one token is weak evidence, but the acceptance estimate accounts for that; beyond 6 there is
    /// little to gain.
    fn default() -> LookupOptions {
        LookupOptions { min_n: 1, max_n: 6 }
    }
}

/// N-gram lookup: the longest match first, at its most recent earlier occurrence. Occurrences may overlap the history's
/// end.
///
/// A token costs `max_n` look-ups; a draft costs `max_n` comparisons plus its length. Memory grows with the distinct
/// n-grams: at most about `36 * max_n + 8` bytes per token.
#[derive(Clone, Debug)]
pub struct PromptLookup {
    options: LookupOptions,
    history: Vec<u32>,
    /// At index n, the node of the n-gram that ends the history; `NONE` if the history is shorter.
    suffixes: Vec<u32>,
    /// At index n, the previous end position of that n-gram.
    earlier: Vec<u32>,
    /// Maps the node of an n-gram and the next token to the node of the longer n-gram.
    children: HashMap<(u32, u32), u32>,
    /// Last end position of each node's n-gram.
    last_end: Vec<u32>,
}

impl Default for PromptLookup {
    fn default() -> PromptLookup {
        PromptLookup::new(LookupOptions::default())
    }
}

impl PromptLookup {
    /// A drafter with an empty history. `min_n` is clamped to at least 1 and `max_n` to at least `min_n`, and both to
    /// at most [`LookupOptions::MAX_N`].
    pub fn new(options: LookupOptions) -> PromptLookup {
        let min_n = options.min_n.clamp(1, LookupOptions::MAX_N);
        let options = LookupOptions { min_n, max_n: options.max_n.clamp(min_n, LookupOptions::MAX_N) };
        let sizes = options.max_n as usize + 1;
        let mut lookup = PromptLookup {
            options,
            history: Vec::new(),
            suffixes: vec![NONE; sizes],
            earlier: vec![NONE; sizes],
            children: HashMap::new(),
            last_end: vec![NONE],
        };
        lookup.suffixes[0] = ROOT;
        lookup
    }

    fn push(&mut self, token: u32) {
        let position = self.history.len() as u32;
        self.history.push(token);
        // Longest first, because each n-gram extends the shorter one of the previous position.
        for n in (1..self.suffixes.len()).rev() {
            let shorter = self.suffixes[n - 1];
            if shorter == NONE {
                continue;
            }
            let node = self.child(shorter, token);
            self.suffixes[n] = node;
            self.earlier[n] = std::mem::replace(&mut self.last_end[node as usize], position);
        }
    }

    fn child(&mut self, node: u32, token: u32) -> u32 {
        let fresh = self.last_end.len() as u32;
        let child = *self.children.entry((node, token)).or_insert(fresh);
        if child == fresh {
            self.last_end.push(NONE);
        }
        child
    }
}

impl Drafter for PromptLookup {
    fn name(&self) -> &'static str {
        "lookup"
    }

    fn extend(&mut self, tokens: &[u32]) {
        for &token in tokens {
            self.push(token);
        }
    }

    fn draft(&mut self, max: usize, out: &mut Vec<u32>) -> Result<Match, DraftError> {
        let lengths = (self.options.min_n..=self.options.max_n).rev();
        let Some(n) = lengths.into_iter().find(|&n| self.earlier[n as usize] != NONE) else {
            return Ok(Match::default());
        };
        follow(&self.history, self.earlier[n as usize] as usize, max, out);
        Ok(Match { len: n })
    }

    fn clear(&mut self) {
        self.history.clear();
        self.children.clear();
        self.last_end.truncate(1);
        self.suffixes[1..].fill(NONE);
        self.earlier.fill(NONE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drafted(lookup: &mut PromptLookup, max: usize) -> (u32, Vec<u32>) {
        let mut out = Vec::new();
        let found = lookup.draft(max, &mut out).unwrap();
        (found.len, out)
    }

    #[test]
    fn the_longest_then_the_most_recent_wins() {
        let mut lookup = PromptLookup::new(LookupOptions { min_n: 1, max_n: 3 });
        lookup.extend(&[1, 2, 3, 4, 9, 2, 3, 5, 8, 3, 6, 1, 2, 3]);
        assert_eq!(drafted(&mut lookup, 2), (3, vec![4, 9]));
        lookup.extend(&[7, 2, 3]);
        assert_eq!(drafted(&mut lookup, 2), (2, vec![7, 2]));
        lookup.extend(&[100]);
        assert_eq!(drafted(&mut lookup, 2), (0, vec![]));
    }

    #[test]
    fn short_matches_can_be_ruled_out() {
        let mut lookup = PromptLookup::new(LookupOptions { min_n: 2, max_n: 0 });
        lookup.extend(&[1, 2, 3, 1]);
        assert_eq!(drafted(&mut lookup, 3), (0, vec![]));
        lookup.extend(&[2]);
        assert_eq!(drafted(&mut lookup, 4), (2, vec![3, 1, 2, 3]));
        lookup.clear();
        assert_eq!(drafted(&mut lookup, 4), (0, vec![]));
        assert_eq!(lookup.last_end.len(), 1);
    }

    #[test]
    fn lengths_without_measure_are_bounded() {
        for (min_n, max_n) in [(1, u32::MAX), (u32::MAX, u32::MAX), (u32::MAX, 0)] {
            let mut lookup = PromptLookup::new(LookupOptions { min_n, max_n });
            lookup.extend(&[1, 2, 3].repeat(100));
            let (found, drafts) = drafted(&mut lookup, 3);
            assert_eq!((found, drafts), (LookupOptions::MAX_N, vec![1, 2, 3]), "{min_n} {max_n}");
        }
    }
}
