//! Chooses the number of drafts of each sequence that maximises expected throughput.
//!
//! *Why greedy is exact.* A sequence's `j`-th draft adds the chance that its first `j` drafts are all accepted, which
//! never rises with `j`. The best `n` drafts of all sequences are therefore the `n` largest of these chances, and
//! taking the largest next one each time never skips any. So every total has one best division, and all totals are
//! compared: the time by rows has kinks and steps, so a larger total may win where the next one does not. (If drafts
//! take time to make, this holds if they cost the same in all sequences, as with one drafter for all.)

use crate::acceptance::Acceptance;
use crate::drafter::Match;
use serde::Serialize;
use smallvec::SmallVec;
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fmt;

/// Maximum alternatives that a choice records, and that its line names besides the plain step.
const KEPT: usize = 16;
const NAMED: usize = 3;

/// A sequence before its step.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Acceptance estimate of its drafts.
    pub acceptance: &'a Acceptance,
    /// The drafter's match.
    pub matched: Match,
    /// Number of drafts available, or that can be made.
    pub drafts: u32,
    /// Number of drafts, from the first, that are in the step regardless. Chosen drafts are added to them.
    pub fixed: u32,
    /// Seconds to make each draft that is taken, if it is not made yet; by the clock that times the steps.
    pub seconds_per_draft: f64,
}

/// One way to run the step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Alternative {
    /// Drafts of all sequences together, including fixed ones.
    pub drafts: u32,
    /// Expected tokens of all sequences together.
    pub tokens: f64,
    /// Expected seconds, including drafting.
    pub seconds: f64,
}

impl Alternative {
    /// Expected tokens per second.
    pub fn rate(&self) -> f64 {
        self.tokens / self.seconds
    }
}

/// The reason for a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// There are no drafts besides fixed ones, or no rows left.
    NoDrafts,
    /// Plain steps must be timed first.
    WarmUp,
    /// A plain step is timed again, to measure the gain of speculation.
    Probe,
    /// Drafts would not pay.
    NoGain,
    /// Drafts might pay, but the account cannot cover their failure.
    Account,
    /// Drafts pay.
    Gain,
    /// Drafts might pay if steps are faster than estimated, which this step measures.
    Explore,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::NoDrafts => "the drafter has none",
            Reason::WarmUp => "plain steps are timed first",
            Reason::Probe => "a plain step is timed again",
            Reason::NoGain => "drafts would not pay",
            Reason::Account => "more might pay, but failed ones have cost too much to risk it",
            Reason::Gain => "drafts pay",
            Reason::Explore => "to measure a step of this size",
        })
    }
}

/// How to run the step, and the alternatives considered. It serialises as one object.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Choice {
    /// Drafts of each sequence, including fixed ones.
    pub drafts: SmallVec<[u32; 8]>,
    /// Rows of the step: one per sequence, and its drafts.
    pub rows: u32,
    /// Expected tokens of all sequences.
    pub expected_tokens: f64,
    /// Expected seconds, including drafting.
    pub expected_seconds: f64,
    /// The rejected alternatives, best first, at most 16. Empty if nothing was weighed.
    pub losers: SmallVec<[Alternative; KEPT]>,
    /// The reason.
    pub reason: Reason,
    /// Seconds that it may lose.
    #[serde(skip)]
    pub(crate) held: f64,
    /// For an exploration, the seconds that the step must stay below to be worth it.
    #[serde(skip)]
    pub(crate) hope: Option<f64>,
}

impl fmt::Display for Choice {
    /// One line: `2 drafts (drafts pay): 1.75 tokens expected in 4.84 ms, 362 tok/s; instead of 1 at 338, none at 205 tok/s`.
    /// It names the three best of the alternatives, and the plain step.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total: u32 = self.drafts.iter().sum();
        let (tokens, seconds) = (self.expected_tokens, self.expected_seconds);
        let chosen = Alternative { drafts: total, tokens, seconds };
        write!(f, "{} ({})", chosen.name(" drafts"), self.reason)?;
        if self.drafts.len() > 1 && total > 0 {
            write!(f, ", {:?} by sequence", self.drafts.as_slice())?;
        }
        write!(f, ": {tokens:.2} tokens expected in {:.2} ms, {:.0} tok/s", seconds * 1e3, chosen.shown())?;
        let best = self.losers.iter().take(NAMED);
        let plain = self.losers.iter().skip(NAMED).filter(|a| a.drafts == 0);
        let others: Vec<String> = best.chain(plain).map(|a| format!("{} at {:.0}", a.name(""), a.shown())).collect();
        if others.is_empty() { Ok(()) } else { write!(f, "; instead of {} tok/s", others.join(", ")) }
    }
}

impl Alternative {
    fn name(&self, noun: &str) -> String {
        match self.drafts {
            0 if noun.is_empty() => "none".to_owned(),
            0 => format!("no{noun}"),
            1 => format!("1{}", noun.trim_end_matches('s')),
            n => format!("{n}{noun}"),
        }
    }

    /// Tokens per second, 0 where no time is expected.
    fn shown(&self) -> f64 {
        if self.seconds > 0.0 { self.rate() } else { 0.0 }
    }
}

/// The best division of each total, with reusable buffers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Division {
    /// The sequence that each next draft goes to.
    pub order: Vec<u32>,
    /// At index `n`, expected tokens with the fixed drafts and the first `n` of `order`.
    pub tokens: Vec<f64>,
    /// Drafting seconds at the same index.
    pub drafting: Vec<f64>,
    /// The next draft of each sequence that has one left.
    next: BinaryHeap<Next>,
}

/// A sequence's next draft. The largest has the largest chance, and of equals comes first.
#[derive(Clone, Copy, Debug)]
struct Next {
    /// Chance that it is reached and accepted.
    survival: f64,
    sequence: u32,
    /// Drafts before it.
    taken: u32,
}

impl Ord for Next {
    fn cmp(&self, other: &Next) -> Ordering {
        self.survival.total_cmp(&other.survival).then_with(|| other.sequence.cmp(&self.sequence))
    }
}

impl PartialOrd for Next {
    fn partial_cmp(&self, other: &Next) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Next {
    fn eq(&self, other: &Next) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Next {}

impl Division {
    /// Divides up to `total` drafts besides the fixed ones, at most `each` per sequence including those.
    pub fn fill(&mut self, candidates: &[Candidate<'_>], total: u32, each: u32) {
        self.order.clear();
        self.next.clear();
        self.tokens.clear();
        self.drafting.clear();
        self.start(candidates, each);
        for _ in 0..total {
            let Some(mut next) = self.next.peek_mut() else { break };
            let Next { survival, sequence, taken } = *next;
            let candidate = &candidates[sequence as usize];
            self.order.push(sequence);
            self.tokens.push(self.tokens[self.tokens.len() - 1] + survival);
            self.drafting.push(self.drafting[self.drafting.len() - 1] + candidate.seconds_per_draft);
            if taken + 1 < candidate.drafts.min(each) {
                let chance = candidate.acceptance.chance(candidate.matched, taken + 2);
                *next = Next { survival: survival * chance, sequence, taken: taken + 1 };
            } else {
                PeekMut::pop(next);
            }
        }
    }

    /// Starts from the step with fixed drafts only.
    fn start(&mut self, candidates: &[Candidate<'_>], each: u32) {
        let (mut tokens, mut drafting) = (candidates.len() as f64, 0.0);
        for (sequence, candidate) in candidates.iter().enumerate() {
            let mut survival = candidate.acceptance.chance(candidate.matched, 1);
            for position in 1..=candidate.fixed {
                tokens += survival;
                survival *= candidate.acceptance.chance(candidate.matched, position + 1);
            }
            drafting += f64::from(candidate.fixed) * candidate.seconds_per_draft;
            if candidate.fixed < candidate.drafts.min(each) {
                self.next.push(Next { survival, sequence: sequence as u32, taken: candidate.fixed });
            }
        }
        self.tokens.push(tokens);
        self.drafting.push(drafting);
    }

    /// The number of drafts per sequence with the first `total` of `order`.
    pub fn drafts(&self, candidates: &[Candidate<'_>], total: usize) -> SmallVec<[u32; 8]> {
        let mut drafts: SmallVec<[u32; 8]> = candidates.iter().map(|c| c.fixed).collect();
        for &sequence in &self.order[..total] {
            drafts[sequence as usize] += 1;
        }
        drafts
    }
}

/// The alternatives except the chosen one, best first, at most [`KEPT`].
pub(crate) fn losers(considered: &[Alternative], chosen: usize) -> SmallVec<[Alternative; KEPT]> {
    let mut kept: SmallVec<[Alternative; KEPT]> = SmallVec::new();
    let mut rates: SmallVec<[f64; KEPT]> = SmallVec::new();
    for (at, alternative) in considered.iter().enumerate() {
        if at == chosen {
            continue;
        }
        let rate = alternative.rate();
        let place = rates.iter().position(|kept| rate > *kept).unwrap_or(rates.len());
        if place < KEPT {
            kept.truncate(KEPT - 1);
            rates.truncate(KEPT - 1);
            kept.insert(place, *alternative);
            rates.insert(place, rate);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drafter::DrafterKind;

    /// An estimate trained on drafts that succeed at a given rate, for matches of `len`.
    fn seen(len: u32, per_mille: u32) -> Acceptance {
        let mut acceptance = Acceptance::new(DrafterKind::Text);
        for i in 0..200u32 {
            let accepted = (0..4).take_while(|j| (i * 4 + j) * 617 % 1000 < per_mille).count() as u32;
            acceptance.observe(Match { len }, 4, accepted);
        }
        acceptance
    }

    fn candidate(acceptance: &Acceptance, len: u32, drafts: u32) -> Candidate<'_> {
        Candidate { acceptance, matched: Match { len }, drafts, fixed: 0, seconds_per_draft: 0.0 }
    }

    /// Largest expected tokens with `total` drafts, by trying every division.
    fn brute(candidates: &[Candidate<'_>], total: u32) -> f64 {
        let Some((first, rest)) = candidates.split_first() else {
            return if total == 0 { 0.0 } else { f64::NEG_INFINITY };
        };
        let with = |k: u32| {
            let own: f64 = (0..=k).map(|j| first.acceptance.survival(first.matched, j)).sum();
            own + brute(rest, total - k)
        };
        (first.fixed..=first.drafts.min(total)).map(with).fold(f64::NEG_INFINITY, f64::max)
    }

    #[test]
    fn greedy_divides_as_well_as_brute_force() {
        let estimates = [seen(1, 300), seen(6, 900), seen(3, 600), seen(20, 980)];
        let limits = [[3, 2, 4, 1], [0, 5, 1, 2], [1, 1, 1, 1], [4, 0, 0, 4]];
        for (limits, fixed) in limits.into_iter().flat_map(|l| [(l, [0; 4]), (l, [l[0], 0, l[2] / 2, 0])]) {
            let lens = [1, 6, 3, 20];
            let of = |i: usize| Candidate { fixed: fixed[i], ..candidate(&estimates[i], lens[i], limits[i]) };
            let candidates = [0, 1, 2, 3].map(of);
            let mut division = Division::default();
            let [all, base]: [u32; 2] = [limits, fixed].map(|x| x.iter().sum());
            division.fill(&candidates, all + 3, 9);
            assert_eq!(division.order.len() as u32, all - base);
            for n in base..=all {
                let (best, chosen) = (brute(&candidates, n), (n - base) as usize);
                let tokens = division.tokens[chosen];
                assert!((tokens - best).abs() < 1e-9, "{limits:?}, {fixed:?}, {n}: {tokens} or {best}");
                let drafts = division.drafts(&candidates, chosen);
                assert_eq!(drafts.iter().sum::<u32>(), n);
                assert!(drafts.iter().zip(fixed).all(|(n, fixed)| *n >= fixed));
            }
        }
    }

    #[test]
    fn limits_hold() {
        let estimate = seen(6, 900);
        let candidates = [candidate(&estimate, 6, 5), candidate(&estimate, 6, 1)];
        let mut division = Division::default();
        division.fill(&candidates, 10, 2);
        assert_eq!(division.drafts(&candidates, 3).as_slice(), [2, 1]);
        division.fill(&candidates, 2, 9);
        assert_eq!(division.order, [0, 1], "equals take turns");
        let dear = Candidate { fixed: 3, seconds_per_draft: 0.5, ..candidates[0] };
        division.fill(&[dear, candidates[1]], 10, 4);
        assert_eq!((division.order.len(), &division.drafting[..2]), (2, &[1.5, 1.5][..]), "the cheap one comes first");
    }

    #[test]
    fn choices_explain_themselves_in_a_line() {
        let considered: Vec<_> =
            (0..20).map(|n| Alternative { drafts: n, tokens: 1.0 + f64::from(n).sqrt(), seconds: 0.01 }).collect();
        let losers = losers(&considered, 19);
        assert_eq!(losers.len(), KEPT);
        assert!(losers.windows(2).all(|w| w[0].rate() >= w[1].rate()) && losers[0].drafts == 18);
        let choice = Choice {
            drafts: SmallVec::from_slice(&[1, 2]),
            rows: 5,
            expected_tokens: 3.0,
            expected_seconds: 0.004,
            losers: losers.into_iter().take(1).collect(),
            reason: Reason::Gain,
            held: 0.0,
            hope: None,
        };
        let line = "3 drafts (drafts pay), [1, 2] by sequence: 3.00 tokens expected in 4.00 ms, 750 tok/s; \
                    instead of 18 at 524 tok/s";
        assert_eq!(choice.to_string(), line);
        let none = Alternative { drafts: 0, tokens: 1.0, seconds: 0.01 };
        let drafts = SmallVec::from_slice(&[1]);
        let losers = considered[15..19].iter().copied().chain([none]).collect();
        let one = Choice { drafts, losers, reason: Reason::Account, ..choice };
        let line = "1 draft (more might pay, but failed ones have cost too much to risk it): 3.00 tokens expected in 4.00 ms, \
                    750 tok/s; instead of 15 at 487, 16 at 500, 17 at 512, none at 100 tok/s";
        assert_eq!(one.to_string(), line);
        let json = serde_json::to_value(&one).unwrap();
        assert_eq!((&json["reason"], &json["losers"][4]["drafts"]), (&"account".into(), &0.into()));
        assert!(json.get("held").is_none());
    }
}
