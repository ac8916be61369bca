//! Byte-level byte-pair encoding, as GPT-2 and most models after it do it.
//!
//! A text is cut by the pre-tokenizer, its bytes are written as printable characters, and neighbours that make a token are
//! merged by rank. The `tokenizers` crate cuts; merging is `merges`, since that crate's tables take a string for each part of
//! each merge and with that longer than reading a model. A test compares the two.

use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, SplitDelimiterBehavior};

use super::error::TokenizerError;
use super::merges::Merges;
use super::pre::Pre;
use super::vocab::Vocab;
use crate::gguf::{Gguf, GgufError, ValueType};

/// A byte-level encoder.
pub(super) struct Bpe {
    merges: Merges,
    /// The token of each byte, if it has one.
    bytes: [Option<u32>; 256],
    /// Whether a word that is a token as a whole is taken before any merging.
    ignore_merges: bool,
    splits: Vec<Split>,
}

impl std::fmt::Debug for Bpe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bpe").field("splits", &self.splits.len()).finish_non_exhaustive()
    }
}

impl Bpe {
    pub(super) fn new(gguf: &Gguf, vocab: &Vocab, pre: &Pre) -> Result<Bpe, TokenizerError> {
        let merges = read_merges(gguf, vocab)?;
        let split = |regex: &&str| {
            Split::new(SplitPattern::Regex((*regex).to_owned()), SplitDelimiterBehavior::Isolated, false)
        };
        let splits = pre.splits.iter().map(split).collect::<Result<_, _>>().map_err(library)?;
        let of_byte = |byte: usize| vocab.id(byte_to_char(byte as u8).encode_utf8(&mut [0; 4]));
        Ok(Bpe { merges, bytes: std::array::from_fn(of_byte), ignore_merges: pre.ignore_merges, splits })
    }

    /// Appends the ids of `text`, in which no special token is looked for. A byte without a token is lost.
    pub(super) fn encode(&self, vocab: &Vocab, text: &str, out: &mut Vec<u32>) -> Result<(), TokenizerError> {
        let mut pieces = PreTokenizedString::from(text);
        for split in &self.splits {
            split.pre_tokenize(&mut pieces).map_err(library)?;
        }
        for (piece, _, _) in pieces.get_splits(OffsetReferential::Original, OffsetType::None) {
            let whole = || vocab.id(&piece.bytes().map(byte_to_char).collect::<String>());
            match if self.ignore_merges { whole() } else { None } {
                Some(id) => out.push(id),
                None => self.merges.apply(piece.bytes().filter_map(|b| self.bytes[usize::from(b)]), out),
            }
        }
        Ok(())
    }
}

fn library(error: impl ToString) -> TokenizerError {
    TokenizerError::Library { message: error.to_string() }
}

/// The merges, each of which makes a token out of two.
fn read_merges(gguf: &Gguf, vocab: &Vocab) -> Result<Merges, TokenizerError> {
    let key = "tokenizer.ggml.merges";
    let list = gguf.get_array(key, &[ValueType::Str])?.ok_or_else(|| GgufError::MissingKey { name: key.to_owned() })?;
    let mut merges = Merges::with_capacity(list.len());
    let mut joined = String::new();
    for (index, value) in list.iter().enumerate() {
        let text = value.as_str().unwrap_or_default();
        let bad = || TokenizerError::Merge { index, text: text.to_owned() };
        let (first, second) = split_merge(text).ok_or_else(bad)?;
        joined.clear();
        joined.extend([first, second]);
        let [Some(first), Some(second), Some(token)] = [first, second, &joined].map(|t| vocab.id(t)) else {
            return Err(bad());
        };
        merges.insert((first, second), index as u32, token);
    }
    Ok(merges)
}

/// The two parts of a merge. The first part is never empty, so a space in front belongs to it.
fn split_merge(text: &str) -> Option<(&str, &str)> {
    let first_char = text.chars().next()?.len_utf8();
    let space = first_char + text.get(first_char..)?.find(' ')?;
    Some((&text[..space], &text[space + 1..]))
}

/// The character that stands for a byte in a byte-level vocabulary: the byte's own Latin-1
/// character where that one is visible, else the next free one from U+0100 on.
pub(crate) fn byte_to_char(byte: u8) -> char {
    let code = match byte {
        0..=0x20 => 0x100 + u32::from(byte),
        0x7f..=0xa0 => 0x121 + u32::from(byte - 0x7f),
        0xad => 0x143,
        visible => u32::from(visible),
    };
    char::from_u32(code).expect("all codes are below U+0200")
}

/// The byte that a character of a byte-level vocabulary stands for.
pub(crate) fn char_to_byte(c: char) -> Option<u8> {
    let byte = match u32::from(c) {
        code @ 0x100..=0x120 => code - 0x100,
        code @ 0x121..=0x142 => code - 0x121 + 0x7f,
        0x143 => 0xad,
        code => code,
    };
    u8::try_from(byte).ok().filter(|&b| byte_to_char(b) == c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_characters_map_one_to_one() {
        let chars: std::collections::HashSet<char> = (0..=255).map(byte_to_char).collect();
        assert_eq!(chars.len(), 256);
        assert!((0..=255).all(|b| char_to_byte(byte_to_char(b)) == Some(b)));
        assert_eq!((byte_to_char(b' '), byte_to_char(b'\n'), char_to_byte(' ')), ('Ġ', 'Ċ', None));
        assert!(chars.iter().all(|c| !c.is_whitespace() && !c.is_control()));
    }

    #[test]
    fn merges_split_at_the_first_space_behind_the_first_character() {
        assert_eq!(split_merge("Ġ t"), Some(("Ġ", "t")));
        assert_eq!(split_merge("  a"), Some((" ", "a")));
        assert_eq!(split_merge("ab"), None);
        assert_eq!(split_merge(""), None);
    }
}
