//! `split`, `rsplit` and `splitlines` of Python's strings. Called by `methods`.

use minijinja::value::{Kwargs, from_args};
use minijinja::{Error, ErrorKind, Value};

/// White space according to Python: Unicode's, and four separators.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\x1c'..='\x1f')
}

/// The side where splitting starts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// `text.split(sep=None, maxsplit=-1)`.
pub(super) fn split(text: &str, args: &[Value], side: Side) -> Result<Value, Error> {
    let (separator, most, named): (Option<Value>, Option<i64>, Kwargs) = from_args(args)?;
    let separator = match separator {
        Some(value) => Some(value),
        None => named.get::<Option<Value>>("sep")?,
    };
    let most = match most {
        Some(most) => Some(most),
        None => named.get::<Option<i64>>("maxsplit")?,
    };
    named.assert_all_used()?;
    let most = most.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
    let Some(separator) = separator.filter(|s| !s.is_none()) else { return Ok(by_space(text, most, side)) };
    let separator = separator.as_str().filter(|s| !s.is_empty());
    let separator =
        separator.ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "a separator is a text, not empty"))?;
    let parts = most.saturating_add(1);
    Ok(match side {
        Side::Left => text.splitn(parts, separator).map(Value::from).collect(),
        Side::Right => {
            let mut parts: Vec<Value> = text.rsplitn(parts, separator).map(Value::from).collect();
            parts.reverse();
            Value::from(parts)
        }
    })
}

/// Splits at runs of white space, at most `most` times. The remainder keeps its white space on the far side.
fn by_space(text: &str, most: usize, side: Side) -> Value {
    let mut parts: Vec<Value> = Vec::new();
    let mut rest = trim(text, side);
    while !rest.is_empty() {
        let at = match side {
            Side::Left => rest.find(is_space),
            Side::Right => rest.rfind(is_space).map(|at| at + rest[at..].chars().next().map_or(1, char::len_utf8)),
        };
        let Some(at) = at.filter(|_| parts.len() < most) else {
            parts.push(Value::from(rest));
            break;
        };
        let (before, after) = rest.split_at(at);
        let (part, others) = if side == Side::Left { (before, after) } else { (after, before) };
        parts.push(Value::from(part));
        rest = trim(others, side);
    }
    if side == Side::Right {
        parts.reverse();
    }
    Value::from(parts)
}

fn trim(text: &str, side: Side) -> &str {
    match side {
        Side::Left => text.trim_start_matches(is_space),
        Side::Right => text.trim_end_matches(is_space),
    }
}

/// `text.splitlines(keepends=False)`.
pub(super) fn lines(text: &str, args: &[Value]) -> Result<Value, Error> {
    let (keep, named): (Option<bool>, Kwargs) = from_args(args)?;
    let keep = keep.or(named.get::<Option<bool>>("keepends")?).unwrap_or(false);
    Ok(split_lines(text, keep).into_iter().map(Value::from).collect())
}

/// Splits into lines, with Python's line ends.
pub(super) fn split_lines(text: &str, keep: bool) -> Vec<&str> {
    let is_end =
        |c: char| matches!(c, '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}');
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(is_end) {
        let end = if rest[at..].starts_with("\r\n") { 2 } else { rest[at..].chars().next().map_or(1, char::len_utf8) };
        lines.push(&rest[..if keep { at + end } else { at }]);
        rest = &rest[at + end..];
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}
