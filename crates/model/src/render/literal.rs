//! String literals: decoded like Python and re-encoded so that minijinja reads the same text. Called by
//! `render::source`.

/// The text of a literal, given with its quotes. Unknown escapes are kept.
pub(super) fn decode(literal: &str) -> String {
    let inner = literal.get(1..literal.len().saturating_sub(1)).unwrap_or("");
    let mut out = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        out += &rest[..at];
        let (text, len) = escape(&rest[at..]);
        match text {
            Some(text) => out.extend(text),
            None => out += &rest[at..at + len],
        }
        rest = &rest[at + len..];
    }
    out + rest
}

/// The character that the escape at the start of `rest` stands for (`Some(None)`: nothing), and its length.
fn escape(rest: &str) -> (Option<Option<char>>, usize) {
    let Some(second) = rest[1..].chars().next() else { return (None, 1) };
    let simple = |c| (Some(Some(c)), 2);
    match second {
        '\n' => (Some(None), 2),
        '\\' | '\'' | '"' => simple(second),
        'a' => simple('\x07'),
        'b' => simple('\x08'),
        'f' => simple('\x0c'),
        'n' => simple('\n'),
        'r' => simple('\r'),
        't' => simple('\t'),
        'v' => simple('\x0b'),
        'x' => code(rest, 2),
        'u' => code(rest, 4),
        'U' => code(rest, 8),
        '0'..='7' => {
            let len = rest[1..].bytes().take(3).take_while(|b| matches!(b, b'0'..=b'7')).count();
            (Some(number(&rest[1..=len], 8)), 1 + len)
        }
        other => (None, 1 + other.len_utf8()),
    }
}

/// An escape of `digits` hexadecimal digits; unknown if digits are missing.
fn code(rest: &str, digits: usize) -> (Option<Option<char>>, usize) {
    match rest.get(2..2 + digits) {
        Some(text) if text.bytes().all(|b| b.is_ascii_hexdigit()) => (Some(number(text, 16)), 2 + digits),
        _ => (None, 2),
    }
}

/// The character with this code, or the replacement character if there is none (half a surrogate pair).
fn number(text: &str, radix: u32) -> Option<char> {
    let code = u32::from_str_radix(text, radix).unwrap_or(u32::MAX);
    Some(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER))
}

/// Appends `text` as a literal. Line ends are kept, so that line numbers do not change.
pub(super) fn encode(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_read_as_python_reads_them() {
        for (literal, text) in [
            (r"'a\tb\\n\''", "a\tb\\n'"),
            (r#""\x41\u00e9\U0001F600\101\0""#, "A\u{e9}\u{1f600}A\0"),
            (r"'\d\/\u12'", r"\d\/\u12"),
            ("'a\\\nb'", "ab"),
            (r"'\ud800'", "\u{fffd}"),
            ("''", ""),
        ] {
            assert_eq!(decode(literal), text, "{literal}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut out = String::new();
        encode("a\"b\\n\n\r\u{e9}", &mut out);
        assert_eq!(decode(&out), "a\"b\\n\n\r\u{e9}");
    }
}
