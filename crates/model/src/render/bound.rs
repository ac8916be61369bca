//! Bounds on the values that a template builds and keeps.
//!
//! minijinja charges fuel for a value's own size, not for what it refers to. A list of two references to a list of two
//! references and so on has few elements but unbounded text, and deeply nested lists recurse once per level when
//! printed, compared and dropped. So values are measured as trees before a template may keep them, and lazy ones are
//! stored as lists. Called through the functions that `render::source` inserts into templates.

use minijinja::value::{ObjectRepr, Tuple, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

/// Maximum bytes of text in a value, and of output.
pub(crate) const MAX_BYTES: usize = 16 << 20;
/// Maximum elements in a value, counted recursively.
const MAX_ELEMENTS: usize = 1 << 20;
/// Maximum nesting of lists and maps.
const MAX_NESTING: usize = 100;
/// Elements visited per unit of fuel.
const ELEMENTS_PER_FUEL: usize = 16;

/// Checks a value that the template keeps.
pub(super) fn held(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    let mut meter = Meter { state, elements: 0, bytes: 0, finds_namespace: false };
    let settled = meter.settle(&value, 0)?;
    Ok(settled.unwrap_or(value))
}

/// Checks a value for an attribute of a namespace. Namespaces in namespaces are rejected, because one could contain
/// itself.
pub(super) fn attribute(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    let mut meter = Meter { state, elements: 0, bytes: 0, finds_namespace: false };
    let settled = meter.settle(&value, 0)?;
    if meter.finds_namespace {
        return Err(fault("a namespace cannot be stored in a namespace"));
    }
    Ok(settled.unwrap_or(value))
}

/// Bytes of text in a value and its elements, plus one per element.
pub(crate) fn measure(state: &State<'_, '_>, value: &Value) -> Result<usize, Error> {
    let mut meter = Meter { state, elements: 0, bytes: 0, finds_namespace: false };
    meter.settle(value, 0)?;
    Ok(meter.bytes + meter.elements)
}

fn fault(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

struct Meter<'s, 't, 'e> {
    state: &'s State<'t, 'e>,
    elements: usize,
    bytes: usize,
    finds_namespace: bool,
}

impl Meter<'_, '_, '_> {
    /// Counts a value. `Some` is a replacement to keep instead, with lists for lazy iterables.
    fn settle(&mut self, value: &Value, nesting: usize) -> Result<Option<Value>, Error> {
        self.count(value)?;
        let Some(object) = value.as_object() else { return Ok(None) };
        if nesting >= MAX_NESTING {
            return Err(fault("a value nests more than 100 levels deep"));
        }
        match object.repr() {
            ObjectRepr::Seq => self.sequence(value, nesting, false),
            ObjectRepr::Iterable => self.sequence(value, nesting, true),
            ObjectRepr::Map => self.map(value, nesting),
            _ => Ok(None),
        }
    }

    fn count(&mut self, value: &Value) -> Result<(), Error> {
        self.elements += 1;
        if self.elements.is_multiple_of(ELEMENTS_PER_FUEL) {
            self.state.consume_fuel(1)?;
        }
        // The bytes of a text are its text.
        self.bytes = self.bytes.saturating_add(value.as_bytes().map_or(0, <[u8]>::len));
        if self.elements > MAX_ELEMENTS {
            return Err(fault("a value has more than a million elements"));
        }
        if self.bytes > MAX_BYTES {
            return Err(fault("a value is larger than 16 MiB"));
        }
        Ok(())
    }

    fn sequence(&mut self, value: &Value, nesting: usize, is_lazy: bool) -> Result<Option<Value>, Error> {
        let mut items = Vec::new();
        let mut changed = is_lazy;
        for item in value.try_iter()?.checked() {
            let item = item?;
            match self.settle(&item, nesting + 1)? {
                Some(settled) => {
                    changed = true;
                    items.push(settled);
                }
                None => items.push(item),
            }
        }
        if !changed {
            return Ok(None);
        }
        // An item costs half a unit, as in minijinja.
        self.state.consume_fuel(items.len() as u64 / 2)?;
        let is_tuple = value.is_tuple();
        Ok(Some(if is_tuple { Value::from(Tuple::from(items)) } else { Value::from(items) }))
    }

    fn map(&mut self, value: &Value, nesting: usize) -> Result<Option<Value>, Error> {
        let Some(object) = value.as_object() else { return Ok(None) };
        let is_namespace = object.type_name().ends_with("::Namespace");
        self.finds_namespace |= is_namespace;
        let Some(pairs) = object.try_iter_pairs() else { return Ok(None) };
        let (mut kept, mut changed) = (Vec::new(), false);
        for (key, item) in pairs {
            self.count(&key)?;
            let settled = self.settle(&item, nesting + 1)?;
            changed |= settled.is_some();
            kept.push((key, settled.unwrap_or(item)));
        }
        if !changed || is_namespace || value.kind() != ValueKind::Map {
            return Ok(None);
        }
        self.state.consume_fuel(kept.len() as u64)?;
        Ok(Some(Value::from_pairs(kept)))
    }
}

/// A text of at most [`MAX_BYTES`].
#[derive(Debug, Default)]
pub(crate) struct Text {
    text: String,
}

impl Text {
    /// Appends a text, or fails if the result is too long.
    pub(crate) fn push(&mut self, more: &str) -> Result<(), Error> {
        if self.text.len() + more.len() > MAX_BYTES {
            return Err(fault("a value is larger than 16 MiB"));
        }
        self.text.push_str(more);
        Ok(())
    }

    /// The accumulated text.
    pub(crate) fn into_string(self) -> String {
        self.text
    }
}
