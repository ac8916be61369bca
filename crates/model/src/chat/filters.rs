//! The filters of jinja2 that differ from minijinja's: values are printed as in Python, and invalid numbers become the
//! default. Called by the environment of chat templates.

use minijinja::value::{Kwargs, Rest, Tuple, ValueKind, ValueOrKwargs, from_args};
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::checks::is_namespace;
use super::json;
use super::methods::{capitalize, replace};
use super::python::{show, text};
use super::split::is_space;
use super::split::split_lines;
use crate::render::{MAX_BYTES, Text, escaped};

type Result<T, E = Error> = std::result::Result<T, E>;

/// Filters of minijinja that jinja2 does not have; templates that use them fail there.
const FOREIGN: [&str; 5] = ["chain", "zip", "split", "lines", "bool"];

/// Adds the filters and removes those that jinja2 does not have.
pub(super) fn add(env: &mut Environment<'static>) {
    for name in FOREIGN {
        env.remove_filter(name);
    }
    env.add_filter("tojson", json::to_json);
    env.add_filter("string", |state: &State<'_, '_>, value: &Value| text(state, value));
    env.add_filter("safe", |state: &State<'_, '_>, value: &Value| text(state, value).map(Value::from_safe_string));
    for name in ["e", "escape", "forceescape"] {
        env.add_filter(name, escape);
    }
    for name in ["length", "count"] {
        env.add_filter(name, length);
    }
    for name in ["default", "d"] {
        env.add_filter(name, default);
    }
    env.add_filter("upper", |state: &State<'_, '_>, value: &Value| Ok::<_, Error>(text(state, value)?.to_uppercase()));
    env.add_filter("lower", |state: &State<'_, '_>, value: &Value| Ok::<_, Error>(text(state, value)?.to_lowercase()));
    env.add_filter("capitalize", |state: &State<'_, '_>, value: &Value| {
        Ok::<_, Error>(capitalize(&text(state, value)?))
    });
    env.add_filter("title", |state: &State<'_, '_>, value: &Value| Ok::<_, Error>(title(&text(state, value)?)));
    env.add_filter("trim", trim);
    env.add_filter("replace", |state: &State<'_, '_>, value: &Value, old: &Value, new: &Value, count: Option<i64>| {
        replace(&text(state, value)?, &text(state, old)?, &text(state, new)?, count)
    });
    env.add_filter("join", join);
    // In Python a map's key is not an attribute.
    env.add_filter("attr", |value: &Value, name: &str| {
        let is_map = value.kind() == ValueKind::Map && !is_namespace(value);
        if is_map { Value::UNDEFINED } else { value.get_attr(name).unwrap_or_default() }
    });
    env.add_filter("int", int);
    env.add_filter("float", float);
    env.add_filter("round", round);
    env.add_filter("list", list);
    env.add_filter("items", items);
    env.add_filter("indent", indent);
    env.add_filter("center", center);
    env.add_filter("wordcount", |state: &State<'_, '_>, value: &Value| {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        Ok::<_, Error>(text(state, value)?.split(|c| !is_word(c)).filter(|w| !w.is_empty()).count())
    });
}

fn fault(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

fn escape(state: &State<'_, '_>, value: &Value) -> Result<Value> {
    if value.is_safe() {
        return Ok(value.clone());
    }
    let mut out = Text::default();
    out.push(&escaped(&text(state, value)?))?;
    Ok(Value::from_safe_string(out.into_string()))
}

fn length(value: &Value) -> Result<usize> {
    if value.is_undefined() {
        return Ok(0);
    }
    value.len().ok_or_else(|| fault("the value has no length"))
}

/// `value|default(other="", boolean=false)`.
fn default(value: Value, other: Option<Value>, truth: Option<bool>, named: Kwargs) -> Result<Value> {
    let other = match other {
        Some(other) => Some(other),
        None => named.get::<Option<Value>>("default_value")?,
    };
    let truth = truth.or(named.get::<Option<bool>>("boolean")?).unwrap_or(false);
    named.assert_all_used()?;
    let is_missing = value.is_undefined() || (truth && !value.is_true());
    Ok(if is_missing { other.unwrap_or_else(|| Value::from("")) } else { value })
}

/// Words start after white space, hyphens and opening brackets.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut starts = true;
    for c in text.chars() {
        if starts {
            out.extend(c.to_uppercase())
        } else {
            out.extend(c.to_lowercase())
        }
        starts = is_space(c) || matches!(c, '-' | '(' | '{' | '[' | '<');
    }
    out
}

fn trim(state: &State<'_, '_>, value: &Value, chars: Option<&str>) -> Result<String> {
    let goes = |c: char| chars.map_or_else(|| is_space(c), |set| set.contains(c));
    Ok(text(state, value)?.trim_matches(goes).to_owned())
}

/// `values|join(separator="", attribute=none)`.
fn join(
    state: &State<'_, '_>,
    values: &Value,
    separator: Option<Value>,
    attribute: Option<Value>,
    named: Kwargs,
) -> Result<String> {
    let separator = match separator {
        Some(value) => value,
        None => named.get::<Option<Value>>("d")?.unwrap_or_else(|| Value::from("")),
    };
    let attribute = attribute.or(named.get::<Option<Value>>("attribute")?).filter(|a| !a.is_none());
    named.assert_all_used()?;
    let separator = text(state, &separator)?;
    let mut out = Text::default();
    if values.is_undefined() {
        return Ok(String::new());
    }
    for (i, item) in values.try_iter()?.checked().enumerate() {
        let mut item = item?;
        if let Some(name) = &attribute {
            item = item.get_item(name)?;
        }
        out.push(if i > 0 { &separator } else { "" })?;
        show(state, &item, &mut out)?;
    }
    Ok(out.into_string())
}

/// `value|int(default=0, base=10)`.
fn int(value: &Value, other: Option<Value>, base: Option<u32>, named: Kwargs) -> Result<Value> {
    let other = other.or(named.get::<Option<Value>>("default")?).unwrap_or_else(|| Value::from(0));
    let base = base.or(named.get::<Option<u32>>("base")?).unwrap_or(10);
    named.assert_all_used()?;
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    let found = match value.as_str() {
        Some(text) => whole(text, base).or_else(|| number(text).and_then(truncated)),
        None if value.is_integer() => return Ok(value.clone()),
        None if value.kind() == ValueKind::Bool => Some(i128::from(value.is_true())),
        None => f64::try_from(value.clone()).ok().and_then(truncated),
    };
    Ok(found.map_or(other, integer))
}

fn integer(number: i128) -> Value {
    i64::try_from(number).map_or_else(|_| Value::from(number), Value::from)
}

fn truncated(number: f64) -> Option<i128> {
    (number.is_finite() && number.abs() < 1e38).then_some(number as i128)
}

/// A whole number, parsed like Python's `int`.
fn whole(text: &str, base: u32) -> Option<i128> {
    let text = text.trim_matches(is_space).replace('_', "");
    let (sign, digits) = text.strip_prefix('-').map_or((1, text.strip_prefix('+').unwrap_or(&text)), |rest| (-1, rest));
    let lower = digits.to_ascii_lowercase();
    let digits = match base {
        2 => lower.strip_prefix("0b").unwrap_or(&lower),
        8 => lower.strip_prefix("0o").unwrap_or(&lower),
        16 => lower.strip_prefix("0x").unwrap_or(&lower),
        _ => &lower,
    };
    if !(2..=36).contains(&base) || digits.starts_with(['+', '-']) {
        return None;
    }
    i128::from_str_radix(digits, base).ok().map(|n| sign * n)
}

/// A number, parsed like Python's `float`.
fn number(text: &str) -> Option<f64> {
    text.trim_matches(is_space).replace('_', "").parse().ok()
}

/// `value|float(default=0.0)`.
fn float(value: &Value, other: Option<Value>, named: Kwargs) -> Result<Value> {
    let other = other.or(named.get::<Option<Value>>("default")?).unwrap_or_else(|| Value::from(0.0));
    named.assert_all_used()?;
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    let found = match value.as_str() {
        Some(text) => number(text),
        None if value.kind() == ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
        None => f64::try_from(value.clone()).ok(),
    };
    Ok(found.map_or(other, Value::from))
}

/// `value|round(precision=0, method="common")`, halves to even.
fn round(value: &Value, precision: Option<i32>, method: Option<&str>, named: Kwargs) -> Result<Value> {
    let precision = precision.or(named.get::<Option<i32>>("precision")?).unwrap_or(0);
    let method = match method {
        Some(method) => method.to_owned(),
        None => named.get::<Option<String>>("method")?.unwrap_or_else(|| "common".to_owned()),
    };
    named.assert_all_used()?;
    if value.is_integer() && method == "common" && precision >= 0 {
        return Ok(value.clone());
    }
    let number = f64::try_from(value.clone())?;
    let scale = 10f64.powi(precision.clamp(-300, 300));
    match method.as_str() {
        "ceil" => Ok(Value::from((number * scale).ceil() / scale)),
        "floor" => Ok(Value::from((number * scale).floor() / scale)),
        "common" if (0..=17).contains(&precision) => {
            // Decimal digits of the exact value, as Python rounds.
            let digits = usize::try_from(precision).unwrap_or(0);
            Ok(Value::from(format!("{number:.digits$}").parse().unwrap_or(number)))
        }
        "common" => {
            let rounded = (number * scale).round_ties_even() / scale;
            Ok(truncated(rounded).filter(|_| value.is_integer()).map_or(Value::from(rounded), integer))
        }
        _ => Err(fault("`round` takes the methods common, ceil and floor")),
    }
}

fn list(state: &State<'_, '_>, value: &Value) -> Result<Value> {
    if value.is_undefined() {
        return Ok(Value::from(Vec::<Value>::new()));
    }
    let mut items = Vec::new();
    for item in value.try_iter()?.checked() {
        if items.len() % 2 == 0 {
            state.consume_fuel(1)?;
        }
        items.push(item?);
    }
    Ok(Value::from(items))
}

/// The pairs of a map; empty for an undefined value.
fn items(value: &Value) -> Result<Value> {
    if value.is_undefined() {
        return Ok(Value::from(Vec::<Value>::new()));
    }
    let pairs = value.as_object().filter(|_| value.kind() == ValueKind::Map).and_then(|o| o.try_iter_pairs());
    let pairs = pairs.ok_or_else(|| fault("`items` takes a map"))?;
    Ok(pairs.map(|(key, item)| Value::from(Tuple::from([key, item]))).collect())
}

/// `text|indent(width=4, first=false, blank=false)`.
fn indent(state: &State<'_, '_>, value: &Value, args: Rest<ValueOrKwargs>) -> Result<String> {
    let args = args.into_values();
    let (width, first, blank, named): (Option<Value>, Option<bool>, Option<bool>, Kwargs) = from_args(&args)?;
    let width = match width {
        Some(width) => width,
        None => named.get::<Option<Value>>("width")?.unwrap_or_else(|| Value::from(4)),
    };
    let first = first.or(named.get::<Option<bool>>("first")?).unwrap_or(false);
    let blank = blank.or(named.get::<Option<bool>>("blank")?).unwrap_or(false);
    named.assert_all_used()?;
    let indentation = match width.as_str() {
        Some(text) => text.to_owned(),
        None => match i64::try_from(width)? {
            width if width > MAX_BYTES as i64 => return Err(fault("a value is larger than 16 MiB")),
            width => " ".repeat(usize::try_from(width).unwrap_or(0)),
        },
    };
    let text = text(state, value)? + "\n";
    let mut out = Text::default();
    for (i, line) in split_lines(&text, false).into_iter().enumerate() {
        out.push(if i > 0 { "\n" } else { "" })?;
        let indents = if i == 0 { first } else { blank || !line.is_empty() };
        out.push(if indents { &indentation } else { "" })?;
        out.push(line)?;
    }
    Ok(out.into_string())
}

fn center(state: &State<'_, '_>, value: &Value, width: Option<usize>) -> Result<String> {
    let text = text(state, value)?;
    let width = width.unwrap_or(80);
    if width > MAX_BYTES {
        return Err(fault("a value is larger than 16 MiB"));
    }
    let missing = width.saturating_sub(text.chars().count());
    let left = missing / 2 + (missing & width & 1);
    Ok(format!("{}{text}{}", " ".repeat(left), " ".repeat(missing - left)))
}
