//! Splits a text into words before byte-pair merging.
//!
//! A step is one regular expression; its matches and the gaps between them are the words. The expressions are those of
//! `tokenizer.json` files, regular except for one look-ahead, `\s+(?!\S)`: white space up to, but not including, the
//! last character before a word. Here that is matched greedily as white space and then shortened, so every search uses
//! an automaton: linear in the text, without a stack or a limit that a long run of spaces could exceed. Tests compare
//! the results with the `tokenizers` crate. Used by `bpe`.

use regex_automata::Input;
use regex_automata::meta::Regex;

use super::error::TokenizerError;

/// The look-ahead, as an alternative of an expression.
const BEFORE_WORD: &str = r"|\s+(?!\S)";
/// Index of that alternative among a step's patterns.
const RUN: usize = 1;

/// One expression.
#[derive(Debug)]
pub(super) struct Split {
    /// Three patterns: the alternatives before the look-ahead, its run of white space, and the alternatives after it.
    /// The first that matches at a position wins, as in the expression.
    regex: Regex,
    /// Whether the last alternatives match the single white-space character that the look-ahead leaves.
    takes_one: bool,
}

impl Split {
    pub(super) fn new(expression: &str) -> Result<Split, TokenizerError> {
        let (patterns, takes_one) = match expression.split_once(BEFORE_WORD) {
            None => (vec![expression], false),
            Some((before, "")) => (vec![before, r"\s+"], false),
            Some((before, after)) => (vec![before, r"\s+", after.trim_start_matches('|')], true),
        };
        let refused = |e: &dyn std::fmt::Display| TokenizerError::Split { message: e.to_string() };
        let regex = Regex::new_many(&patterns).map_err(|e| refused(&e))?;
        Ok(Split { regex, takes_one })
    }

    /// Appends the words of `text`, which concatenate to the text.
    pub(super) fn cut<'t>(&self, text: &'t str, words: &mut Vec<&'t str>) {
        let (mut at, mut gap) = (0, 0);
        while let Some(found) = self.regex.find(Input::new(text).range(at..)) {
            let (start, end) = (found.start(), found.end());
            at = end;
            if found.pattern().as_usize() == RUN && end < text.len() {
                // A word follows and keeps the last white-space character.
                let last = text[start..end].char_indices().next_back().map_or(end, |(i, _)| start + i);
                match (last > start, self.takes_one) {
                    (true, _) => at = last,
                    (false, true) => {}
                    (false, false) => continue,
                }
            }
            words.extend([&text[gap..start], &text[start..at]].into_iter().filter(|w| !w.is_empty()));
            gap = at;
        }
        words.extend(Some(&text[gap..]).filter(|w| !w.is_empty()));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]
mod tests {
    use super::*;
    use crate::tokenizer::pre::SUPPORTED;
    use tokenizers::pre_tokenizers::split::{Split as Theirs, SplitPattern};
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, SplitDelimiterBehavior};

    fn ours<'t>(split: &Split, text: &'t str) -> Vec<&'t str> {
        let mut words = Vec::new();
        split.cut(text, &mut words);
        words
    }

    fn theirs(split: &Theirs, text: &str) -> Vec<String> {
        let mut pieces = PreTokenizedString::from(text);
        split.pre_tokenize(&mut pieces).unwrap();
        let pieces = pieces.get_splits(OffsetReferential::Original, OffsetType::None);
        pieces.into_iter().map(|(piece, _, _)| piece.to_owned()).filter(|p| !p.is_empty()).collect()
    }

    /// Random texts of white space, letters, digits, punctuation and endings of English contractions.
    fn random_texts(count: usize) -> Vec<String> {
        let parts = [
            " ", "  ", "\t", "\n", "\r\n", "\u{a0}", "a", "Bc", "é", "日本", "1", "234", "5678", "²", "'s", "'LL", "!",
            "#/", "_", "😀", "\u{300}",
        ];
        let mut state = 1u64;
        let mut random = move |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        (0..count).map(|_| (0..random(20)).map(|_| parts[random(parts.len())]).collect()).collect()
    }

    #[test]
    fn every_expression_cuts_as_the_tokenizers_crate_does() {
        let texts = random_texts(500);
        for expression in SUPPORTED.iter().flat_map(|(_, pre)| pre.splits) {
            let pattern = SplitPattern::Regex((*expression).to_owned());
            let their_split = Theirs::new(pattern, SplitDelimiterBehavior::Isolated, false).unwrap();
            let our_split = Split::new(expression).unwrap();
            for text in &texts {
                assert_eq!(ours(&our_split, text), theirs(&their_split, text), "{expression} on {text:?}");
            }
        }
    }

    #[test]
    fn a_run_of_spaces_of_any_length_is_cut() {
        let text = " ".repeat(1_500_000) + "word\n" + &"\n ".repeat(50_000) + "x";
        for expression in SUPPORTED.iter().flat_map(|(_, pre)| pre.splits).filter(|e| e.contains(BEFORE_WORD)) {
            let words = ours(&Split::new(expression).unwrap(), &text);
            assert_eq!(words.concat().len(), text.len());
            assert_eq!((words[0].len(), words[1]), (1_499_999, " word"), "{expression}");
        }
    }

    #[test]
    fn another_look_ahead_is_refused() {
        assert!(matches!(Split::new("a(?=b)"), Err(TokenizerError::Split { .. })));
    }
}
