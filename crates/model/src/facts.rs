//! A model file's facts for graph templates, and a record of what a template asked for.
//!
//! Templates are open: `meta` and `has` reach every key and tensor, so an architecture with a new key is a text file.
//! The record lets [`crate::keys`] reject a key that nothing read. [`crate::Model::graph_text`] creates the facts for
//! one rendering; [`crate::template`] passes the functions to the template.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aio_ir::DType;
use minijinja::{Environment, Error, ErrorKind, State, Value};

use crate::gguf::{Gguf, GgufError, MetaValue};
use crate::hyper::{HyperError, HyperParams};
use crate::render::measure;

/// Array items shown in a message.
const SHOWN_ITEMS: usize = 8;

/// The facts of one model. Clones share the record.
#[derive(Clone, Debug)]
pub struct Facts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    architecture: String,
    vocab_size: u32,
    /// All metadata except the tokenizer's lists, which can be large and do not affect the graph.
    meta: HashMap<String, MetaValue>,
    /// Keys of the lists missing from `meta`. Asking for one is an error, never the default.
    left_out: BTreeSet<String>,
    dtypes: HashMap<String, DType>,
    /// Positions in a KV page.
    page_positions: u64,
    record: Mutex<Record>,
}

/// What a rendering asked for.
#[derive(Debug, Default)]
struct Record {
    keys: BTreeSet<String>,
    /// The first error of a function, with its type; the template engine keeps only its text.
    fault: Option<HyperError>,
}

impl Facts {
    /// The facts of a file, for a device with KV pages of the usual size.
    ///
    /// # Errors
    /// See [`Facts::paged`].
    pub fn new(gguf: &Gguf, hyper: &HyperParams) -> Result<Facts, GgufError> {
        Facts::paged(gguf, hyper, aio_ir::PAGE_POSITIONS)
    }

    /// The facts of a file, for a device with KV pages of so many positions.
    ///
    /// # Errors
    /// [`GgufError::UnsupportedType`] names the first tensor with a type that aio does not read.
    pub fn paged(gguf: &Gguf, hyper: &HyperParams, page_positions: u64) -> Result<Facts, GgufError> {
        let dtypes =
            gguf.tensors().iter().map(|t| Ok((t.name.clone(), t.dtype()?))).collect::<Result<_, GgufError>>()?;
        let small = |key: &str, value: &crate::gguf::Value<'_>| {
            !(key.starts_with("tokenizer.") && matches!(value, crate::gguf::Value::Array(_)))
        };
        let (meta, left_out): (Vec<_>, Vec<_>) = gguf.metadata().partition(|(key, value)| small(key, value));
        Ok(Facts(Arc::new(Inner {
            architecture: hyper.architecture.clone(),
            vocab_size: hyper.vocab_size,
            meta: meta.into_iter().map(|(key, value)| (key.to_owned(), value.to_meta())).collect(),
            left_out: left_out.into_iter().map(|(key, _)| key.to_owned()).collect(),
            dtypes,
            page_positions,
            record: Mutex::default(),
        })))
    }

    /// The keys that the rendering asked for, as spelled in the file.
    pub fn asked(&self) -> BTreeSet<String> {
        self.record().keys.clone()
    }

    /// The error that ended the rendering, if one of these functions raised it.
    pub(crate) fn take_fault(&self) -> Option<HyperError> {
        self.record().fault.take()
    }

    /// The template's variables.
    pub(crate) fn context(&self) -> Value {
        minijinja::context! {
            architecture => self.0.architecture.as_str(),
            vocab_size => self.0.vocab_size,
            tensor_count => self.0.dtypes.len(),
            page_positions => self.0.page_positions,
        }
    }

    /// Adds the functions to a template's environment.
    pub(crate) fn add_functions(&self, env: &mut Environment<'_>) {
        let facts = self.clone();
        env.add_function("meta", move |state: &State<'_, '_>, key: &str, default: Option<Value>| {
            let value = facts.ask(|f| f.meta(key, default))?;
            // A list may be as long as the file, so each request for it takes fuel.
            measure(state, &value)?;
            Ok::<_, Error>(value)
        });
        let facts = self.clone();
        env.add_function("count", move |key: &str, default: Option<u32>| facts.ask(|f| f.count(key, default)));
        let facts = self.clone();
        env.add_function("number", move |key: &str, default: Option<f64>| facts.ask(|f| f.number(key, default)));
        let facts = self.clone();
        env.add_function("bad", move |key: &str, expected: &str| {
            facts.ask::<Value>(|f| Err(f.value_error(key, expected)))
        });
        let facts = self.clone();
        env.add_function("has", move |tensor: &str| facts.0.dtypes.contains_key(tensor));
        let facts = self.clone();
        env.add_function("dtype", move |tensor: &str| facts.ask(|f| f.dtype(tensor)));
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.0.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers a question and records its error.
    fn ask<T>(&self, question: impl FnOnce(&Facts) -> Result<T, HyperError>) -> Result<T, Error> {
        question(self).map_err(|fault| {
            let shown = Error::new(ErrorKind::InvalidOperation, fault.to_string());
            self.record().fault.get_or_insert(fault);
            shown
        })
    }

    /// The key as spelled in the file: prefixed with the architecture's name, except in groups that all architectures
    /// share.
    fn full_key(&self, key: &str) -> String {
        const SHARED: [&str; 3] = ["general.", "tokenizer.", "aio."];
        if SHARED.iter().any(|group| key.starts_with(group)) {
            return key.to_owned();
        }
        format!("{}.{key}", self.0.architecture)
    }

    /// The full key and its value. Marks the key as read.
    fn find(&self, key: &str) -> Result<(String, Option<&MetaValue>), HyperError> {
        let full = self.full_key(key);
        if self.0.left_out.contains(&full) {
            return Err(HyperError::LeftOut { key: full });
        }
        self.record().keys.insert(full.clone());
        let value = self.0.meta.get(&full);
        Ok((full, value))
    }

    fn meta(&self, key: &str, default: Option<Value>) -> Result<Value, HyperError> {
        let (full, value) = self.find(key)?;
        match (value, default) {
            (Some(found), Some(default)) if kind(&to_value(found)) != kind(&default) && !default.is_none() => {
                Err(self.value_error(key, kind(&default)))
            }
            (Some(found), _) => Ok(to_value(found)),
            (None, Some(default)) => Ok(default),
            (None, None) => Err(GgufError::MissingKey { name: full }.into()),
        }
    }

    /// A positive integer. A list with the same number for every layer counts as that number.
    fn count(&self, key: &str, default: Option<u32>) -> Result<u32, HyperError> {
        let (full, value) = self.find(key)?;
        let found = match value {
            None => return default.ok_or_else(|| GgufError::MissingKey { name: full }.into()),
            Some(MetaValue::Array(_, items)) => self.uniform(key, items)?,
            Some(value) => value,
        };
        let int =
            found.as_int().ok_or_else(|| GgufError::WrongType { name: full, expected: "u32", got: found.ty() })?;
        u32::try_from(int).ok().filter(|&n| n > 0).ok_or_else(|| self.value_error(key, "a positive 32-bit number"))
    }

    /// The common value of a list with one entry per layer.
    fn uniform<'v>(&self, key: &str, items: &'v [MetaValue]) -> Result<&'v MetaValue, HyperError> {
        let layers = self.0.meta.get(&format!("{}.block_count", self.0.architecture)).and_then(MetaValue::as_int);
        if let Some(layers) = layers.filter(|&n| n != items.len() as i128) {
            return Err(self.value_error(key, &format!("one number, or one for each of the {layers} layers")));
        }
        let first = items.first().filter(|first| items.iter().all(|item| item == *first));
        first.ok_or_else(|| self.value_error(key, "the same for every layer"))
    }

    /// A finite number, as the f64 with the same shortest decimal form.
    fn number(&self, key: &str, default: Option<f64>) -> Result<f64, HyperError> {
        let (full, value) = self.find(key)?;
        let Some(found) = value else {
            return default.ok_or_else(|| GgufError::MissingKey { name: full }.into());
        };
        let number = match found {
            MetaValue::F32(v) => shortest(*v),
            MetaValue::F64(v) => *v,
            other => match other.as_int() {
                Some(int) => int as f64,
                None => return Err(GgufError::WrongType { name: full, expected: "f32", got: other.ty() }.into()),
            },
        };
        if number.is_finite() { Ok(number) } else { Err(self.value_error(key, "a finite number")) }
    }

    fn dtype(&self, tensor: &str) -> Result<&'static str, HyperError> {
        let dtype = self.0.dtypes.get(tensor).map(|d| d.name());
        dtype.ok_or_else(|| GgufError::MissingTensor { name: tensor.to_owned() }.into())
    }

    fn value_error(&self, key: &str, expected: &str) -> HyperError {
        let full = self.full_key(key);
        if self.0.left_out.contains(&full) {
            return HyperError::LeftOut { key: full };
        }
        let got = self.0.meta.get(&full).map_or_else(|| "missing".to_owned(), shown);
        HyperError::Value { key: full, got, expected: expected.to_owned() }
    }
}

/// Converts an f32 to the f64 with the same shortest decimal form, so that a template prints `0.00001` instead of
/// `0.000009999999747378752`. Reading that text as f32 gives the same number.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

/// The type that a default and the file's value must share.
fn kind(value: &Value) -> &'static str {
    match value.kind() {
        minijinja::value::ValueKind::Number => "a number",
        minijinja::value::ValueKind::String => "a string",
        minijinja::value::ValueKind::Bool => "true or false",
        minijinja::value::ValueKind::Seq => "a list",
        _ => "another type",
    }
}

/// A value as shown in a message, in one line of limited length.
pub(crate) fn shown(value: &MetaValue) -> String {
    match value {
        MetaValue::Str(text) => format!("{:?}", text.chars().take(60).collect::<String>()),
        MetaValue::Bytes(_) => "a string that is not UTF-8".to_owned(),
        MetaValue::Array(_, items) => {
            let mut parts: Vec<String> = items.iter().take(SHOWN_ITEMS).map(shown).collect();
            parts.extend((items.len() > SHOWN_ITEMS).then(|| "...".to_owned()));
            format!("[{}]", parts.join(", "))
        }
        MetaValue::Bool(b) => b.to_string(),
        MetaValue::F32(v) => v.to_string(),
        MetaValue::F64(v) => v.to_string(),
        int => int.as_int().map_or_else(String::new, |i| i.to_string()),
    }
}

fn to_value(value: &MetaValue) -> Value {
    match value {
        MetaValue::Str(text) => Value::from(text.as_str()),
        MetaValue::Bytes(bytes) => Value::from(String::from_utf8_lossy(bytes).into_owned()),
        MetaValue::Array(_, items) => items.iter().map(to_value).collect(),
        MetaValue::Bool(b) => Value::from(*b),
        MetaValue::F32(v) => Value::from(shortest(*v)),
        MetaValue::F64(v) => Value::from(*v),
        MetaValue::U64(v) => Value::from(*v),
        int => Value::from(int.as_int().and_then(|i| i64::try_from(i).ok()).unwrap_or(0)),
    }
}
