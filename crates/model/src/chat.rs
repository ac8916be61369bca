//! Chat templates: turn a list of messages into the prompt format a model was trained on.
//!
//! The template comes with the model (`tokenizer.chat_template`) and was written for Python's jinja2 as set up by
//! Hugging Face's transformers; it gives the same text here. It is untrusted input, so it goes through `crate::render`,
//! which bounds its resource use. Used by `aio run --chat` and by servers.
//!
//! Not supported by minijinja, and not needed by any template seen so far: a macro default that names another argument,
//! `varargs` and `kwargs`, `%r` and `{!r}` in formats, generators (`map` gives a list), comparing texts with numbers
//! (an error in Python), a method as a value.

mod checks;
mod clock;
mod filters;
mod formats;
mod json;
mod methods;
mod python;
mod split;

use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value};
use serde::{Deserialize, Serialize};

use crate::gguf::{Gguf, GgufError};
use crate::render::Guarded;
use crate::template::{TemplateError, from_json};

pub use clock::Clock;
pub use formats::{FORMATS, format};

/// Fuel of a rendering: instructions, or 64 bytes of data each. A long chat takes some thousands.
const FUEL: u64 = 4_000_000;
const NAME: &str = "tokenizer.chat_template";

/// One message of a chat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The speaker: `system`, `user`, `assistant`, or another role that the template knows.
    pub role: String,
    /// The text.
    pub content: String,
}

impl Message {
    /// A message.
    pub fn new(role: &str, content: &str) -> Message {
        Message { role: role.to_owned(), content: content.to_owned() }
    }
}

/// A model's chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    parsed: Guarded,
    source: String,
}

impl ChatTemplate {
    /// The chat template of a model; `None` if it has none.
    ///
    /// # Errors
    /// The key has another type ([`ChatError::Gguf`]) or the template does not parse.
    pub fn from_gguf(gguf: &Gguf, clock: Clock) -> Result<Option<ChatTemplate>, ChatError> {
        gguf.get_str(NAME)?.map(|text| ChatTemplate::new(text, clock)).transpose()
    }

    /// Parses a template.
    ///
    /// # Errors
    /// [`ChatError::Template`] with the line.
    pub fn new(text: &str, clock: Clock) -> Result<ChatTemplate, ChatError> {
        let parsed = Guarded::new(NAME, [(NAME, text)], FUEL, python::show, |env| imitate_transformers(env, clock))?;
        Ok(ChatTemplate { parsed, source: text.to_owned() })
    }

    /// The template's text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The prompt for `messages`. With `add_generation_prompt` it ends where the assistant's answer begins. `bos` and
    /// `eos` are the texts of those tokens, which some templates write.
    ///
    /// # Errors
    /// [`ChatError::Template`] if the template rejected the messages, failed, or exceeded a bound.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        bos: &str,
        eos: &str,
    ) -> Result<String, ChatError> {
        let variables = serde_json::json!({
            "messages": messages,
            "add_generation_prompt": add_generation_prompt,
            "bos_token": bos,
            "eos_token": eos,
        });
        self.render_variables(&variables)
    }

    /// The prompt for arbitrary variables, including `messages`: `tools`, `documents`, or switches that the template
    /// knows (`enable_thinking`). `tools` and `documents` default to none. Maps keep their order.
    ///
    /// # Errors
    /// See [`ChatTemplate::render`].
    pub fn render_variables(&self, variables: &serde_json::Value) -> Result<String, ChatError> {
        let given = variables.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), from_json(value)));
        let absent = ["tools", "documents"].map(|name| (name, Value::from(())));
        Ok(self.parsed.render(Value::from_pairs(absent.into_iter().chain(given)))?)
    }
}

/// Sets up the environment that transformers' `_compile_jinja_template` gives a template.
fn imitate_transformers(env: &mut Environment<'static>, clock: Clock) {
    env.set_undefined_behavior(UndefinedBehavior::Lenient);
    env.set_unknown_method_callback(methods::call);
    filters::add(env);
    checks::add(env);
    env.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
    });
    env.add_function("strftime_now", move |format: &str| clock.strftime(format));
}

/// Why a chat prompt cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChatError {
    /// The template's key does not hold a text.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The template does not parse, failed, exceeded a bound, or raised an exception.
    #[error(transparent)]
    Template(#[from] TemplateError),
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]
mod tests {
    use super::*;

    fn render(text: &str, messages: &[Message]) -> Result<String, ChatError> {
        ChatTemplate::new(text, Clock { unix_s: 1_709_209_845 })?.render(messages, true, "<s>", "</s>")
    }

    #[test]
    fn knows_python_methods_and_the_clock() {
        let hi = [Message::new("user", "  hi ")];
        assert_eq!(render("{{ bos_token + messages[0]['content'].strip() }}", &hi).unwrap(), "<s>hi");
        assert_eq!(
            render("{{ strftime_now('%d %b %Y, %A %H:%M:%S') }}", &hi).unwrap(),
            "29 Feb 2024, Thursday 12:30:45"
        );
        assert_eq!(render("{% if tools %}x{% endif %}{{ missing }}<a&b>", &hi).unwrap(), "<a&b>");
        let tags =
            "{% for m in messages %}\n  {% if m.role == 'user' %}\nU:{{ m.content }}\n  {% endif %}\n{% endfor %}";
        assert_eq!(render(tags, &hi).unwrap(), "U:  hi \n");
    }

    #[test]
    fn faults_are_errors_with_a_line() {
        let line = |text| match render(text, &[]) {
            Err(ChatError::Template(TemplateError::Render { line, message, .. })) => (line, message),
            other => panic!("unexpected {other:?}"),
        };
        assert_eq!(line("a\n{% if %}").0, 2);
        let (at, message) = line("\n\n{{ raise_exception('roles must alternate') }}");
        assert!(at == 3 && message.contains("roles must alternate"), "{at} {message}");
        let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}";
        assert!(line(endless).1.contains("fuel"));
    }
}
