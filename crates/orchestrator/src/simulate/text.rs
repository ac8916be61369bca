//! A request's output as a drafter sees it: stretches that repeat earlier text, where drafts are right, and new ones.

use crate::drafter::Match;
use crate::random::Random;

/// Mean tokens of a copied stretch.
const STRETCH: f64 = 12.0;
/// Tokens of a stretch after which the drafter has found the place that it copies.
const FOUND: u32 = 2;
/// Chance that the end of new text matches some earlier place that does not go on like it.
const CHANCE_MATCH: f64 = 0.15;

/// What drafts a drafter has at a position of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    pub matched: Match,
    /// How many of the next tokens it guesses right, before the first wrong one.
    pub right: u32,
}

/// The output of one request.
#[derive(Clone, Debug)]
pub(super) struct Text {
    /// For each token, the tokens of its copied stretch before it; `None` in new text.
    copied: Vec<Option<u32>>,
    /// Whether new text at this place matches by chance.
    chance: Vec<bool>,
}

impl Text {
    /// Draws an output of `len` tokens of which about the share `copy` is copied.
    pub(super) fn draw(len: u32, copy: f64, random: &mut Random) -> Text {
        let mut copied = Vec::with_capacity(len as usize);
        let fresh = if copy > 0.0 { STRETCH * (1.0 - copy) / copy } else { f64::INFINITY };
        let mut is_copy = random.unit() < copy;
        while copied.len() < len as usize {
            let mean = if is_copy { STRETCH } else { fresh };
            let tokens = random.exponential(mean).ceil().clamp(0.0, f64::from(len)) as u32;
            copied.extend((0..tokens).map(|i| is_copy.then_some(i)));
            // Of all or of nothing there is but one stretch after another.
            is_copy = if copy >= 1.0 { true } else { !is_copy };
        }
        copied.truncate(len as usize);
        let chance = copied.iter().map(|_| random.unit() < CHANCE_MATCH).collect();
        Text { copied, chance }
    }

    /// What a drafter offers after `produced` tokens.
    pub(super) fn offer(&self, produced: u32) -> Offer {
        let at = produced as usize;
        let right = |from: usize| self.copied[from..].iter().take_while(|c| c.is_some_and(|i| i > 0)).count() as u32;
        match self.copied.get(at) {
            Some(Some(before)) if *before >= FOUND => {
                Offer { matched: Match { len: *before + 1 }, right: 1 + right(at + 1) }
            }
            Some(_) if self.chance[at] => Offer { matched: Match { len: 1 + at as u32 % 3 }, right: 0 },
            _ => Offer { matched: Match::default(), right: 0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_drafts_are_as_asked() {
        println!("seed 5");
        let mut random = Random::new(5);
        for copy in [0.0, 0.2, 0.5, 0.9, 1.0] {
            let text = Text::draw(50_000, copy, &mut random);
            let share = text.copied.iter().filter(|c| c.is_some()).count() as f64 / 50_000.0;
            assert!((share - copy).abs() < 0.05, "{copy}: {share}");
            for at in 0..1000 {
                let Offer { matched, right } = text.offer(at);
                assert!(right == 0 || matched.len > FOUND);
                let next = text.copied[at as usize..][..right as usize].iter();
                assert!(next.clone().all(Option::is_some), "drafts are right only in copied text");
            }
        }
        assert_eq!(Text::draw(3, 1.0, &mut random).offer(3).matched.len, 0, "the text has ended");
    }
}
