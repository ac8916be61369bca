//! The token list of a model: texts, kinds, scores and special tokens.
//!
//! As in llama.cpp, metadata keys and the well-known texts of such tokens determine which tokens end a generation,
//! because many files name only one of them.

use std::collections::BTreeSet;

use super::error::TokenizerError;
use super::texts::Texts;
use crate::gguf::{Gguf, Value, ValueType};
use crate::warning::Warning;

/// The kind of a token, from `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// Ordinary text.
    Normal,
    /// The replacement for text that cannot be encoded.
    Unknown,
    /// Structure, such as `<|im_end|>`: recognised in a text only on request, never printed.
    Control,
    /// Recognised as a whole in every text, and printed unchanged.
    UserDefined,
    /// Padding of the table.
    Unused,
    /// One byte, written `<0x0A>`.
    Byte,
}

impl TokenKind {
    fn from_id(id: i128) -> TokenKind {
        match id {
            2 => TokenKind::Unknown,
            3 => TokenKind::Control,
            4 => TokenKind::UserDefined,
            5 => TokenKind::Unused,
            6 => TokenKind::Byte,
            // Missing or unknown types count as text.
            _ => TokenKind::Normal,
        }
    }
}

/// Texts of tokens that end a generation in any vocabulary.
const END_TEXTS: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];

/// Texts of fill-in-the-middle tokens after which nothing meaningful follows: padding, repository name, file separator.
/// The first existing one of each row counts, unless the row's key names it.
const FIM_END: &[(&str, &[&str])] = &[
    ("fim_pad", &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"]),
    ("fim_rep", &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"]),
    ("fim_sep", &["<|file_sep|>"]),
];

/// The tokens of a model.
#[derive(Debug)]
pub struct Vocab {
    texts: Texts,
    kinds: Vec<TokenKind>,
    scores: Vec<f32>,
    bos: Option<u32>,
    eos: Option<u32>,
    unknown: Option<u32>,
    ends: BTreeSet<u32>,
}

impl Vocab {
    /// Reads the token list. `usual` are the ids of the begin-of-sequence, end-of-sequence and unknown tokens for files
    /// that name none.
    pub(super) fn from_gguf(
        gguf: &Gguf,
        usual: [Option<u32>; 3],
        warnings: &mut Vec<Warning>,
    ) -> Result<Vocab, TokenizerError> {
        let texts = read_texts(gguf, warnings)?;
        let kinds = read_kinds(gguf, texts.len(), warnings)?;
        let scores = read_scores(gguf, texts.len(), warnings)?;
        let mut special = Special { gguf, texts: &texts, warnings };
        let [bos, eos, unknown] = usual;
        let (bos, eos) = (special.id_or("bos", bos)?, special.id_or("eos", eos)?);
        let unknown = special.id_or("unknown", unknown)?;
        let mut ends: BTreeSet<u32> = [eos, special.id("eot")?, special.id("eom")?].into_iter().flatten().collect();
        let fim = FIM_END.iter().map(|(name, _)| special.id(name)).collect::<Result<Vec<_>, _>>()?;
        let mut vocab = Vocab { texts, kinds, scores, bos, eos, unknown, ends: BTreeSet::new() };
        vocab.add_fim_ends(&fim, &mut ends);
        vocab.add_text_ends(&mut ends);
        vocab.ends = ends;
        Ok(vocab)
    }

    fn add_fim_ends(&mut self, named: &[Option<u32>], ends: &mut BTreeSet<u32>) {
        for (id, (_, texts)) in named.iter().zip(FIM_END) {
            let by_text = || texts.iter().find_map(|t| self.id(t));
            if let Some(id) = id.or_else(by_text) {
                self.make_control(id);
                ends.insert(id);
            }
        }
    }

    fn add_text_ends(&mut self, ends: &mut BTreeSet<u32>) {
        for text in END_TEXTS {
            if let Some(id) = self.id(text) {
                self.make_control(id);
                ends.insert(id);
            }
        }
        let ends_with = |text: &str| self.id(text).is_some_and(|id| ends.contains(&id));
        // In vocabularies with a token for "answer complete", <|end|> only ends one part of it.
        let complete = ends_with("<|return|>") || ends_with("<|flush|>");
        let call = ends_with("<|call|>") || ends_with("<|calls|>");
        let not_end = if complete && call { Some("<|end|>") } else { None };
        // These have a separate end token, and </s> is ordinary text.
        let tag = if ends_with("<|tool_response>") { Some("</s>") } else { None };
        for id in [not_end, tag].into_iter().flatten().filter_map(|t| self.id(t)).collect::<Vec<_>>() {
            ends.remove(&id);
            self.kinds[id as usize] = TokenKind::UserDefined;
        }
    }

    /// Makes a token that looks like structure a control token, whatever its type in the file.
    fn make_control(&mut self, id: u32) {
        if let Some(kind) = self.kinds.get_mut(id as usize) {
            *kind = TokenKind::Control;
        }
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether there are no tokens. Never true for a vocabulary read from a file.
    pub fn is_empty(&self) -> bool {
        self.texts.len() == 0
    }

    /// The id of the token with exactly this text, as spelled in the file.
    pub fn id(&self, text: &str) -> Option<u32> {
        self.texts.id(text)
    }

    /// The text of a token, as spelled in the file (bytes and spaces may be encoded).
    pub fn text(&self, id: u32) -> Option<&str> {
        self.texts.get(id)
    }

    /// The kind of a token.
    pub fn kind(&self, id: u32) -> Option<TokenKind> {
        self.kinds.get(id as usize).copied()
    }

    /// The first token below both lengths whose text differs. Tokens that are padding in both may differ; models of a family
    /// may be padded to different lengths.
    pub fn first_difference(&self, other: &Vocab) -> Option<u32> {
        let unused = |id| [self, other].iter().all(|v| v.kind(id) == Some(TokenKind::Unused));
        (0..self.len().min(other.len()) as u32).find(|&id| self.text(id) != other.text(id) && !unused(id))
    }

    /// The begin-of-sequence token.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The end-of-sequence token.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// The token for text that cannot be encoded.
    pub fn unknown(&self) -> Option<u32> {
        self.unknown
    }

    /// Whether this token ends a generation.
    pub fn is_end(&self, id: u32) -> bool {
        self.ends.contains(&id)
    }

    /// All tokens that end a generation, in order of their ids.
    pub fn ends(&self) -> impl Iterator<Item = u32> {
        self.ends.iter().copied()
    }

    pub(super) fn score(&self, id: u32) -> f32 {
        self.scores.get(id as usize).copied().unwrap_or(0.0)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &str, TokenKind)> {
        let pairs = self.texts.iter().zip(&self.kinds).enumerate();
        pairs.map(|(id, (text, &kind))| (id as u32, text, kind))
    }
}

fn read_texts(gguf: &Gguf, warnings: &mut Vec<Warning>) -> Result<Texts, TokenizerError> {
    let key = "tokenizer.ggml.tokens";
    let list = gguf
        .get_array(key, &[ValueType::Str])?
        .ok_or_else(|| crate::gguf::GgufError::MissingKey { name: key.to_owned() })?;
    if list.is_empty() || i32::try_from(list.len()).is_err() {
        return Err(TokenizerError::Count { got: list.len() });
    }
    let mut texts = Texts::with_capacity(list.len(), list.bytes_len());
    let mut empty: Option<(usize, usize)> = None;
    for (i, value) in list.iter().enumerate() {
        let added = match value {
            // Empty texts would match everywhere; llama.cpp renames them the same way.
            Value::Str("") => {
                empty.get_or_insert((0, i)).0 += 1;
                texts.push(&format!("[EMPTY_{i}]"))
            }
            Value::Str(text) => texts.push(text),
            _ => {
                warnings.push(Warning::NotUtf8 { what: format!("token {i}") });
                texts.push(&format!("[NOT_UTF8_{i}]"))
            }
        };
        added.map_err(|first| {
            let text = texts.get(first).unwrap_or_default().to_owned();
            TokenizerError::DuplicateToken { text, first, second: i as u32 }
        })?;
    }
    warnings.extend(empty.map(|(count, first)| Warning::EmptyTokens { count, first }));
    Ok(texts)
}

fn read_kinds(gguf: &Gguf, tokens: usize, warnings: &mut Vec<Warning>) -> Result<Vec<TokenKind>, TokenizerError> {
    let key = "tokenizer.ggml.token_type";
    let Some(list) = gguf.get_array(key, &[ValueType::I32, ValueType::U32])? else {
        return Ok(vec![TokenKind::Normal; tokens]);
    };
    check_length(key, list.len(), tokens, warnings)?;
    Ok(list.iter().take(tokens).map(|v| TokenKind::from_id(v.as_int().unwrap_or(0))).collect())
}

fn read_scores(gguf: &Gguf, tokens: usize, warnings: &mut Vec<Warning>) -> Result<Vec<f32>, TokenizerError> {
    let key = "tokenizer.ggml.scores";
    let Some(list) = gguf.get_array(key, &[ValueType::F32, ValueType::I32])? else { return Ok(Vec::new()) };
    check_length(key, list.len(), tokens, warnings)?;
    Ok(list.iter().take(tokens).map(|v| v.as_f32().or(v.as_int().map(|i| i as f32)).unwrap_or(0.0)).collect())
}

/// Checks that a list has an entry for each token. Extra entries are a warning, missing ones an error.
fn check_length(
    key: &'static str,
    got: usize,
    tokens: usize,
    warnings: &mut Vec<Warning>,
) -> Result<(), TokenizerError> {
    warnings.extend((got > tokens).then_some(Warning::Longer { key, got, tokens }));
    if got < tokens { Err(TokenizerError::Length { key, got, tokens }) } else { Ok(()) }
}

/// Reads the keys that name special tokens. An invalid one is a warning and counts as missing.
struct Special<'a> {
    gguf: &'a Gguf,
    texts: &'a Texts,
    warnings: &'a mut Vec<Warning>,
}

impl Special<'_> {
    /// The token that `tokenizer.ggml.<name>_token_id` names.
    fn id(&mut self, name: &str) -> Result<Option<u32>, TokenizerError> {
        let (key, tokens) = (key_of(name), self.texts.len());
        match self.gguf.get_u32(&key)? {
            // Some converters write "no such token" this way.
            None | Some(u32::MAX) => Ok(None),
            Some(id) if (id as usize) < tokens => Ok(Some(id)),
            Some(got) => {
                self.warnings.push(Warning::SpecialId { key, got, tokens });
                Ok(None)
            }
        }
    }

    /// The named token, or the usual one if the file names none.
    fn id_or(&mut self, name: &str, usual: Option<u32>) -> Result<Option<u32>, TokenizerError> {
        if let Some(id) = self.id(name)? {
            return Ok(Some(id));
        }
        let Some((id, text)) = usual.and_then(|id| Some((id, self.texts.get(id)?.to_owned()))) else { return Ok(None) };
        self.warnings.push(Warning::AssumedId { key: key_of(name), id, text });
        Ok(Some(id))
    }
}

fn key_of(name: &str) -> String {
    format!("tokenizer.ggml.{name}_token_id")
}
