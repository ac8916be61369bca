//! Tokens of the text form.

use super::error::ParseErrorKind;

/// A token. Words borrow their text from the source.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'s> {
    /// A keyword, op, type or symbol.
    Word(&'s str),
    /// A number as written.
    Number(&'s str),
    /// A value's name, without the percent sign.
    Value(&'s str),
    /// A string with escapes resolved.
    Str(String),
    /// One of `= : , [ ] { }`.
    Punct(char),
    /// The end of a line that contains tokens.
    Newline,
    /// The end of the source.
    End,
}

impl Token<'_> {
    /// The token as named in messages.
    pub(super) fn describe(&self) -> String {
        match self {
            Token::Word(w) => format!("`{w}`"),
            Token::Number(n) => format!("`{n}`"),
            Token::Value(v) => format!("`%{v}`"),
            Token::Str(s) => format!("{s:?}"),
            Token::Punct(c) => format!("`{c}`"),
            Token::Newline => "the end of the line".to_owned(),
            Token::End => "the end of the text".to_owned(),
        }
    }
}

/// A token and its byte offset.
pub(super) type Spanned<'s> = (Token<'s>, usize);

/// All tokens, with a `Newline` after each line that has any, and `End`.
pub(super) fn lex(source: &str) -> Result<Vec<Spanned<'_>>, (ParseErrorKind, usize)> {
    let mut tokens: Vec<Spanned<'_>> = Vec::new();
    let mut at = 0;
    while let Some(c) = source[at..].chars().next() {
        let rest = &source[at..];
        let (token, len) = match c {
            '\n' => {
                if tokens.last().is_some_and(|(t, _)| *t != Token::Newline) {
                    tokens.push((Token::Newline, at));
                }
                at += 1;
                continue;
            }
            ';' => {
                at += rest.find('\n').unwrap_or(rest.len());
                continue;
            }
            c if c.is_whitespace() => {
                at += c.len_utf8();
                continue;
            }
            '=' | ':' | ',' | '[' | ']' | '{' | '}' => (Token::Punct(c), 1),
            '"' => string(rest).ok_or((ParseErrorKind::String, at))?,
            '%' => {
                let len = word_len(&rest[1..]);
                (Token::Value(&rest[1..1 + len]), 1 + len)
            }
            c if c.is_ascii_digit() || c == '-' => {
                let len = number_len(rest);
                (Token::Number(&rest[..len]), len)
            }
            c if c.is_ascii_alphabetic() || c == '_' => {
                let len = word_len(rest);
                (Token::Word(&rest[..len]), len)
            }
            other => return Err((ParseErrorKind::Character(other), at)),
        };
        tokens.push((token, at));
        at += len;
    }
    if tokens.last().is_some_and(|(t, _)| *t != Token::Newline) {
        tokens.push((Token::Newline, at));
    }
    tokens.push((Token::End, at));
    Ok(tokens)
}

fn word_len(s: &str) -> usize {
    s.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))).unwrap_or(s.len())
}

fn number_len(s: &str) -> usize {
    let mut previous = ' ';
    for (i, c) in s.char_indices() {
        let sign = (c == '-' || c == '+') && (i == 0 || matches!(previous, 'e' | 'E'));
        if !(sign || c.is_ascii_alphanumeric() || c == '.') {
            return i;
        }
        previous = c;
    }
    s.len()
}

/// Lexes a string at the start of `s` and returns it with its length. Escapes are those that Rust's `{:?}` writes.
fn string(s: &str) -> Option<(Token<'_>, usize)> {
    let mut out = String::new();
    let mut chars = s.char_indices().skip(1);
    while let Some((i, c)) = chars.next() {
        match c {
            '"' => return Some((Token::Str(out), i + 1)),
            '\n' => return None,
            '\\' => out.push(escape(&mut chars)?),
            c => out.push(c),
        }
    }
    None
}

fn escape(chars: &mut impl Iterator<Item = (usize, char)>) -> Option<char> {
    match chars.next()?.1 {
        'n' => Some('\n'),
        't' => Some('\t'),
        'r' => Some('\r'),
        '0' => Some('\0'),
        c @ ('"' | '\\' | '\'') => Some(c),
        'u' => {
            chars.next().filter(|(_, c)| *c == '{')?;
            let mut code = 0u32;
            for (_, c) in chars {
                match c {
                    '}' => return char::from_u32(code),
                    c => code = code.checked_mul(16)?.checked_add(c.to_digit(16)?)?,
                }
            }
            None
        }
        _ => None,
    }
}
