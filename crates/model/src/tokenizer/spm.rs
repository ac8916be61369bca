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
struct Run {
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
    let mut merge = Merge { vocab, text, runs: runs_of(text), queue: BinaryHeap::new() };
    for right in 1..merge.runs.len() {
        merge.offer(Some(right - 1), Some(right));
    }
    merge.join_all();
    for run in merge.runs.iter().filter(|r| r.len > 0) {
        push_run(vocab, &text[run.start..run.start + run.len], out)?;
    }
    Ok(())
}

fn runs_of(text: &str) -> Vec<Run> {
    let count = text.chars().count();
    let run = |(i, (start, c)): (usize, (usize, char))| Run {
        start,
        len: c.len_utf8(),
        prev: i.checked_sub(1),
        next: Some(i + 1).filter(|&n| n < count),
    };
    text.char_indices().enumerate().map(run).collect()
}

struct Merge<'a> {
    vocab: &'a Vocab,
    text: &'a str,
    runs: Vec<Run>,
    queue: BinaryHeap<Pair>,
}

impl Merge<'_> {
    fn offer(&mut self, left: Option<usize>, right: Option<usize>) {
        let (Some(left), Some(right)) = (left, right) else { return };
        let start = self.runs[left].start;
        let len = self.runs[left].len + self.runs[right].len;
        if let Some(id) = self.vocab.id(&self.text[start..start + len]) {
            self.queue.push(Pair { score: self.vocab.score(id), left, right, len });
        }
    }

    fn join_all(&mut self) {
        while let Some(pair) = self.queue.pop() {
            let (left, right) = (&self.runs[pair.left], &self.runs[pair.right]);
            if left.len == 0 || right.len == 0 || left.len + right.len != pair.len {
                continue;
            }
            let next = right.next;
            self.runs[pair.right].len = 0;
            self.runs[pair.left].len = pair.len;
            self.runs[pair.left].next = next;
            if let Some(next) = next {
                self.runs[next].prev = Some(pair.left);
            }
            self.offer(self.runs[pair.left].prev, Some(pair.left));
            self.offer(Some(pair.left), next);
        }
    }
}

fn push_run(vocab: &Vocab, run: &str, out: &mut Vec<u32>) -> Result<(), TokenizerError> {
    if let Some(id) = vocab.id(run) {
        out.push(id);
        return Ok(());
    }
    for byte in run.bytes() {
        let id = vocab.id(&format!("<0x{byte:02X}>")).or_else(|| vocab.unknown());
        out.push(id.ok_or_else(|| TokenizerError::NoToken { byte, text: run.replace(SPACE, " ") })?);
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
