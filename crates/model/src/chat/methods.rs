//! Python's methods of strings, lists and dictionaries, for chat templates.
//!
//! Methods of minijinja-contrib are used where they neither differ nor amplify; the rest is here. Methods that change a
//! value are missing, as in the sandbox that transformers uses. Called by the environment of chat templates.

use minijinja::value::{Tuple, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat::unknown_method_callback as contrib;

use super::python;
use super::split::{self, Side, is_space};
use crate::render::{MAX_BYTES, Style, Text, bounded_format};

/// `value.name(args)`.
pub(super) fn call(state: &mut State<'_, '_>, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let own = match (value.kind(), value.as_str()) {
        (ValueKind::String, Some(text)) => string(state, text, name, args)?,
        (ValueKind::Seq | ValueKind::Iterable, _) => list(value, name, args)?,
        (ValueKind::Map, _) if name == "copy" => Some(value.clone()),
        _ => None,
    };
    own.map_or_else(|| contrib(state, value, name, args), Ok)
}

fn list(value: &Value, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    match name {
        "copy" => Ok(Some(value.clone())),
        "index" => {
            let (wanted,): (&Value,) = from_args(args)?;
            let at = value.try_iter()?.position(|item| item == *wanted);
            at.map(|at| Some(Value::from(at))).ok_or_else(|| fault("the list has no such element"))
        }
        _ => Ok(None),
    }
}

fn fault(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

fn string(state: &State<'_, '_>, text: &str, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let value = match name {
        "strip" | "lstrip" | "rstrip" => Value::from(strip(text, name, args)?),
        "split" => split::split(text, args, Side::Left)?,
        "rsplit" => split::split(text, args, Side::Right)?,
        "splitlines" => split::lines(text, args)?,
        "partition" | "rpartition" => partition(text, name, args)?,
        "replace" => {
            let (old, new, count): (&str, &str, Option<i64>) = from_args(args)?;
            Value::from(replace(text, old, new, count)?)
        }
        "join" => Value::from(join(text, args)?),
        "format" => Value::from(bounded_format(state, Style::Braces, text, args, python::show)?),
        "find" | "rfind" | "index" | "rindex" => find(text, name, args)?,
        "count" => {
            let (what, start, end): (&str, Option<i64>, Option<i64>) = from_args(args)?;
            Value::from(window(text, start, end).1.matches(what).count())
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "center" | "ljust" | "rjust" | "zfill" => Value::from(pad(text, name, args)?),
        "title" => Value::from(title(text)),
        "capitalize" => Value::from(capitalize(text)),
        "swapcase" => Value::from(swap_case(text)),
        "casefold" => Value::from(text.to_lowercase().replace('ß', "ss")),
        "isdecimal" => Value::from(!text.is_empty() && text.chars().all(|c| c.is_ascii_digit())),
        _ => return Ok(None),
    };
    Ok(Some(value))
}

fn strip(text: &str, name: &str, args: &[Value]) -> Result<String, Error> {
    let (chars,): (Option<&str>,) = from_args(args)?;
    let goes = |c: char| chars.map_or_else(|| is_space(c), |set| set.contains(c));
    let text = if name == "rstrip" { text } else { text.trim_start_matches(goes) };
    Ok(if name == "lstrip" { text } else { text.trim_end_matches(goes) }.to_owned())
}

/// `text.replace(old, new, count)`; a negative count replaces all.
pub(super) fn replace(text: &str, old: &str, new: &str, count: Option<i64>) -> Result<String, Error> {
    let most = count.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
    let found = text.matches(old).take(most).count();
    if found.saturating_mul(new.len()).saturating_add(text.len()) > MAX_BYTES {
        return Err(fault("a value is larger than 16 MiB"));
    }
    Ok(text.replacen(old, new, most))
}

fn join(separator: &str, args: &[Value]) -> Result<String, Error> {
    let (values,): (&Value,) = from_args(args)?;
    let mut out = Text::default();
    for (i, item) in values.try_iter()?.checked().enumerate() {
        let item = item?;
        out.push(if i > 0 { separator } else { "" })?;
        out.push(item.as_str().ok_or_else(|| fault("`join` takes texts only"))?)?;
    }
    Ok(out.into_string())
}

fn partition(text: &str, name: &str, args: &[Value]) -> Result<Value, Error> {
    let (separator,): (&str,) = from_args(args)?;
    if separator.is_empty() {
        return Err(fault("an empty separator"));
    }
    let is_right = name == "rpartition";
    let found = if is_right { text.rsplit_once(separator) } else { text.split_once(separator) };
    let parts = match found {
        Some((before, after)) => [before, separator, after],
        None if is_right => ["", "", text],
        None => [text, "", ""],
    };
    Ok(Value::from(Tuple::from(parts.map(Value::from))))
}

/// The slice of a text between two character positions, and the number of characters before it.
fn window(text: &str, start: Option<i64>, end: Option<i64>) -> (usize, &str) {
    if start.is_none() && end.is_none() {
        return (0, text);
    }
    let len = text.chars().count();
    let place = |at: i64| match usize::try_from(at) {
        Ok(at) => at.min(len),
        Err(_) => len.saturating_sub(usize::try_from(at.unsigned_abs()).unwrap_or(usize::MAX)),
    };
    let (start, end) = (start.map_or(0, place), end.map_or(len, place));
    let byte = |at: usize| text.char_indices().nth(at).map_or(text.len(), |(i, _)| i);
    (start, text.get(byte(start)..byte(end)).unwrap_or(""))
}

fn find(text: &str, name: &str, args: &[Value]) -> Result<Value, Error> {
    let (what, start, end): (&str, Option<i64>, Option<i64>) = from_args(args)?;
    let (before, part) = window(text, start, end);
    let at = if name.starts_with('r') { part.rfind(what) } else { part.find(what) };
    match at {
        Some(at) => Ok(Value::from(before + part[..at].chars().count())),
        None if name.ends_with("find") => Ok(Value::from(-1)),
        None => Err(fault("the text has no such part")),
    }
}

/// Pads a text to a width.
fn pad(text: &str, name: &str, args: &[Value]) -> Result<String, Error> {
    let (width, fill): (i64, Option<&str>) = from_args(args)?;
    let fill = if name == "zfill" { "0" } else { fill.unwrap_or(" ") };
    let have = text.chars().count();
    let missing = usize::try_from(width).unwrap_or(0).saturating_sub(have);
    if missing.saturating_mul(fill.len()).saturating_add(text.len()) > MAX_BYTES {
        return Err(fault("a value is larger than 16 MiB"));
    }
    if name == "zfill" {
        let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
        return Ok(format!("{sign}{}{digits}", fill.repeat(missing)));
    }
    let left = match name {
        "ljust" => 0,
        "rjust" => missing,
        // For an odd width, Python puts the extra character on the left.
        _ => missing / 2 + (missing & usize::try_from(width).unwrap_or(0) & 1),
    };
    Ok(format!("{}{text}{}", fill.repeat(left), fill.repeat(missing - left)))
}

/// `str.title`: capitalises each letter that does not follow a letter.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_word = false;
    for c in text.chars() {
        if in_word {
            out.extend(c.to_lowercase())
        } else {
            out.extend(c.to_uppercase())
        }
        in_word = c.is_lowercase() || c.is_uppercase();
    }
    out
}

/// The first character in upper case, the others in lower case.
pub(super) fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(chars.flat_map(char::to_lowercase)).collect())
}

fn swap_case(text: &str) -> String {
    let swapped = |c: char| if c.is_uppercase() { c.to_lowercase().to_string() } else { c.to_uppercase().to_string() };
    text.chars().map(swapped).collect()
}
