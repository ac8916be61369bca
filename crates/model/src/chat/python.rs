//! Values printed like Python's `str` and `repr`. Called by the environment of chat templates, its filters and methods.

use minijinja::value::{ObjectRepr, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

use crate::render::Text;

/// Maximum nesting of lists and maps printed.
const MAX_NESTING: usize = 200;

/// `str(value)`, as `{{ value }}` writes it.
pub(super) fn show(state: &State<'_, '_>, value: &Value, out: &mut Text) -> Result<(), Error> {
    match value.as_str() {
        Some(text) => out.push(text),
        None if value.is_undefined() => Ok(()),
        None => repr(state, value, out, 0),
    }
}

/// [`show`] as a text.
pub(super) fn text(state: &State<'_, '_>, value: &Value) -> Result<String, Error> {
    let mut out = Text::default();
    show(state, value, &mut out)?;
    Ok(out.into_string())
}

fn repr(state: &State<'_, '_>, value: &Value, out: &mut Text, nesting: usize) -> Result<(), Error> {
    if nesting > MAX_NESTING {
        return Err(Error::new(ErrorKind::InvalidOperation, "a value nests too deeply to be written"));
    }
    state.consume_fuel(1)?;
    match value.kind() {
        ValueKind::Undefined => out.push("Undefined"),
        ValueKind::None => out.push("None"),
        ValueKind::Bool => out.push(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number if value.is_integer() => out.push(&value.to_string()),
        ValueKind::Number => out.push(&float(f64::try_from(value.clone()).unwrap_or(f64::NAN))),
        ValueKind::String => quoted(value.as_str().unwrap_or(""), out),
        _ => match value.as_object().map(|o| o.repr()) {
            Some(ObjectRepr::Map) => map(state, value, out, nesting),
            Some(ObjectRepr::Seq | ObjectRepr::Iterable) => sequence(state, value, out, nesting),
            _ => out.push(&value.to_string()),
        },
    }
}

fn sequence(state: &State<'_, '_>, value: &Value, out: &mut Text, nesting: usize) -> Result<(), Error> {
    let is_tuple = value.is_tuple();
    out.push(if is_tuple { "(" } else { "[" })?;
    let mut written = 0;
    for item in value.try_iter()?.checked() {
        out.push(if written > 0 { ", " } else { "" })?;
        repr(state, &item?, out, nesting + 1)?;
        written += 1;
    }
    out.push(if is_tuple && written == 1 { "," } else { "" })?;
    out.push(if is_tuple { ")" } else { "]" })
}

fn map(state: &State<'_, '_>, value: &Value, out: &mut Text, nesting: usize) -> Result<(), Error> {
    out.push("{")?;
    let pairs = value.as_object().and_then(|o| o.try_iter_pairs()).into_iter().flatten();
    for (i, (key, item)) in pairs.enumerate() {
        out.push(if i > 0 { ", " } else { "" })?;
        repr(state, &key, out, nesting + 1)?;
        out.push(": ")?;
        repr(state, &item, out, nesting + 1)?;
    }
    out.push("}")
}

/// A number like Python's `repr`; Rust prints the same digits and switches to the exponent form at the same limits.
pub(super) fn float(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let text = format!("{number:?}");
    let Some((digits, exponent)) = text.split_once('e') else { return text };
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
    format!("{digits}e{sign}{exponent:0>2}")
}

/// A quoted text: single quotes, or double quotes if it contains only single ones.
fn quoted(text: &str, out: &mut Text) -> Result<(), Error> {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut piece = String::with_capacity(text.len() + 2);
    piece.push(quote);
    for c in text.chars() {
        match c {
            '\\' => piece.push_str("\\\\"),
            '\n' => piece.push_str("\\n"),
            '\r' => piece.push_str("\\r"),
            '\t' => piece.push_str("\\t"),
            c if c == quote => piece.extend(['\\', c]),
            c if is_printable(c) => piece.push(c),
            c if u32::from(c) <= 0xff => piece += &format!("\\x{:02x}", u32::from(c)),
            c if u32::from(c) <= 0xffff => piece += &format!("\\u{:04x}", u32::from(c)),
            c => piece += &format!("\\U{:08x}", u32::from(c)),
        }
    }
    piece.push(quote);
    out.push(&piece)
}

/// Close to Python's `str.isprintable`: no control characters, separators except the space, direction marks or private
/// use.
fn is_printable(c: char) -> bool {
    let is_format = matches!(u32::from(c), 0xad | 0x200b..=0x200f | 0x202a..=0x202e | 0x2060..=0x206f | 0xfeff);
    let is_private = matches!(u32::from(c), 0xe000..=0xf8ff | 0xf_0000..);
    c == ' ' || !(c.is_control() || c.is_whitespace() || is_format || is_private)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_python_writes_them() {
        for (number, text) in [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e16, "1e+16"),
            (1.5e-7, "1.5e-07"),
            (123_456_789_012_345_680.0, "1.2345678901234568e+17"),
            (-0.0001, "-0.0001"),
            (1e300, "1e+300"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(float(number), text);
        }
    }
}
