//! The operator `%` as in Python: remainders with the sign of the divisor, and text formats. Called through `render`.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

use super::{Show, Style, bounded_format};

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

/// What stands to the right of a format: a tuple has one value for each field, a map gives named fields.
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
