//! Splits a template into text, tags and the tokens of each tag.
//!
//! The depth check and the rewriting must know where strings, tags and brackets start and end before minijinja parses
//! anything. The rules are minijinja's: a tag ends at its closing mark outside strings and brackets. Called by
//! `render::source`.

/// A template is not a sequence of complete tags.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LexError {
    /// The line, from 1.
    pub(super) line: usize,
    /// What is wrong.
    pub(super) message: &'static str,
}

/// A part of a template.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// Text, comments and raw blocks, passed through unchanged.
    Text(&'a str),
    /// `{{ ... }}` or `{% ... %}`.
    Tag(Tag<'a>),
}

/// A tag and its tokens.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tag<'a> {
    /// Whether it is `{% ... %}`.
    pub(super) is_block: bool,
    /// The opening mark, with its sign if it has one.
    pub(super) open: &'a str,
    pub(super) tokens: Vec<Token<'a>>,
    /// The closing mark, with its sign and the space before it.
    pub(super) close: &'a str,
    /// The line of the opening mark, from 1.
    pub(super) line: usize,
}

/// The kind of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Word,
    Number,
    /// Includes its quotes.
    Str,
    /// An operator or a bracket.
    Op,
}

/// A token of a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    /// White space before it.
    pub(super) space: &'a str,
    pub(super) text: &'a str,
}

impl Token<'_> {
    /// Whether it is this operator or bracket.
    pub(super) fn is_op(&self, text: &str) -> bool {
        self.kind == Kind::Op && self.text == text
    }

    /// Whether it is this word.
    pub(super) fn is_word(&self, text: &str) -> bool {
        self.kind == Kind::Word && self.text == text
    }
}

/// All parts of a template, in order.
pub(super) fn pieces(source: &str) -> Result<Vec<Piece<'_>>, LexError> {
    let mut cursor = Cursor { source, at: 0, line: 1 };
    let mut pieces = Vec::new();
    while !cursor.rest().is_empty() {
        cursor.piece(&mut pieces)?;
    }
    Ok(pieces)
}

struct Cursor<'a> {
    source: &'a str,
    at: usize,
    line: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn take(&mut self, len: usize) -> &'a str {
        let taken = &self.source[self.at..self.at + len];
        self.line += taken.bytes().filter(|b| *b == b'\n').count();
        self.at += len;
        taken
    }

    fn fail<T>(&self, message: &'static str) -> Result<T, LexError> {
        Err(LexError { line: self.line, message })
    }

    fn piece(&mut self, pieces: &mut Vec<Piece<'a>>) -> Result<(), LexError> {
        let rest = self.rest();
        let is_mark = |(i, _): &(usize, &str)| matches!(rest.as_bytes().get(i + 1), Some(b'{' | b'%' | b'#'));
        let start = rest.match_indices('{').find(is_mark).map_or(rest.len(), |(i, _)| i);
        if start > 0 {
            pieces.push(Piece::Text(self.take(start)));
            return Ok(());
        }
        match rest.as_bytes()[1] {
            b'#' => match rest.find("#}") {
                Some(end) => pieces.push(Piece::Text(self.take(end + 2))),
                None => return self.fail("a comment has no end"),
            },
            b'%' if let Some(len) = raw_tag(rest, "raw") => {
                let end = self.raw_end(len)?;
                pieces.push(Piece::Text(self.take(end)));
            }
            second => {
                let tag = self.tag(second == b'%')?;
                pieces.push(Piece::Tag(tag));
            }
        }
        Ok(())
    }

    /// Length of a raw block whose first tag has `open` bytes.
    fn raw_end(&self, open: usize) -> Result<usize, LexError> {
        let rest = self.rest();
        for (i, _) in rest[open..].match_indices("{%") {
            if let Some(len) = raw_tag(&rest[open + i..], "endraw") {
                return Ok(open + i + len);
            }
        }
        self.fail("a raw block has no end")
    }

    fn tag(&mut self, is_block: bool) -> Result<Tag<'a>, LexError> {
        let line = self.line;
        let signed = self.rest()[2..].starts_with(['-', '+']);
        let open = self.take(2 + usize::from(signed));
        let (mut tokens, mut depth) = (Vec::new(), 0usize);
        loop {
            let space = self.take(self.rest().len() - self.rest().trim_start_matches(is_space).len());
            if depth == 0
                && let Some(len) = closing(self.rest(), is_block)
            {
                self.take(len);
                let close = &self.source[self.at - len - space.len()..self.at];
                return Ok(Tag { is_block, open, tokens, close, line });
            }
            let Some((kind, len)) = token(self.rest()) else {
                return self.fail(if self.rest().is_empty() { "a tag has no end" } else { "a string has no end" });
            };
            if kind == Kind::Word && self.rest().starts_with(RESERVED) {
                return self.fail("a name begins with __aio_, which is reserved");
            }
            let text = self.take(len);
            match text {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth = depth.saturating_sub(1),
                _ => {}
            }
            tokens.push(Token { kind, space, text });
        }
    }
}

fn is_space(c: char) -> bool {
    c.is_whitespace()
}

/// Length of the closing mark, if `rest` starts with it.
fn closing(rest: &str, is_block: bool) -> Option<usize> {
    let mark = if is_block { "%}" } else { "}}" };
    let signed = rest.starts_with(['-', '+']);
    rest[usize::from(signed)..].starts_with(mark).then_some(mark.len() + usize::from(signed))
}

/// Length of `{% name %}` at the start of `rest`.
fn raw_tag(rest: &str, name: &str) -> Option<usize> {
    let inner = rest.strip_prefix("{%")?;
    let inner = inner.strip_prefix(['-', '+']).unwrap_or(inner).trim_start_matches(is_space);
    let inner = inner.strip_prefix(name)?.trim_start_matches(is_space);
    let inner = inner.strip_prefix(['-', '+']).unwrap_or(inner).strip_prefix("%}")?;
    Some(rest.len() - inner.len())
}

/// Kind and length of the token at the start of `rest`, which does not start with white space.
fn token(rest: &str) -> Option<(Kind, usize)> {
    let first = rest.chars().next()?;
    match first {
        '"' | '\'' => string_len(rest, first).map(|len| (Kind::Str, len)),
        '0'..='9' => Some((Kind::Number, number_len(rest))),
        c if is_word(c) => Some((Kind::Word, rest.find(|c| !is_word(c)).unwrap_or(rest.len()))),
        c => {
            let two = ["==", "!=", "<=", ">=", "**", "//"].iter().any(|op| rest.starts_with(op));
            Some((Kind::Op, if two { 2 } else { c.len_utf8() }))
        }
    }
}

/// Prefix of the names of the functions that enforce the bounds.
const RESERVED: &str = "__aio_";

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Length of a string, including its quotes.
fn string_len(rest: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (i, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(i + 1),
            _ => {}
        }
    }
    None
}

/// Length of a number: digits, and a point or exponent if digits follow it.
fn number_len(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let digit = |i: usize| bytes.get(i).is_some_and(u8::is_ascii_digit);
    let word = |i: usize| bytes.get(i).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    let mut end = 1;
    loop {
        if word(end) {
            end += 1;
            continue;
        }
        let goes_on = match bytes.get(end) {
            Some(b'.') => !rest[..end].contains('.'),
            Some(b'+' | b'-') => exponent(rest, end),
            _ => false,
        };
        if !goes_on || !digit(end + 1) {
            return end;
        }
        end += 2;
    }
}

/// Whether the text before `end` is a decimal number that ends in `e`.
fn exponent(rest: &str, end: usize) -> bool {
    rest[..end].strip_suffix(['e', 'E']).is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]
mod tests {
    use super::*;

    fn shown(source: &str) -> Vec<String> {
        let show = |piece: &Piece<'_>| match piece {
            Piece::Text(text) => format!("text {text}"),
            Piece::Tag(tag) => {
                let tokens: Vec<_> = tag.tokens.iter().map(|t| t.text).collect();
                format!("{} {} {}", tag.open, tokens.join(" "), tag.close.trim_start())
            }
        };
        pieces(source).unwrap().iter().map(show).collect()
    }

    #[test]
    fn tags_end_outside_of_strings_and_brackets() {
        assert_eq!(shown("a{{ {'}}': {1: 2}} }}b"), ["text a", "{{ { '}}' : { 1 : 2 } } }}", "text b"]);
        assert_eq!(shown("{%- if x.y != '\\'%}' -%}"), ["{%- if x . y != '\\'%}' -%}"]);
        assert_eq!(shown("{{ -1.5e-3 - x[1:-1] }}"), ["{{ - 1.5e-3 - x [ 1 : - 1 ] }}"]);
    }

    #[test]
    fn comments_and_raw_blocks_are_text() {
        assert_eq!(
            shown("{# {{ #}{%- raw -%}{{ x }}{% endraw %}"),
            ["text {# {{ #}", "text {%- raw -%}{{ x }}{% endraw %}"]
        );
    }

    #[test]
    fn what_has_no_end_is_an_error_with_a_line() {
        for (source, message) in [
            ("\n{{ x", "a tag has no end"),
            ("\n{# x", "a comment has no end"),
            ("\n{% raw %}", "a raw block has no end"),
            ("\n{{ 'x }}", "a string has no end"),
        ] {
            assert_eq!(pieces(source), Err(LexError { line: 2, message }));
        }
    }
}
