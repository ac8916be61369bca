//! Graph templates: text that a model's keys and tensors fill in.
//!
//! The template language is minijinja's, with functions that read the model file:
//!
//! | function | gives |
//! |---|---|
//! | `meta(key, default)` | the value of `<architecture>.<key>`, or of `key` as written; an error if the file has neither and there is no default |
//! | `count(key, default)` | the same as a positive integer; a list of equal numbers, one for each layer, is that number |
//! | `number(key, default)` | the same as a finite number |
//! | `bad(key, expected)` | an error that the key's value must be `expected` |
//! | `has(tensor)` | whether the file has the tensor |
//! | `dtype(tensor)` | its element type; an error if the file has no such tensor |
//!
//! Variables: `architecture`, `vocab_size`, `tensor_count`, `page_positions` (positions in a KV page). A key that was asked for counts as read. Any other key of
//! the architecture must be in [`crate::keys::TABLE`], and the graph must read every tensor.
//!
//! A template is written for one architecture, so an undefined name is an error, while chat templates (`crate::chat`)
//! are lenient. Called by the engine and by `aio graph`.

use minijinja::{ErrorKind, State, UndefinedBehavior, Value};

use crate::facts::Facts;
pub use crate::render::TemplateError;
use crate::render::{Guarded, Text, measure};

/// Fuel of a rendering: instructions, or 64 bytes of data each. A model of 1,000 layers needs far less.
const FUEL: u64 = 8_000_000;

/// Graph templates by file name, such as `llama.graph.jinja`. A template may include another by that name.
#[derive(Clone, Debug, Default)]
pub struct Templates {
    files: Vec<(String, String)>,
}

impl Templates {
    /// Templates from (file name, text) pairs.
    pub fn new<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Templates {
        Templates { files: files.into_iter().map(|(n, t)| (n.to_owned(), t.to_owned())).collect() }
    }

    /// Adds a template, replacing one with the same name.
    pub fn set(&mut self, name: &str, text: &str) {
        self.files.retain(|(n, _)| n != name);
        self.files.push((name.to_owned(), text.to_owned()));
    }

    /// All names and texts, in order: everything besides the model that a rendered graph depends on.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.files.iter().flat_map(|(name, text)| [name.as_str(), text.as_str()])
    }

    /// Name of an architecture's template, if there is one.
    pub fn of_architecture(&self, architecture: &str) -> Option<String> {
        let name = format!("{architecture}.graph.jinja");
        self.files.iter().any(|(n, _)| *n == name).then_some(name)
    }

    /// The architectures that have a template.
    pub fn architectures(&self) -> impl Iterator<Item = &str> {
        self.files.iter().filter_map(|(name, _)| name.strip_suffix(".graph.jinja"))
    }

    /// Renders a template for the model that `facts` describes. The result is the text form of the step graph.
    ///
    /// # Errors
    /// [`TemplateError`] with the line.
    pub fn render(&self, name: &str, facts: &Facts) -> Result<String, TemplateError> {
        let files = self.files.iter().map(|(n, t)| (n.as_str(), t.as_str()));
        let guarded = Guarded::new(name, files, FUEL, show, |env| {
            env.set_undefined_behavior(UndefinedBehavior::Strict);
            facts.add_functions(env);
        })?;
        guarded.render(facts.context())
    }
}

/// Prints a value like `{{ value }}`.
fn show(state: &State<'_, '_>, value: &Value, out: &mut Text) -> Result<(), minijinja::Error> {
    if value.is_undefined() {
        return Err(minijinja::Error::from(ErrorKind::UndefinedError));
    }
    match value.as_str() {
        Some(text) => out.push(text),
        None => {
            measure(state, value)?;
            out.push(&value.to_string())
        }
    }
}

/// JSON as a template value.
pub(crate) fn from_json(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(b) => Value::from(*b),
        serde_json::Value::Number(n) => match (n.as_u64(), n.as_i64()) {
            (Some(u), _) => Value::from(u),
            (_, Some(i)) => Value::from(i),
            _ => Value::from(n.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(s) => Value::from(s.as_str()),
        serde_json::Value::Array(items) => items.iter().map(from_json).collect(),
        serde_json::Value::Object(map) => Value::from_pairs(map.iter().map(|(k, v)| (k.as_str(), from_json(v)))),
    }
}
