//! Compares both text drafters with a brute-force search, at every position of difficult texts.
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

mod noise;

use aio_orchestrator::{Drafter, LookupOptions, Match, PromptLookup, SuffixDrafter, SuffixOptions};
use noise::Noise;

const LENGTH: usize = 160;
const SEEDS: u64 = 40;

/// Length of the longest common suffix of `text[..=end]` and the whole text.
fn common(text: &[u32], end: usize) -> usize {
    (0..=end).take_while(|&i| text[end - i] == text[text.len() - 1 - i]).count()
}

/// The longest suffix, up to `cap`, that also ended earlier, and all positions where it did.
fn search(text: &[u32], cap: usize) -> (usize, Vec<usize>) {
    let ends = 0..text.len().saturating_sub(1);
    let lens: Vec<usize> = ends.map(|end| common(text, end).min(cap)).collect();
    let longest = lens.iter().copied().max().unwrap_or(0);
    (longest, (0..lens.len()).filter(|&e| longest > 0 && lens[e] == longest).collect())
}

/// The continuation after position `end` if the text repeats.
fn continuation(text: &[u32], end: usize, count: usize) -> Vec<u32> {
    let mut all = text.to_vec();
    for i in 0..count {
        all.push(all[end + 1 + i]);
    }
    all[text.len()..].to_vec()
}

fn fibonacci(n: usize) -> Vec<u32> {
    let (mut a, mut b) = (vec![0], vec![0, 1]);
    while b.len() < n {
        let next = [b.as_slice(), a.as_slice()].concat();
        a = std::mem::replace(&mut b, next);
    }
    b.truncate(n);
    b
}

/// Texts with names. `true` where chains of repeated suffixes stay short, so that the most recent occurrence is
/// guaranteed.
fn texts() -> Vec<(String, Vec<u32>, bool)> {
    let mut all = vec![
        ("constant".to_owned(), vec![3; LENGTH], false),
        ("period 2".to_owned(), (0..LENGTH as u32).map(|i| i % 2).collect(), false),
        ("period 7, broken".to_owned(), (0..LENGTH as u32).map(|i| if i == 90 { 99 } else { i % 7 }).collect(), true),
        ("fibonacci".to_owned(), fibonacci(LENGTH), true),
        ("a^n b a^n".to_owned(), [vec![0; LENGTH / 2], vec![1], vec![0; LENGTH / 2]].concat(), false),
        ("all distinct".to_owned(), (0..LENGTH as u32).collect(), true),
    ];
    for seed in 0..SEEDS {
        let mut noise = Noise::new(seed);
        let letters = [2, 3, 5, 30][seed as usize % 4];
        all.push((format!("random, {letters} letters, seed {seed}"), noise.text(LENGTH, letters), true));
        all.push((format!("copying, {letters} letters, seed {seed}"), noise.copying(LENGTH, letters), true));
    }
    all
}

fn drafts(drafter: &mut dyn Drafter, max: usize) -> (Match, Vec<u32>) {
    let mut out = vec![77];
    let found = drafter.draft(max, &mut out).unwrap();
    assert_eq!(out.remove(0), 77, "what was there stays");
    (found, out)
}

#[test]
fn prompt_lookup_finds_the_longest_and_most_recent() {
    for (name, text, _) in texts() {
        let options = LookupOptions { min_n: 2, max_n: 5 };
        let mut drafter = PromptLookup::new(options);
        for at in 1..=text.len() {
            drafter.extend(&text[at - 1..at]);
            let (longest, ends) = search(&text[..at], 5);
            let expected = if longest < 2 { vec![] } else { continuation(&text[..at], *ends.last().unwrap(), 9) };
            let (found, drafted) = drafts(&mut drafter, 9);
            assert_eq!(found.len as usize, if longest < 2 { 0 } else { longest }, "{name} at {at}");
            assert_eq!(drafted, expected, "{name} at {at}");
            assert!(drafted.starts_with(&drafts(&mut drafter, 4).1), "{name} at {at}: fewer are a prefix");
        }
    }
}

#[test]
fn the_suffix_drafter_finds_the_longest_and_follows_it() {
    for (name, text, short_chains) in texts() {
        let mut drafter = SuffixDrafter::new(SuffixOptions { min_match: 1, per_match: 3 });
        for at in 1..=text.len() {
            drafter.extend(&text[at - 1..at]);
            let (longest, ends) = search(&text[..at], usize::MAX);
            let count = (3 * longest).min(10);
            let (found, drafted) = drafts(&mut drafter, 10);
            assert_eq!(found.len as usize, longest, "{name} at {at}");
            assert_eq!(drafted.len(), count, "{name} at {at}");
            let follows = |e: &usize| continuation(&text[..at], *e, count) == drafted;
            assert!(longest == 0 || ends.iter().any(follows), "{name} at {at}: {drafted:?}");
            assert!(!short_chains || ends.last().is_none_or(follows), "{name} at {at}: not the most recent");
        }
    }
}

#[test]
fn a_fork_and_its_origin_go_their_own_ways() {
    let (mut lookup, mut suffix) = (PromptLookup::default(), SuffixDrafter::default());
    let both: [&mut dyn Drafter; 2] = [&mut lookup, &mut suffix];
    for drafter in both {
        drafter.extend(&[1, 2, 3, 1]);
    }
    let (mut other_lookup, mut other_suffix) = (lookup.clone(), suffix.clone());
    let forks: [(&mut dyn Drafter, &mut dyn Drafter); 2] =
        [(&mut lookup, &mut other_lookup), (&mut suffix, &mut other_suffix)];
    for (origin, fork) in forks {
        origin.extend(&[2]);
        fork.extend(&[9]);
        assert_eq!(drafts(origin, 2), (Match { len: 2 }, vec![3, 1]), "{}", origin.name());
        assert_eq!(drafts(fork, 2), (Match { len: 0 }, vec![]), "{}", fork.name());
        assert_eq!((origin.last_time(), origin.time_per_token()), (None, None));
        origin.clear();
        origin.extend(&[5, 5]);
        assert_eq!(drafts(origin, 2), (Match { len: 1 }, vec![5, 5]), "{}", origin.name());
    }
}

/// Adding tokens at once or one by one gives the same drafts.
#[test]
fn pieces_do_not_matter() {
    let text = Noise::new(3).copying(400, 40);
    let (mut whole, mut pieces) = (SuffixDrafter::default(), SuffixDrafter::default());
    whole.extend(&text);
    for piece in text.chunks(7) {
        pieces.extend(piece);
    }
    assert_eq!(drafts(&mut whole, 16), drafts(&mut pieces, 16));
}
