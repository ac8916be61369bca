//! Tokenizers, built from a GGUF file's metadata.
//!
//! Two kinds: byte-level BPE (`tokenizer.ggml.model` = `gpt2`) with the pre-tokenizers of [`pre::SUPPORTED`], and
//! SentencePiece BPE (`llama`). Ids agree with those of llama.cpp, with which models in this format are used; tests
//! check them for unusual strings. Special tokens are cut out of a text first, longest first. Where llama.cpp warns,
//! there is a [`Warning`] here. Used by the engine and the CLI.

mod bpe;
mod error;
mod hash;
mod merges;
pub mod pre;
mod split;
mod spm;
mod stream;
mod texts;
mod vocab;

pub(crate) use bpe::byte_to_char;
pub use error::TokenizerError;
pub use stream::StreamDecoder;
pub use vocab::{TokenKind, Vocab};

use crate::gguf::{Gguf, ValueType};
use crate::warning::Warning;

#[derive(Debug)]
enum Kind {
    Bpe(Box<bpe::Bpe>),
    Spm { space_prefix: bool },
}

/// Turns texts into token ids and back.
#[derive(Debug)]
pub struct Tokenizer {
    vocab: Vocab,
    kind: Kind,
    /// Tokens matched as a whole, longest text first.
    specials: Vec<u32>,
    add_bos: bool,
    add_eos: bool,
    /// Maximum bytes of text per token; `None` if bytes may be lost, so that there is no bound.
    longest: Option<usize>,
    warnings: Vec<Warning>,
}

/// A part of a text: either still to be encoded or a special token.
enum Piece<'a> {
    Text(&'a str),
    Token(u32),
}

impl Tokenizer {
    /// Builds the tokenizer that a model's metadata describes.
    ///
    /// # Errors
    /// [`TokenizerError`]: an unknown kind or pre-tokenizer, or inconsistent lists.
    pub fn from_gguf(gguf: &Gguf) -> Result<Tokenizer, TokenizerError> {
        refuse_suppressed(gguf)?;
        let mut warnings = Vec::new();
        let (vocab, kind, default_bos) = match gguf.need_str("tokenizer.ggml.model")? {
            "gpt2" => {
                let vocab = Vocab::from_gguf(gguf, [None; 3], &mut warnings)?;
                let pre = pre_of(gguf, &mut warnings)?;
                let bpe = bpe::Bpe::new(gguf, &vocab, &pre, &mut warnings)?;
                (vocab, Kind::Bpe(Box::new(bpe)), pre.add_bos)
            }
            "llama" => {
                let space_prefix = gguf.get_bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
                let vocab = Vocab::from_gguf(gguf, spm::USUAL_IDS, &mut warnings)?;
                (vocab, Kind::Spm { space_prefix }, true)
            }
            got => return Err(TokenizerError::Model { got: got.to_owned() }),
        };
        let mut added = |flag, default, id: Option<u32>, id_key| {
            let wanted = gguf.get_bool(flag)?.unwrap_or(default);
            warnings.extend((wanted && id.is_none()).then_some(Warning::NotAdded { flag, id_key }));
            Ok::<_, TokenizerError>(wanted && id.is_some())
        };
        let (bos, eos) = (vocab.bos(), vocab.eos());
        let add_bos = added("tokenizer.ggml.add_bos_token", default_bos, bos, "tokenizer.ggml.bos_token_id")?;
        let add_eos = added("tokenizer.ggml.add_eos_token", false, eos, "tokenizer.ggml.eos_token_id")?;
        let specials = specials_of(&vocab);
        let longest = longest_of(&vocab, &kind);
        Ok(Tokenizer { vocab, kind, specials, add_bos, add_eos, longest, warnings })
    }

    /// Metadata that could not be followed exactly.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The token list.
    pub fn vocab(&self) -> &Vocab {
        &self.vocab
    }

    /// Whether a prompt starts with the begin-of-sequence token.
    pub fn add_bos(&self) -> bool {
        self.add_bos
    }

    /// Whether a prompt ends with the end-of-sequence token.
    pub fn add_eos(&self) -> bool {
        self.add_eos
    }

    /// Encodes a text without adding tokens at its ends. With `parse_special`, control tokens written in the text
    /// become those tokens; otherwise they are encoded as plain text.
    ///
    /// # Errors
    /// [`TokenizerError::NoToken`] for a byte that the vocabulary cannot encode, if there is no unknown token.
    pub fn encode(&self, text: &str, parse_special: bool) -> Result<Vec<u32>, TokenizerError> {
        self.encode_up_to(text, parse_special, usize::MAX)
    }

    /// Like [`Tokenizer::encode`], but may stop after `limit` tokens. A longer text gives at least its first `limit`
    /// tokens. For callers that reject such a text, so that its length costs no time or memory.
    ///
    /// # Errors
    /// See [`Tokenizer::encode`].
    pub fn encode_up_to(&self, text: &str, parse_special: bool, limit: usize) -> Result<Vec<u32>, TokenizerError> {
        let mut out = Vec::new();
        // A SentencePiece text starts with a space, and so does text after a special token.
        let mut after_special = true;
        for piece in self.cut_specials(text, parse_special) {
            if out.len() > limit {
                break;
            }
            match piece {
                Piece::Token(id) => out.push(id),
                Piece::Text(text) => self.encode_plain(text, after_special, limit, &mut out)?,
            }
            after_special = matches!(piece, Piece::Token(_));
        }
        Ok(out)
    }

    /// A lower bound on the number of tokens, from the text's length alone, to reject texts that are too long
    /// immediately.
    pub fn least_tokens(&self, text: &str) -> usize {
        self.longest.map_or(0, |longest| text.len().div_ceil(longest))
    }

    /// Like [`Tokenizer::encode`], with the begin- and end-of-sequence tokens that the model requires.
    ///
    /// # Errors
    /// See [`Tokenizer::encode`].
    pub fn encode_prompt(&self, text: &str, parse_special: bool) -> Result<Vec<u32>, TokenizerError> {
        Ok(self.framed(self.encode(text, parse_special)?))
    }

    /// Adds the begin- and end-of-sequence tokens that the model requires.
    pub fn framed(&self, ids: Vec<u32>) -> Vec<u32> {
        let bos = self.vocab.bos().filter(|_| self.add_bos);
        let eos = self.vocab.eos().filter(|_| self.add_eos);
        bos.into_iter().chain(ids).chain(eos).collect()
    }

    /// Decodes ids. Control tokens are shown only with `show_special`; bytes that are not UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// [`TokenizerError::TokenId`] for an id outside the vocabulary.
    pub fn decode(&self, ids: &[u32], show_special: bool) -> Result<String, TokenizerError> {
        let mut bytes = Vec::new();
        for &id in ids {
            if !self.append_piece(id, show_special, &mut bytes) {
                return Err(TokenizerError::TokenId { id, tokens: self.vocab.len() });
            }
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Appends a token's bytes; `false` if there is no such token.
    pub(crate) fn append_piece(&self, id: u32, show_special: bool, out: &mut Vec<u8>) -> bool {
        let (Some(text), Some(kind)) = (self.vocab.text(id), self.vocab.kind(id)) else { return false };
        match kind {
            TokenKind::Control | TokenKind::Unknown if !show_special => {}
            TokenKind::Control | TokenKind::Unknown | TokenKind::UserDefined => out.extend(text.as_bytes()),
            TokenKind::Byte => out.extend(spm::byte_of(text)),
            TokenKind::Unused => {}
            TokenKind::Normal => match self.kind {
                Kind::Bpe(_) => out.extend(text.chars().filter_map(bpe::char_to_byte)),
                Kind::Spm { .. } => out.extend(text.replace(spm::SPACE, " ").as_bytes()),
            },
        }
        true
    }

    /// Appends the ids of a text without special tokens. Byte-level encoding stops once there are more than `limit`.
    fn encode_plain(
        &self,
        text: &str,
        after_special: bool,
        limit: usize,
        out: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        match &self.kind {
            Kind::Bpe(bpe) => bpe.encode(&self.vocab, text, limit, out),
            Kind::Spm { space_prefix } => {
                let prefix = if *space_prefix && after_special { spm::SPACE } else { "" };
                spm::encode(&self.vocab, &format!("{prefix}{}", text.replace(' ', spm::SPACE)), out)
            }
        }
    }

    /// Cuts special tokens out of a text: all occurrences of the longest one first, then the next in the rest.
    fn cut_specials<'a>(&self, text: &'a str, parse_special: bool) -> Vec<Piece<'a>> {
        let mut pieces = Vec::new();
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        for &id in &self.specials {
            let (Some(special), Some(kind)) = (self.vocab.text(id), self.vocab.kind(id)) else { continue };
            let wanted = parse_special || kind == TokenKind::UserDefined;
            if wanted && text.contains(special) {
                pieces = pieces.into_iter().flat_map(|p| cut(p, special, id)).collect();
            }
        }
        pieces
    }
}

fn cut<'a>(piece: Piece<'a>, special: &str, id: u32) -> Vec<Piece<'a>> {
    let Piece::Text(text) = piece else { return vec![piece] };
    let mut out = Vec::new();
    for (i, part) in text.split(special).enumerate() {
        if i > 0 {
            out.push(Piece::Token(id));
        }
        if !part.is_empty() {
            out.push(Piece::Text(part));
        }
    }
    out
}

fn specials_of(vocab: &Vocab) -> Vec<u32> {
    let special = |kind| matches!(kind, TokenKind::Control | TokenKind::UserDefined | TokenKind::Unknown);
    let mut found: Vec<(usize, u32)> =
        vocab.iter().filter(|&(_, _, kind)| special(kind)).map(|(id, text, _)| (text.len(), id)).collect();
    found.sort_by_key(|&(len, id)| (std::cmp::Reverse(len), id));
    found.into_iter().map(|(_, id)| id).collect()
}

/// Computes [`Tokenizer::longest`].
fn longest_of(vocab: &Vocab, kind: &Kind) -> Option<usize> {
    let all = match kind {
        Kind::Bpe(bpe) => bpe.has_all_bytes(),
        Kind::Spm { .. } => spm::has_all_bytes(vocab),
    };
    // In a vocabulary's text no character stands for more bytes than it has itself.
    vocab.iter().map(|(_, text, _)| text.len()).max().filter(|&longest| all && longest > 0)
}

/// The pre-tokenizer that the file names. Files older than the key mean the default.
fn pre_of(gguf: &Gguf, warnings: &mut Vec<Warning>) -> Result<pre::Pre, TokenizerError> {
    const ASSUMED: &str = "default";
    let named = gguf.get_str("tokenizer.ggml.pre")?;
    warnings.extend(named.is_none().then_some(Warning::NoPre { assumed: ASSUMED }));
    let name = named.unwrap_or(ASSUMED);
    pre::find(name).ok_or_else(|| TokenizerError::Pre { got: name.to_owned() })
}

/// Rejects suppressed tokens. Other `tokenizer` keys that these tokenizers do not read have no effect in llama.cpp
/// b11434 either.
fn refuse_suppressed(gguf: &Gguf) -> Result<(), TokenizerError> {
    let key = "tokenizer.ggml.suppress_tokens";
    match gguf.get_array(key, &[ValueType::I32, ValueType::U32])?.map(|list| list.len()) {
        None | Some(0) => Ok(()),
        Some(count) => Err(TokenizerError::Suppressed { key, count }),
    }
}
