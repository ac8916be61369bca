//! The suffix drafter: drafts the tokens that followed an earlier occurrence of the history's longest repeated suffix.
//!
//! An online suffix automaton over prompt and output (Blumer et al., "The smallest automaton recognizing the subwords
//! of a text", 1985), used for speculation as in SAM-Decoding (arXiv 2411.10666) and suffix decoding (arXiv
//! 2411.04975).
//!
//! A state stands for substrings that end at the same positions. The newest state stands for the whole history, which
//! ends only here; its link is the longest suffix that also ends elsewhere. So the match is available after each token
//! without a search.
//!
//! *Which occurrence to follow.* The first is free but stale. The most frequent continuation needs counts along the
//! whole chain of links, which on a constant text is as long as the history. The most recent one follows the current
//! subject of the text. It is kept by writing the new position along the chain of links, for at most [`REFRESHED`]
//! states. Human text has short chains, for which this is exact. In longer chains (periods within periods) the shortest
//! suffixes may remember an older occurrence, which is still a valid one.

use crate::drafter::{DraftError, Drafter, Match, follow};
use smallvec::SmallVec;
use std::collections::HashMap;

/// No state.
const NONE: u32 = u32::MAX;
/// The state of the empty string.
const ROOT: u32 = 0;
/// Maximum number of states whose last position is updated for each token, from the longest suffix down.
const REFRESHED: usize = 32;
/// Maximum transitions that a state keeps in a list; more use a hash map.
const LISTED: usize = 8;

/// How much the suffix drafter trusts a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuffixOptions {
    /// Shortest match to draft from, at least 1.
    pub min_match: u32,
    /// Drafts proposed per token of the match: a match of 3 proposes up to `3 * per_match`.
    pub per_match: u32,
}

impl Default for SuffixOptions {
    fn default() -> SuffixOptions {
        SuffixOptions { min_match: 1, per_match: 2 }
    }
}

/// Transitions of one state, by token. Nearly all states have one or two.
#[derive(Clone, Debug)]
#[allow(clippy::box_collection, reason = "a map within would double every state for the few that have one")]
enum Edges {
    Few(SmallVec<[(u32, u32); 2]>),
    Many(Box<HashMap<u32, u32>>),
}

impl Edges {
    fn new() -> Edges {
        Edges::Few(SmallVec::new())
    }

    fn get(&self, token: u32) -> Option<u32> {
        match self {
            Edges::Few(list) => list.iter().find(|(t, _)| *t == token).map(|(_, state)| *state),
            Edges::Many(map) => map.get(&token).copied(),
        }
    }

    fn set(&mut self, token: u32, state: u32) {
        match self {
            Edges::Few(list) => {
                if let Some(edge) = list.iter_mut().find(|(t, _)| *t == token) {
                    edge.1 = state;
                } else if list.len() < LISTED {
                    list.push((token, state));
                } else {
                    let all = list.iter().copied().chain([(token, state)]);
                    *self = Edges::Many(Box::new(all.collect()));
                }
            }
            Edges::Many(map) => {
                map.insert(token, state);
            }
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        match self {
            Edges::Few(list) => list.len(),
            Edges::Many(map) => map.len(),
        }
    }
}

#[derive(Clone, Debug)]
struct State {
    /// Length of its longest string.
    len: u32,
    /// State of the longest suffix that ends at more positions.
    link: u32,
    /// A recent end position of its strings; the most recent one within [`REFRESHED`] links.
    last_end: u32,
    edges: Edges,
}

/// Counts of work, which tests bound.
#[cfg(test)]
#[derive(Clone, Copy, Debug, Default)]
struct Work {
    visited: usize,
    copied: usize,
}

/// Drafts from the longest repeated suffix.
///
/// A token costs amortised constant time (at most `3n` transitions are ever made, including copies), a draft costs its
/// length. Memory: at most two states per token, about 110 bytes, and 30 bytes for each transition of a state beyond
/// two.
#[derive(Clone, Debug)]
pub struct SuffixDrafter {
    options: SuffixOptions,
    history: Vec<u32>,
    states: Vec<State>,
    /// State of the whole history.
    newest: u32,
    /// Previous end position of the longest repeated suffix.
    earlier: u32,
    #[cfg(test)]
    work: Work,
}

impl Default for SuffixDrafter {
    fn default() -> SuffixDrafter {
        SuffixDrafter::new(SuffixOptions::default())
    }
}

impl SuffixDrafter {
    /// A drafter with an empty history.
    pub fn new(options: SuffixOptions) -> SuffixDrafter {
        let mut drafter = SuffixDrafter {
            options,
            history: Vec::new(),
            states: Vec::new(),
            newest: ROOT,
            earlier: NONE,
            #[cfg(test)]
            work: Work::default(),
        };
        drafter.clear();
        drafter
    }

    /// Number of drafts that a match proposes: more for longer matches, since these continue for longer.
    fn proposed(&self, matched: u32) -> usize {
        if matched < self.options.min_match.max(1) {
            return 0;
        }
        matched.saturating_mul(self.options.per_match) as usize
    }

    fn matched(&self) -> u32 {
        let link = self.states[self.newest as usize].link;
        if link == NONE { 0 } else { self.states[link as usize].len }
    }

    fn push(&mut self, token: u32) {
        let position = self.history.len() as u32;
        self.history.push(token);
        let len = self.states[self.newest as usize].len + 1;
        let fresh = self.add(State { len, link: ROOT, last_end: position, edges: Edges::new() });
        let repeated = self.lead_to(fresh, token);
        self.states[fresh as usize].link = repeated;
        self.newest = fresh;
        self.earlier = self.states[repeated as usize].last_end;
        self.refresh(repeated, position);
    }

    /// Adds a transition to the new state to every suffix of the old history that lacks one, and returns the state of
    /// the longest suffix of the new history that occurred before.
    fn lead_to(&mut self, fresh: u32, token: u32) -> u32 {
        let mut at = self.newest;
        while at != NONE {
            self.count_visit();
            let state = &mut self.states[at as usize];
            if let Some(next) = state.edges.get(token) {
                return self.exactly(at, token, next);
            }
            state.edges.set(token, fresh);
            at = state.link;
        }
        ROOT
    }

    /// The state of the string of `at` followed by `token`, which leads to `next`. If `next` also has longer strings,
    /// which do not end at the new position, the state is split: a copy takes the shorter ones.
    fn exactly(&mut self, at: u32, token: u32, next: u32) -> u32 {
        let len = self.states[at as usize].len + 1;
        if self.states[next as usize].len == len {
            return next;
        }
        let copy = State { len, ..self.states[next as usize].clone() };
        #[cfg(test)]
        {
            self.work.copied += copy.edges.len();
        }
        let shorter = self.add(copy);
        self.states[next as usize].link = shorter;
        let mut at = at;
        while at != NONE && self.states[at as usize].edges.get(token) == Some(next) {
            self.count_visit();
            let state = &mut self.states[at as usize];
            state.edges.set(token, shorter);
            at = state.link;
        }
        shorter
    }

    /// Writes the newest position to the states of the longest suffixes.
    fn refresh(&mut self, from: u32, position: u32) {
        let mut at = from;
        for _ in 0..REFRESHED {
            if at == ROOT {
                break;
            }
            self.count_visit();
            let state = &mut self.states[at as usize];
            state.last_end = position;
            at = state.link;
        }
    }

    fn add(&mut self, state: State) -> u32 {
        self.states.push(state);
        self.states.len() as u32 - 1
    }

    #[inline]
    fn count_visit(&mut self) {
        #[cfg(test)]
        {
            self.work.visited += 1;
        }
    }
}

impl Drafter for SuffixDrafter {
    fn name(&self) -> &'static str {
        "suffix"
    }

    fn extend(&mut self, tokens: &[u32]) {
        for &token in tokens {
            self.push(token);
        }
    }

    fn draft(&mut self, max: usize, out: &mut Vec<u32>) -> Result<Match, DraftError> {
        let len = self.matched();
        let count = self.proposed(len).min(max);
        if self.proposed(len) == 0 {
            return Ok(Match::default());
        }
        follow(&self.history, self.earlier as usize, count, out);
        #[cfg(test)]
        {
            self.work.visited += count;
        }
        Ok(Match { len })
    }

    fn clear(&mut self) {
        self.history.clear();
        self.states.clear();
        self.newest = self.add(State { len: 0, link: NONE, last_end: NONE, edges: Edges::new() });
        self.earlier = NONE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: usize = 4096;

    /// The shortest repeating Fibonacci word of at least `n` letters, cut to `n`.
    fn fibonacci(n: usize) -> Vec<u32> {
        let (mut a, mut b) = (vec![0], vec![0, 1]);
        while b.len() < n {
            let next = [b.as_slice(), a.as_slice()].concat();
            a = std::mem::replace(&mut b, next);
        }
        b.truncate(n);
        b
    }

    fn mixed(mut z: u64) -> u64 {
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn texts() -> Vec<(&'static str, Vec<u32>)> {
        let random = |letters: u64| (0..LENGTH as u64).map(|i| (mixed(i * 77 + 5) % letters) as u32).collect();
        let half = vec![7; LENGTH / 2];
        let broken = [half.as_slice(), &[8], &half].concat();
        let blocks = (0..LENGTH).map(|i| if i % 41 == 40 { 1000 + (i / 41) as u32 } else { (i % 41 % 2) as u32 });
        // A B A C A D A ...: the state of A gains a transition with every pair.
        let fan = (0..LENGTH).map(|i| if i % 2 == 0 { 0 } else { 1 + (i / 2) as u32 });
        let twice = |v: Vec<u32>| [v.as_slice(), v.as_slice()].concat();
        vec![
            ("constant", vec![7; LENGTH]),
            ("period 2", (0..LENGTH as u32).map(|i| i % 2).collect()),
            ("constant, broken once", broken),
            ("fibonacci", fibonacci(LENGTH)),
            ("two letters", random(2)),
            ("many letters", random(50_000)),
            ("periods with marks", blocks.collect()),
            ("fan", twice(fan.collect())),
            ("all distinct, twice", twice((0..LENGTH as u32).collect())),
        ]
    }

    #[test]
    fn a_token_costs_constant_work_in_the_long_run() {
        for (name, text) in texts() {
            let mut drafter = SuffixDrafter::default();
            for (i, &token) in text.iter().enumerate() {
                drafter.extend(&[token]);
                let n = i + 1;
                let Work { visited, copied } = drafter.work;
                // The automaton's own steps are bounded by its transitions, 3n; its merges by 2n; each refresh by its
                // cap.
                assert!(visited <= (5 + REFRESHED) * n, "{name}: {visited} visits after {n} tokens");
                assert!(copied <= 3 * n, "{name}: {copied} copies after {n} tokens");
                assert!(drafter.states.len() <= 2 * n + 1, "{name}: {} states", drafter.states.len());
            }
        }
    }

    #[test]
    fn work_a_token_does_not_grow_with_the_history() {
        for (name, text) in texts() {
            let mut drafter = SuffixDrafter::default();
            drafter.extend(&text[..text.len() / 8]);
            let early = drafter.work.visited + drafter.work.copied;
            let early_mean = early as f64 / (text.len() / 8) as f64;
            drafter.extend(&text[text.len() / 8..]);
            let mean = (drafter.work.visited + drafter.work.copied) as f64 / text.len() as f64;
            assert!(mean <= 1.5 * early_mean + 2.0, "{name}: {early_mean} visits a token early, {mean} overall");
        }
    }

    #[test]
    fn a_draft_costs_its_own_length() {
        for (name, text) in texts() {
            let mut drafter = SuffixDrafter::default();
            let mut out = Vec::new();
            for &token in &text {
                drafter.extend(&[token]);
                let before = drafter.work.visited;
                out.clear();
                drafter.draft(16, &mut out).unwrap();
                assert!(drafter.work.visited - before <= 16, "{name}");
                assert!(out.len() <= 16, "{name}");
            }
        }
    }

    #[test]
    fn drafts_grow_with_the_match() {
        let mut drafter = SuffixDrafter::new(SuffixOptions { min_match: 2, per_match: 2 });
        let drafted = |drafter: &mut SuffixDrafter| {
            let mut out = Vec::new();
            (drafter.draft(5, &mut out).unwrap().len, out)
        };
        drafter.extend(&[1, 2, 3, 4, 5, 6, 1]);
        assert_eq!(drafted(&mut drafter), (0, vec![]));
        drafter.extend(&[2]);
        assert_eq!(drafted(&mut drafter), (2, vec![3, 4, 5, 6]));
        drafter.extend(&[3]);
        assert_eq!(drafted(&mut drafter), (3, vec![4, 5, 6, 1, 2]));
        let fork = drafter.clone();
        drafter.clear();
        assert_eq!(drafted(&mut drafter), (0, vec![]));
        assert_eq!(drafted(&mut fork.clone()), (3, vec![4, 5, 6, 1, 2]));
    }

    #[test]
    fn states_are_small() {
        assert!(size_of::<State>() <= 48, "{}", size_of::<State>());
    }
}
