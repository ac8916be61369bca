//! A hash for the tokenizer's tables: a few multiplications for a short text.
//!
//! The standard hash takes several times as long, and a vocabulary with its merges is hashed a quarter of a million
//! times before a model's first token. Words are folded into a state by a 128-bit multiplication whose halves are
//! combined (the principle of wyhash, Wang Yi 2019). A random key keeps a file from choosing colliding texts.

use std::hash::{BuildHasher, Hasher, RandomState};

/// The hash's key. As a [`BuildHasher`] it is for integer keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key(u64);

/// An odd number with evenly spread bits (2^64 divided by the golden ratio).
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

impl Key {
    /// A new random key.
    pub(super) fn random() -> Key {
        Key(RandomState::new().hash_one(0))
    }

    /// The hash of a text.
    pub(super) fn hash_text(self, text: &str) -> u64 {
        let (words, rest) = text.as_bytes().as_chunks::<8>();
        let mut state = fold(self.0, text.len() as u64);
        for word in words {
            state = fold(state, u64::from_le_bytes(*word));
        }
        fold(state, rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)))
    }
}

/// The state after a word.
fn fold(state: u64, word: u64) -> u64 {
    let product = u128::from(state ^ word) * u128::from(SPREAD);
    (product as u64) ^ (product >> 64) as u64
}

/// Folds integers.
#[derive(Debug)]
pub(super) struct Words(u64);

impl BuildHasher for Key {
    type Hasher = Words;

    fn build_hasher(&self) -> Words {
        Words(self.0)
    }
}

impl Hasher for Words {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&b| self.0 = fold(self.0, u64::from(b)));
    }

    fn write_u32(&mut self, word: u32) {
        self.0 = fold(self.0, u64::from(word));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn short_texts_and_pairs_spread() {
        let key = Key::random();
        let texts = (0..20_000).flat_map(|i| [format!("{i}"), format!("a text of more than eight bytes {i}")]);
        // Of 40,000 values in a range of 2^32, 0.2 pairs are expected to collide.
        let places: HashSet<u32> = texts.map(|t| (key.hash_text(&t) >> 32) as u32).collect();
        assert!(places.len() > 39_990, "{}", places.len());
        let low: HashSet<u32> = (0..40_000u32).map(|i| key.hash_one((i / 200, i % 200)) as u32).collect();
        assert!(low.len() > 39_990, "{}", low.len());
    }

    #[test]
    fn zeros_and_lengths_count() {
        let key = Key::random();
        let texts = ["", "\0", "\0\0", "\0\0\0\0\0\0\0\0", "\0\0\0\0\0\0\0\0\0", "a", "a\0", "\0a"];
        let hashes: HashSet<u64> = texts.iter().map(|t| key.hash_text(t)).collect();
        assert_eq!(hashes.len(), texts.len());
    }
}
