//! Byte-level byte-pair encoding, as in GPT-2 and most later models.
//!
//! The pre-tokenizer splits a text into words, their bytes are written as printable characters, and neighbours that
//! form a token are merged by rank. Splitting is in `split`, merging in `merges`: tables of numbers, since a string for
//! each part of each merge would take longer than reading a model. A test compares the results with the `tokenizers`
//! crate.

use std::collections::HashMap;

use super::error::TokenizerError;
use super::merges::Merges;
use super::pre::Pre;
use super::split::Split;
use super::vocab::Vocab;
use crate::gguf::{Gguf, GgufError, ValueType};
use crate::warning::Warning;

/// Characters of a text shown in a message.
const SHOWN_CHARS: usize = 40;

/// A byte-level encoder.
pub(super) struct Bpe {
    merges: Merges,
    /// The token of each byte, if it has one.
    bytes: [Option<u32>; 256],
    /// Whether a word that is itself a token is used without merging.
    ignore_merges: bool,
    splits: Vec<Split>,
    /// Texts in merges that are not tokens. Their ids follow the vocabulary's.
    strays: Vec<String>,
}

impl std::fmt::Debug for Bpe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bpe").field("splits", &self.splits.len()).finish_non_exhaustive()
    }
}

impl Bpe {
    pub(super) fn new(
        gguf: &Gguf,
        vocab: &Vocab,
        pre: &Pre,
        warnings: &mut Vec<Warning>,
    ) -> Result<Bpe, TokenizerError> {
        let mut names = Names { vocab, strays: HashMap::new() };
        let merges = read_merges(gguf, &mut names, warnings)?;
        let splits = pre.splits.iter().map(|s| Split::new(s)).collect::<Result<_, _>>()?;
        let of_byte = |byte: usize| names.known(byte_to_char(byte as u8).encode_utf8(&mut [0; 4]));
        let bytes = std::array::from_fn(of_byte);
        Ok(Bpe { merges, bytes, ignore_merges: pre.ignore_merges, splits, strays: names.into_strays() })
    }

    /// Whether every byte can be encoded.
    pub(super) fn has_all_bytes(&self) -> bool {
        self.bytes.iter().all(Option::is_some)
    }

    /// Appends the ids of `text`, without looking for special tokens. A byte without a token becomes the unknown token.
    /// Stops once there are more than `limit` ids in total.
    ///
    /// # Errors
    /// [`TokenizerError::NoToken`] for a byte without a token if the vocabulary has no unknown token.
    pub(super) fn encode(
        &self,
        vocab: &Vocab,
        text: &str,
        limit: usize,
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        let mut words = vec![text];
        for split in &self.splits {
            let whole = std::mem::take(&mut words);
            whole.into_iter().for_each(|word| split.cut(word, &mut words));
        }
        let mut stray = Vec::new();
        let mut tokens = Vec::new();
        for word in words {
            if out.len() > limit {
                return Ok(());
            }
            let whole = || vocab.id(&word.bytes().map(byte_to_char).collect::<String>());
            if let Some(id) = if self.ignore_merges { whole() } else { None } {
                out.push(id);
                continue;
            }
            tokens.clear();
            for byte in word.bytes() {
                let id = self.bytes[usize::from(byte)].or_else(|| vocab.unknown());
                tokens.push(id.ok_or_else(|| TokenizerError::NoToken { byte, text: shortened(word) })?);
            }
            if self.strays.is_empty() {
                self.merges.apply(tokens.iter().copied(), out);
                continue;
            }
            self.merges.apply(tokens.iter().copied(), &mut stray);
            stray.drain(..).try_for_each(|id| self.push(vocab, id, out))?;
        }
        Ok(())
    }

    /// Appends a token, or the characters of a text that is not one.
    fn push(&self, vocab: &Vocab, id: u32, out: &mut Vec<u32>) -> Result<(), TokenizerError> {
        let Some(text) = self.strays.get((id as usize).wrapping_sub(vocab.len())) else {
            out.push(id);
            return Ok(());
        };
        for c in text.chars() {
            let id = vocab.id(c.encode_utf8(&mut [0; 4])).or_else(|| vocab.unknown());
            let byte = char_to_byte(c).unwrap_or_default();
            out.push(id.ok_or_else(|| TokenizerError::NoToken { byte, text: shortened(text) })?);
        }
        Ok(())
    }
}

/// The start of a text, for a message.
fn shortened(text: &str) -> String {
    text.chars().take(SHOWN_CHARS).collect()
}

/// Ids of the texts in merges, tokens or not.
struct Names<'v> {
    vocab: &'v Vocab,
    strays: HashMap<String, u32>,
}

impl Names<'_> {
    fn known(&self, text: &str) -> Option<u32> {
        self.vocab.id(text).or_else(|| self.strays.get(text).copied())
    }

    /// The id of a text, new if it has none, and whether it is a token.
    fn id(&mut self, text: &str) -> (u32, bool) {
        if let Some(id) = self.vocab.id(text) {
            return (id, true);
        }
        let next = (self.vocab.len() + self.strays.len()) as u32;
        (*self.strays.entry(text.to_owned()).or_insert(next), false)
    }

    fn into_strays(self) -> Vec<String> {
        let mut strays: Vec<(String, u32)> = self.strays.into_iter().collect();
        strays.sort_by_key(|(_, id)| *id);
        strays.into_iter().map(|(text, _)| text).collect()
    }
}

/// Reads the merges, each of which joins two texts. Warns if one of the three texts is not a token.
fn read_merges(gguf: &Gguf, names: &mut Names<'_>, warnings: &mut Vec<Warning>) -> Result<Merges, TokenizerError> {
    let key = "tokenizer.ggml.merges";
    let list = gguf.get_array(key, &[ValueType::Str])?.ok_or_else(|| GgufError::MissingKey { name: key.to_owned() })?;
    let mut merges = Merges::with_capacity(list.len());
    let mut joined = String::new();
    let mut odd: Option<(usize, usize, String)> = None;
    for (index, value) in list.iter().enumerate() {
        let text = value.as_str().unwrap_or_default();
        let bad = || TokenizerError::Merge { index, text: text.to_owned() };
        let (first, second) = split_merge(text).ok_or_else(bad)?;
        joined.clear();
        joined.extend([first, second]);
        let [(first, a), (second, b), (token, c)] = [first, second, &joined].map(|t| names.id(t));
        merges.insert((first, second), index as u32, token);
        if !(a && b && c) {
            odd.get_or_insert_with(|| (0, index, text.to_owned())).0 += 1;
        }
    }
    warnings.extend(odd.map(|(count, first, text)| Warning::Merges { count, first, text }));
    Ok(merges)
}

/// The two parts of a merge. The first part is never empty, so a leading space belongs to it.
fn split_merge(text: &str) -> Option<(&str, &str)> {
    let first_char = text.chars().next()?.len_utf8();
    let space = first_char + text.get(first_char..)?.find(' ')?;
    Some((&text[..space], &text[space + 1..]))
}

/// The character that stands for a byte in a byte-level vocabulary: the byte's Latin-1 character if that is visible,
/// else the next free one from U+0100 on.
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
