//! SentencePiece byte-pair encoding, as in the first Llama models.
//!
//! A text is a list of characters. Of all neighbours that together form a token, the pair with the best score (leftmost
//! among equals) is joined, until none is left. A character that is not a token becomes its bytes' tokens `<0xNN>`.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::error::TokenizerError;
use super::vocab::Vocab;

/// The character that stands for a space in such vocabularies.
pub(super) const SPACE: &str = "▁";

/// SentencePiece's default begin-of-sequence, end-of-sequence and unknown tokens, for files that name none.
pub(super) const USUAL_IDS: [Option<u32>; 3] = [Some(1), Some(2), Some(0)];

/// A run of the text: initially a character, finally a token's text.
struct Symbol {
    start: usize,
    /// Length in bytes; 0 once joined to its left neighbour.
    len: usize,
    prev: Option<usize>,
    next: Option<usize>,
}

/// Two neighbours that can be joined.
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    /// Total bytes when the pair was found. If they have changed, the pair is stale.
    len: usize,
}

impl Pair {
    fn key(&self) -> (Reverse<usize>, usize) {
        (Reverse(self.left), self.len)
    }
}

impl Ord for Pair {
    fn cmp(&self, other: &Pair) -> Ordering {
        self.score.total_cmp(&other.score).then_with(|| self.key().cmp(&other.key()))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Pair) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Pair) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Pair {}

/// Appends the ids of `text`, in which spaces are already written as [`SPACE`].
///
/// # Errors
/// [`TokenizerError::NoToken`] for a byte without a token if the vocabulary has no unknown token.
pub(super) fn encode(vocab: &Vocab, text: &str, out: &mut Vec<u32>) -> Result<(), TokenizerError> {
    let mut merge = Merge { vocab, text, symbols: symbols_of(text), queue: BinaryHeap::new() };
    for right in 1..merge.symbols.len() {
        merge.offer(Some(right - 1), Some(right));
    }
    merge.join_all();
    for symbol in merge.symbols.iter().filter(|r| r.len > 0) {
        push_symbol(vocab, &text[symbol.start..symbol.start + symbol.len], out)?;
    }
    Ok(())
}

fn symbols_of(text: &str) -> Vec<Symbol> {
    let count = text.chars().count();
    let symbol = |(i, (start, c)): (usize, (usize, char))| Symbol {
        start,
        len: c.len_utf8(),
        prev: i.checked_sub(1),
        next: Some(i + 1).filter(|&n| n < count),
    };
    text.char_indices().enumerate().map(symbol).collect()
}

struct Merge<'a> {
    vocab: &'a Vocab,
    text: &'a str,
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Pair>,
}

impl Merge<'_> {
    fn offer(&mut self, left: Option<usize>, right: Option<usize>) {
        let (Some(left), Some(right)) = (left, right) else { return };
        let start = self.symbols[left].start;
        let len = self.symbols[left].len + self.symbols[right].len;
        if let Some(id) = self.vocab.id(&self.text[start..start + len]) {
            self.queue.push(Pair { score: self.vocab.score(id), left, right, len });
        }
    }

    fn join_all(&mut self) {
        while let Some(pair) = self.queue.pop() {
            let (left, right) = (&self.symbols[pair.left], &self.symbols[pair.right]);
            if left.len == 0 || right.len == 0 || left.len + right.len != pair.len {
                continue;
            }
            let next = right.next;
            self.symbols[pair.right].len = 0;
            self.symbols[pair.left].len = pair.len;
            self.symbols[pair.left].next = next;
            if let Some(next) = next {
                self.symbols[next].prev = Some(pair.left);
            }
            self.offer(self.symbols[pair.left].prev, Some(pair.left));
            self.offer(Some(pair.left), next);
        }
    }
}

fn push_symbol(vocab: &Vocab, symbol: &str, out: &mut Vec<u32>) -> Result<(), TokenizerError> {
    if let Some(id) = vocab.id(symbol) {
        out.push(id);
        return Ok(());
    }
    for byte in symbol.bytes() {
        let id = vocab.id(&format!("<0x{byte:02X}>")).or_else(|| vocab.unknown());
        out.push(id.ok_or_else(|| TokenizerError::NoToken { byte, text: symbol.replace(SPACE, " ") })?);
    }
    Ok(())
}

/// Whether every byte can be encoded.
pub(super) fn has_all_bytes(vocab: &Vocab) -> bool {
    vocab.unknown().is_some() || (0..=u8::MAX).all(|byte| vocab.id(&format!("<0x{byte:02X}>")).is_some())
}

/// The byte that a token like `<0x0A>` stands for.
pub(super) fn byte_of(text: &str) -> Option<u8> {
    let hex = text.strip_prefix("<0x")?.strip_suffix('>')?;
    u8::from_str_radix(hex, 16).ok().filter(|_| hex.len() == 2)
}
