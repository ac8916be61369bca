//! The filter `tojson` as in transformers: `json.dumps` without HTML escapes, unsorted, with Python's separators.

use minijinja::value::{Kwargs, ObjectRepr, Rest, ValueKind, ValueOrKwargs, from_args};
use minijinja::{Error, ErrorKind, State, Value};

use super::python;
use crate::render::Text;

const MAX_NESTING: usize = 200;

/// The arguments of `json.dumps` that the filter takes.
struct Options {
    ensure_ascii: bool,
    sort_keys: bool,
    /// Indentation of a level; `None` for a single line.
    indent: Option<String>,
    between: String,
    after_key: String,
}

type Arguments = (Option<Value>, Option<Value>, Option<Value>, Option<Value>, Kwargs);

/// `value|tojson(ensure_ascii=false, indent=none, separators=none, sort_keys=false)`.
pub(super) fn to_json(state: &State<'_, '_>, value: &Value, args: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let args = args.into_values();
    let (ascii, indent, separators, sort_keys, named): Arguments = from_args(&args)?;
    let given = |first: Option<Value>, name: &str| -> Result<Option<Value>, Error> {
        let value = match first {
            Some(value) => Some(value),
            None => named.get::<Option<Value>>(name)?,
        };
        Ok(value.filter(|v| !v.is_none() && !v.is_undefined()))
    };
    let ensure_ascii = given(ascii, "ensure_ascii")?.is_some_and(|v| v.is_true());
    let indent = given(indent, "indent")?.map(indentation).transpose()?;
    let (between, after_key) = match given(separators, "separators")? {
        Some(pair) => (text(&pair.get_item_by_index(0)?)?, text(&pair.get_item_by_index(1)?)?),
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
    };
    let sort_keys = given(sort_keys, "sort_keys")?.is_some_and(|v| v.is_true());
    named.assert_all_used()?;
    let mut out = Text::default();
    let mut writer =
        Writer { state, options: Options { ensure_ascii, sort_keys, indent, between, after_key }, out: &mut out };
    writer.value(value, 0)?;
    Ok(out.into_string())
}

fn text(value: &Value) -> Result<String, Error> {
    value.as_str().map(str::to_owned).ok_or_else(|| fault("separators are two texts"))
}

fn indentation(value: Value) -> Result<String, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.to_owned());
    }
    match i64::try_from(value)? {
        width if width > 1000 => Err(fault("an indent of more than 1000")),
        width => Ok(" ".repeat(usize::try_from(width).unwrap_or(0))),
    }
}

fn fault(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

struct Writer<'w, 't, 'e> {
    state: &'w State<'t, 'e>,
    options: Options,
    out: &'w mut Text,
}

impl Writer<'_, '_, '_> {
    fn value(&mut self, value: &Value, nesting: usize) -> Result<(), Error> {
        if nesting > MAX_NESTING {
            return Err(fault("a value nests too deeply for JSON"));
        }
        self.state.consume_fuel(1)?;
        match value.kind() {
            ValueKind::None => self.out.push("null"),
            ValueKind::Bool => self.out.push(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.out.push(&number(value)),
            ValueKind::String => self.string(value.as_str().unwrap_or("")),
            _ => match value.as_object().map(|o| o.repr()) {
                Some(ObjectRepr::Seq | ObjectRepr::Iterable) => self.list(value, nesting),
                Some(ObjectRepr::Map) => self.map(value, nesting),
                _ => Err(fault("the value cannot be written as JSON")),
            },
        }
    }

    fn list(&mut self, value: &Value, nesting: usize) -> Result<(), Error> {
        self.out.push("[")?;
        let mut written = 0;
        for item in value.try_iter()?.checked() {
            self.item_start(written, nesting)?;
            self.value(&item?, nesting + 1)?;
            written += 1;
        }
        self.close("]", written, nesting)
    }

    fn map(&mut self, value: &Value, nesting: usize) -> Result<(), Error> {
        self.out.push("{")?;
        let pairs = value.as_object().and_then(|o| o.try_iter_pairs()).into_iter().flatten();
        let mut pairs: Vec<(String, Value)> = pairs.map(|(k, v)| Ok((key(&k)?, v))).collect::<Result<_, Error>>()?;
        if self.options.sort_keys {
            pairs.sort_by(|a, b| a.0.cmp(&b.0));
        }
        let count = pairs.len();
        for (i, (key, item)) in pairs.into_iter().enumerate() {
            self.item_start(i, nesting)?;
            self.string(&key)?;
            self.out.push(&self.options.after_key)?;
            self.value(&item, nesting + 1)?;
        }
        self.close("}", count, nesting)
    }

    fn item_start(&mut self, index: usize, nesting: usize) -> Result<(), Error> {
        if index > 0 {
            self.out.push(&self.options.between)?;
        }
        self.line(nesting + 1)
    }

    fn close(&mut self, bracket: &str, count: usize, nesting: usize) -> Result<(), Error> {
        if count > 0 {
            self.line(nesting)?;
        }
        self.out.push(bracket)
    }

    /// Starts a new line, if output is indented.
    fn line(&mut self, nesting: usize) -> Result<(), Error> {
        let Some(indent) = &self.options.indent else { return Ok(()) };
        self.out.push("\n")?;
        for _ in 0..nesting {
            self.out.push(indent)?;
        }
        Ok(())
    }

    fn string(&mut self, text: &str) -> Result<(), Error> {
        let mut piece = String::with_capacity(text.len() + 2);
        piece.push('"');
        for c in text.chars() {
            match c {
                '"' => piece += "\\\"",
                '\\' => piece += "\\\\",
                '\n' => piece += "\\n",
                '\r' => piece += "\\r",
                '\t' => piece += "\\t",
                '\u{8}' => piece += "\\b",
                '\u{c}' => piece += "\\f",
                c if u32::from(c) < 0x20 => piece += &format!("\\u{:04x}", u32::from(c)),
                c if self.options.ensure_ascii && u32::from(c) > 0x7e => {
                    let mut units = [0; 2];
                    for unit in c.encode_utf16(&mut units) {
                        piece += &format!("\\u{unit:04x}");
                    }
                }
                c => piece.push(c),
            }
        }
        piece.push('"');
        self.out.push(&piece)
    }
}

/// A key as `json.dumps` writes it: numbers, booleans and none become texts.
fn key(value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::String => Ok(value.as_str().unwrap_or("").to_owned()),
        ValueKind::None => Ok("null".to_owned()),
        ValueKind::Bool => Ok(if value.is_true() { "true" } else { "false" }.to_owned()),
        ValueKind::Number => Ok(number(value)),
        _ => Err(fault("a key of JSON is a text")),
    }
}

fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    match f64::try_from(value.clone()).unwrap_or(f64::NAN) {
        n if n.is_nan() => "NaN".to_owned(),
        n if n.is_infinite() => if n > 0.0 { "Infinity" } else { "-Infinity" }.to_owned(),
        n => python::float(n),
    }
}
