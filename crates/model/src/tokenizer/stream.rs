//! Decodes token ids one at a time, without splitting characters.

use super::Tokenizer;

/// Holds bytes back until they form whole characters.
///
/// Bytes that can never become UTF-8 are replaced by U+FFFD, one for each broken sequence.
#[derive(Clone, Debug, Default)]
pub struct StreamDecoder {
    held: Vec<u8>,
    show_special: bool,
}

impl StreamDecoder {
    /// A decoder that omits control tokens.
    pub fn new() -> StreamDecoder {
        StreamDecoder::default()
    }

    /// A decoder that also prints control tokens, such as `<|im_end|>`.
    pub fn with_special() -> StreamDecoder {
        StreamDecoder { held: Vec::new(), show_special: true }
    }

    /// Takes the next token and returns the text that is now complete, often empty.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> String {
        tokenizer.append_piece(id, self.show_special, &mut self.held);
        let mut out = String::new();
        loop {
            match std::str::from_utf8(&self.held) {
                Ok(text) => {
                    out.push_str(text);
                    self.held.clear();
                    return out;
                }
                Err(error) => {
                    let whole = error.valid_up_to();
                    out.push_str(&String::from_utf8_lossy(&self.held[..whole]));
                    let Some(broken) = error.error_len() else {
                        self.held.drain(..whole);
                        return out;
                    };
                    out.push(char::REPLACEMENT_CHARACTER);
                    self.held.drain(..whole + broken);
                }
            }
        }
    }

    /// Returns what is still held back; an incomplete character becomes U+FFFD.
    pub fn finish(&mut self) -> String {
        let rest = String::from_utf8_lossy(&self.held).into_owned();
        self.held.clear();
        rest
    }
}
