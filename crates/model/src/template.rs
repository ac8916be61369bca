//! Graph templates: text with a model's hyper-parameters filled in.
//!
//! The template language is minijinja's. Here a template is code that we or the user wrote for
//! one architecture, so an undefined name is an error, where chat templates (`crate::chat`) are
//! lenient. Called by the engine and by `aio graph`.

use std::collections::BTreeMap;

use minijinja::{Environment, UndefinedBehavior, Value};

use crate::hyper::HyperParams;

/// Instructions a template may run; a model of 1,000 layers needs far fewer.
const FUEL: u64 = 50_000_000;

/// Why a template gave no text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The template is no valid template, names something undefined, or ran too long.
    #[error("{name}, line {line}: {message}")]
    Render {
        /// Which template.
        name: String,
        /// The line at fault, from 1; 0 if unknown.
        line: usize,
        /// What is wrong.
        message: String,
    },
}

impl TemplateError {
    pub(crate) fn new(name: &str, error: &minijinja::Error) -> TemplateError {
        let what = error.kind().to_string();
        let message = error.detail().map_or(what.clone(), |detail| format!("{what}: {detail}"));
        TemplateError::Render { name: name.to_owned(), line: error.line().unwrap_or(0), message }
    }
}

/// Fills `text` with the fields of `params` (each a variable of its own) and gives the graph text.
///
/// # Errors
/// [`TemplateError`] with the line.
pub fn render(text: &str, params: &HyperParams) -> Result<String, TemplateError> {
    let name = format!("{}.graph.jinja", params.architecture);
    let context = serde_json::to_value(params).map_err(|e| TemplateError::Render {
        name: name.clone(),
        line: 0,
        message: e.to_string(),
    })?;
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_fuel(Some(FUEL));
    block_whitespace(&mut env);
    env.render_named_str(&name, text, from_json(&context)).map_err(|e| TemplateError::new(&name, &e))
}

/// Lets block tags stand on lines of their own without leaving blank lines.
pub(crate) fn block_whitespace(env: &mut Environment<'_>) {
    let syntax = env.syntax().to_builder().trim_blocks(true).lstrip_blocks(true).build();
    env.set_syntax(syntax.expect("only whitespace handling was changed"));
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
        serde_json::Value::Object(map) => {
            let pairs: BTreeMap<String, Value> = map.iter().map(|(k, v)| (k.clone(), from_json(v))).collect();
            Value::from(pairs)
        }
    }
}
