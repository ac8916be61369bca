//! Makes text from files, URLs and subprocesses safe to print: no control sequences, bounded line length.
//!
//! `output` applies this to everything meant for people, so no message needs to handle it.

use std::borrow::Cow;
use std::fmt::Write;

/// Maximum characters in a line of a message.
const MAX_LINE: usize = 2000;
/// Maximum lines in a message.
const MAX_LINES: usize = 400;
/// Maximum bytes in a table cell.
const MAX_CELL: usize = 400;

/// Whether a terminal would obey a character or display different text because of it: control characters, and those
/// that change the writing direction or end a line.
fn is_obeyed(c: char) -> bool {
    let direction =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || direction
}

/// Escapes everything a terminal obeys except `\n` and `\t`, the way Rust does: `\u{1b}`.
pub(crate) fn text(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_obeyed(c) && !matches!(c, '\n' | '\t'))
}

/// Like [`text`], but on one line.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    escaped(text, is_obeyed)
}

/// A message: like [`text`], with a bounded number and length of lines.
pub(crate) fn message(message: &str) -> String {
    let mut out = String::new();
    let mut lines = message.split_inclusive('\n');
    for line in lines.by_ref().take(MAX_LINES) {
        let (body, end) = line.strip_suffix('\n').map_or((line, ""), |body| (body, "\n"));
        out += &text(&cut(body, MAX_LINE));
        out += end;
    }
    match lines.count() {
        0 => {}
        more => out += &format!("... and {more} more lines\n"),
    }
    out
}

/// A table cell: like [`line`], truncated.
pub(crate) fn cell(text: &str) -> String {
    line(&cut(text, MAX_CELL)).into_owned()
}

/// Escapes characters that JSON allows but a terminal obeys; the JSON keeps its meaning.
pub(crate) fn json(json: &str) -> Cow<'_, str> {
    replaced(json, |c| is_obeyed(c) && c != '\n', |out, c| write!(out, "\\u{:04x}", u32::from(c)))
}

/// The first `max` characters, followed by the total length.
fn cut(text: &str, max: usize) -> Cow<'_, str> {
    match text.char_indices().nth(max) {
        Some((end, _)) => Cow::Owned(format!("{}... ({} bytes)", &text[..end], text.len())),
        None => Cow::Borrowed(text),
    }
}

fn escaped(text: &str, wanted: impl Fn(char) -> bool) -> Cow<'_, str> {
    replaced(text, wanted, |out, c| write!(out, "{}", c.escape_default()))
}

fn replaced(
    text: &str,
    wanted: impl Fn(char) -> bool,
    by: impl Fn(&mut String, char) -> std::fmt::Result,
) -> Cow<'_, str> {
    if !text.contains(&wanted) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if wanted(c) {
            by(&mut out, c).expect("a string takes all that is written to it");
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_obeyed_but_newlines_and_tabs() {
        let hostile = "\x1b[2J\x1b]0;title\x07\u{9b}31m\r\u{8}\u{7f}\u{202e}\u{2028}";
        let shown = text(hostile);
        assert_eq!(shown, "\\u{1b}[2J\\u{1b}]0;title\\u{7}\\u{9b}31m\\r\\u{8}\\u{7f}\\u{202e}\\u{2028}");
        assert_eq!(text("a\n\tgrüße, 世界"), "a\n\tgrüße, 世界");
        assert_eq!(line("a\n\tb"), "a\\n\\tb");
        for c in (0..0x300).chain(0x2000..0x2100).filter_map(char::from_u32) {
            let shown = line(c.encode_utf8(&mut [0; 4])).into_owned();
            assert!(!shown.chars().any(char::is_control), "{c:?}");
        }
    }

    #[test]
    fn lines_and_their_number_are_bounded() {
        let long = "é".repeat(5_000_000);
        assert_eq!(message(&long), format!("{}... (10000000 bytes)", "é".repeat(MAX_LINE)));
        let shown = message(&"x\n".repeat(MAX_LINES + 7));
        assert!(shown.ends_with("x\n... and 7 more lines\n") && shown.lines().count() == MAX_LINES + 1, "{shown}");
        assert_eq!(message("one\ntwo\n"), "one\ntwo\n");
        assert_eq!(cell(&"k".repeat(70_000)), format!("{}... (70000 bytes)", "k".repeat(MAX_CELL)));
    }

    #[test]
    fn json_means_the_same() {
        let value = serde_json::json!({"a": "\u{1b}\u{7f}\u{9b}\u{202e}é\n"});
        let text = value.to_string();
        let shown = json(&text);
        assert!(!shown.chars().any(is_obeyed), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).ok(), Some(value));
    }
}
