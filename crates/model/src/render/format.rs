//! Text formats (`%`, `format`, `str.format`) whose results are known to be bounded before they are built.
//!
//! minijinja formats like Python and honours any width that a format asks for. Called by `render` and by the methods of
//! chat templates.

use minijinja::formatting::{FormatStyle, format};
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

use super::{MAX_BYTES, Text, measure};

/// How `~` prints a value.
pub(crate) type Show = fn(&State<'_, '_>, &Value, &mut Text) -> Result<(), Error>;

/// The syntax of format fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// `%s`.
    Percent,
    /// `{}`.
    Braces,
}

/// Formats a text with bounded output.
pub(crate) fn bounded_format(
    state: &State<'_, '_>,
    style: Style,
    text: &str,
    args: &[Value],
    show: Show,
) -> Result<String, Error> {
    let mut shown = Vec::with_capacity(args.len());
    let (mut largest, mut widest) = (64, 0);
    for arg in args {
        largest = largest.max(measure(state, arg)?.saturating_mul(8));
        widest = widest.max(usize::try_from(arg.clone()).unwrap_or(0));
        shown.push(for_format(state, text, arg, show)?);
    }
    let fields = text.bytes().filter(|b| matches!(b, b'%' | b'{')).count();
    let stars = text.bytes().filter(|b| *b == b'*').count();
    let needed = fields.saturating_mul(largest).saturating_add(stars.saturating_mul(widest));
    let needed = needed.saturating_add(widths(text)).saturating_add(text.len());
    if needed > MAX_BYTES {
        return Err(Error::new(ErrorKind::InvalidOperation, "a format gives more than 16 MiB"));
    }
    state.consume_fuel(needed as u64 / 64)?;
    let style = if style == Style::Percent { FormatStyle::Printf } else { FormatStyle::StrFormat };
    format(style, text, &shown)
}

/// Sum of the numbers in a format, each of which may be a width or a precision.
fn widths(text: &str) -> usize {
    let runs = text.split(|c: char| !c.is_ascii_digit()).filter(|run| !run.is_empty());
    runs.fold(0, |sum, run| sum.saturating_add(run.parse().unwrap_or(usize::MAX)))
}

/// A value as minijinja's formats take it: values other than numbers and texts are printed first, unless the format
/// accesses their elements.
fn for_format(state: &State<'_, '_>, text: &str, arg: &Value, show: Show) -> Result<Value, Error> {
    if arg.is_kwargs() {
        let pairs = arg.as_object().and_then(|o| o.try_iter_pairs()).into_iter().flatten();
        let named: Result<Vec<(String, Value)>, Error> =
            pairs.map(|(key, item)| Ok((key.to_string(), for_format(state, text, &item, show)?))).collect();
        return Ok(named?.into_iter().collect::<Kwargs>().into());
    }
    let looks_inside = arg.as_object().is_some() && text.contains(['.', '[']);
    if looks_inside || matches!(arg.kind(), ValueKind::Number | ValueKind::String) {
        return Ok(arg.clone());
    }
    let mut out = Text::default();
    show(state, arg, &mut out)?;
    Ok(Value::from(out.into_string()))
}
