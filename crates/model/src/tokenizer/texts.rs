//! The texts of a vocabulary and their ids, in one buffer and one table.
//!
//! Allocating a string and a map entry for each of 150,000 tokens takes longer than reading a model's weights. The
//! standard map cannot have keys in a separate buffer, so this one stores only ids and looks up their texts.

use super::hash::Key;

/// An entry of the table.
#[derive(Clone, Copy, PartialEq, Eq)]
struct TextEntry {
    /// Half of the text's hash. It differs for most other texts, so those need not be compared.
    tag: u32,
    id: u32,
}

/// An empty entry.
const EMPTY: TextEntry = TextEntry { tag: 0, id: u32::MAX };

/// Distinct texts, numbered in order of insertion.
pub(super) struct Texts {
    bytes: String,
    /// End of each text.
    ends: Vec<usize>,
    /// Ids by hash of their text, with linear probing; the size is a power of two, at most half full.
    table: Vec<TextEntry>,
    key: Key,
}

impl std::fmt::Debug for Texts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Texts").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Texts {
    /// A table with room for `texts` texts of `bytes` bytes in total. Bytes may exceed this, the number of texts may
    /// not.
    pub(super) fn with_capacity(texts: usize, bytes: usize) -> Texts {
        Texts {
            bytes: String::with_capacity(bytes),
            ends: Vec::with_capacity(texts),
            table: vec![EMPTY; (2 * texts.max(1)).next_power_of_two()],
            key: Key::random(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Adds a text. The error is the id of an equal text.
    pub(super) fn push(&mut self, text: &str) -> Result<(), u32> {
        debug_assert!(2 * self.len() < self.table.len(), "the table has room for what was announced");
        let (place, tag, id) = self.find(text);
        if let Some(id) = id {
            return Err(id);
        }
        self.table[place] = TextEntry { tag, id: self.len() as u32 };
        self.bytes.push_str(text);
        self.ends.push(self.bytes.len());
        Ok(())
    }

    pub(super) fn get(&self, id: u32) -> Option<&str> {
        let id = id as usize;
        let start = if id == 0 { 0 } else { *self.ends.get(id - 1)? };
        Some(&self.bytes[start..*self.ends.get(id)?])
    }

    /// The id of a text.
    pub(super) fn id(&self, text: &str) -> Option<u32> {
        self.find(text).2
    }

    /// The position in the table of a text's id, or where it would be, and its tag.
    fn find(&self, text: &str) -> (usize, u32, Option<u32>) {
        let mask = self.table.len() - 1;
        let hash = self.key.hash_text(text);
        let (mut at, tag) = (hash as usize & mask, (hash >> 32) as u32);
        loop {
            let place = self.table[at];
            if place == EMPTY {
                return (at, tag, None);
            }
            if place.tag == tag && self.get(place.id) == Some(text) {
                return (at, tag, Some(place.id));
            }
            at = (at + 1) & mask;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        let mut start = 0;
        self.ends.iter().map(move |&end| &self.bytes[std::mem::replace(&mut start, end)..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_by_id_and_by_text() {
        let all: Vec<String> = (0..1000).map(|i| "x".repeat(i % 7) + &i.to_string()).collect();
        let mut texts = Texts::with_capacity(all.len(), 0);
        assert!(all.iter().all(|t| texts.push(t).is_ok()));
        assert!(texts.iter().eq(all.iter().map(String::as_str)));
        for (id, text) in (0..).zip(&all) {
            assert_eq!((texts.id(text), texts.get(id)), (Some(id), Some(text.as_str())));
        }
        assert_eq!((texts.id("y"), texts.id(""), texts.get(1000), texts.get(u32::MAX)), (None, None, None, None));
    }

    #[test]
    fn the_same_text_twice_is_refused_with_its_first_id() {
        let mut texts = Texts::with_capacity(3, 3);
        assert_eq!([texts.push("a"), texts.push("b"), texts.push("a")], [Ok(()), Ok(()), Err(0)]);
        assert_eq!((texts.len(), Texts::with_capacity(0, 0).id("a")), (2, None));
    }
}
