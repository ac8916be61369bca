//! Bounded versions of Python's `+` and `%`: sums of numbers, texts and lists; remainders with the divisor's sign, and
//! text formats. Called through `render`.

use minijinja::value::{Kwargs, Tuple, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

use super::{Show, Style, Text, bound, bounded_format};

/// `a + b + c`. If a text is marked as safe, the others are escaped to make them safe, as in jinja2.
pub(super) fn sum(state: &State<'_, '_>, parts: &[Value]) -> Result<Value, Error> {
    let (first, others) = parts.split_first().ok_or_else(|| fault("`+` takes two values"))?;
    let texts: Option<Vec<&str>> = parts.iter().map(Value::as_str).collect();
    if let Some(texts) = texts {
        return concatenated(parts, &texts);
    }
    others.iter().try_fold(first.clone(), |total, part| plus(state, &total, part))
}

fn concatenated(parts: &[Value], texts: &[&str]) -> Result<Value, Error> {
    let mut out = Text::default();
    let mut is_safe = false;
    for (part, text) in parts.iter().zip(texts) {
        if part.is_safe() && !is_safe {
            let before = std::mem::take(&mut out).into_string();
            out.push(&escaped(&before))?;
            is_safe = true;
        }
        if is_safe && !part.is_safe() { out.push(&escaped(text))? } else { out.push(text)? }
    }
    let text = out.into_string();
    Ok(if is_safe { Value::from_safe_string(text) } else { Value::from(text) })
}

/// Escapes the characters that are special in HTML.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn plus(state: &State<'_, '_>, a: &Value, b: &Value) -> Result<Value, Error> {
    if let (Some(a_text), Some(b_text)) = (a.as_str(), b.as_str()) {
        return concatenated(&[a.clone(), b.clone()], &[a_text, b_text]);
    }
    if let (Some(a), Some(b)) = (integer(a), integer(b)) {
        let sum = a.checked_add(b).ok_or_else(|| fault("a number is too large"))?;
        return Ok(i64::try_from(sum).map_or_else(|_| Value::from(sum), Value::from));
    }
    if let (Some(a), Some(b)) = (float(a), float(b)) {
        return Ok(Value::from(a + b));
    }
    let is_list = |v: &Value| matches!(v.kind(), ValueKind::Seq | ValueKind::Iterable);
    if !is_list(a) || !is_list(b) || a.is_tuple() != b.is_tuple() {
        let undefined = a.is_undefined() || b.is_undefined();
        let kind = if undefined { ErrorKind::UndefinedError } else { ErrorKind::InvalidOperation };
        return Err(Error::new(kind, format!("`+` of {} and {}", a.kind(), b.kind())));
    }
    let mut items = Vec::new();
    for item in a.try_iter()?.chain(b.try_iter()?) {
        if items.len() % 2 == 0 {
            state.consume_fuel(1)?;
        }
        items.push(item);
    }
    bound::held(state, if a.is_tuple() { Value::from(Tuple::from(items)) } else { Value::from(items) })
}

/// `a % b`.
pub(super) fn modulo(state: &State<'_, '_>, a: &Value, b: &Value, show: Show) -> Result<Value, Error> {
    if let Some(text) = a.as_str() {
        let args = arguments(b)?;
        return bounded_format(state, Style::Percent, text, &args, show).map(Value::from);
    }
    match (integer(a), integer(b)) {
        (Some(_), Some(0)) => Err(fault("a remainder by zero")),
        (Some(a), Some(b)) => {
            let remainder = a.checked_rem(b).unwrap_or(0);
            let is_other_side = remainder != 0 && (remainder < 0) != (b < 0);
            Ok(Value::from(if is_other_side { remainder + b } else { remainder }))
        }
        _ => match (float(a), float(b)) {
            (Some(_), Some(0.0)) => Err(fault("a remainder by zero")),
            (Some(a), Some(b)) => {
                let remainder = a % b;
                let is_other_side = remainder != 0.0 && (remainder < 0.0) != (b < 0.0);
                Ok(Value::from(if is_other_side { remainder + b } else { remainder }))
            }
            _ => Err(fault("`%` takes two numbers, or a format and its values")),
        },
    }
}

/// The arguments of a format: the elements of a tuple, one per field, or a map with named fields.
fn arguments(value: &Value) -> Result<Vec<Value>, Error> {
    if value.is_tuple() {
        return Ok(value.try_iter()?.collect());
    }
    if value.kind() != ValueKind::Map {
        return Ok(vec![value.clone()]);
    }
    let pairs = value.as_object().and_then(|o| o.try_iter_pairs()).into_iter().flatten();
    let named: Kwargs = pairs.map(|(key, item)| (key.to_string(), item)).collect();
    Ok(vec![named.into()])
}

fn integer(value: &Value) -> Option<i128> {
    let is_whole = value.is_integer() || value.kind() == ValueKind::Bool;
    if is_whole { i128::try_from(value.clone()).ok() } else { None }
}

fn float(value: &Value) -> Option<f64> {
    let is_number = value.is_number() || value.kind() == ValueKind::Bool;
    if is_number { f64::try_from(value.clone()).ok() } else { None }
}

fn fault(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}
