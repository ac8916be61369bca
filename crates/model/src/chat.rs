//! Chat templates: a list of messages becomes the prompt that a model was trained on.
//!
//! The template comes with the model (`tokenizer.chat_template`) and was written for Python's
//! Jinja, so the environment here imitates Hugging Face's: lenient undefined names, Python
//! methods on strings and maps, `raise_exception`, `strftime_now`. A template is untrusted input,
//! hence the fuel limit. Used by `aio run --chat` and by servers.

use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value};
use serde::{Deserialize, Serialize};

use crate::gguf::{Gguf, GgufError};
use crate::template::{TemplateError, block_whitespace, from_json};

/// Instructions a chat template may run; long chats need some thousands.
const FUEL: u64 = 20_000_000;
const NAME: &str = "tokenizer.chat_template";

/// One message of a chat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks: `system`, `user` or `assistant`, or what else the template knows.
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

/// The clock that a template sees: seconds since 1970, UTC. The caller gives it, so that the same
/// call gives the same prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Seconds since 1970-01-01 00:00:00 UTC.
    pub unix_s: u64,
}

/// A model's chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    env: Environment<'static>,
    source: String,
}

impl ChatTemplate {
    /// The template of a model; `None` if it has none.
    ///
    /// # Errors
    /// The metadata are of another type ([`ChatError::Gguf`]) or the template does not parse.
    pub fn from_gguf(gguf: &Gguf, clock: Clock) -> Result<Option<ChatTemplate>, ChatError> {
        gguf.get_str(NAME)?.map(|text| ChatTemplate::new(text, clock)).transpose()
    }

    /// Parses a template.
    ///
    /// # Errors
    /// [`ChatError::Template`] with the line.
    pub fn new(text: &str, clock: Clock) -> Result<ChatTemplate, ChatError> {
        let mut env = Environment::new();
        block_whitespace(&mut env);
        env.set_undefined_behavior(UndefinedBehavior::Lenient);
        env.set_fuel(Some(FUEL));
        env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        env.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        env.add_function("strftime_now", move |format: String| strftime(&format, clock.unix_s));
        env.add_template_owned(NAME, text.to_owned()).map_err(|e| TemplateError::new(NAME, &e))?;
        Ok(ChatTemplate { env, source: text.to_owned() })
    }

    /// The template's text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The prompt for `messages`. With `add_generation_prompt` it ends where the assistant's
    /// answer begins. `bos` and `eos` are the texts of those tokens, which some templates write.
    ///
    /// # Errors
    /// [`ChatError::Template`]: the template refused the messages, failed, or ran too long.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        bos: &str,
        eos: &str,
    ) -> Result<String, ChatError> {
        let context = serde_json::json!({
            "messages": messages,
            "add_generation_prompt": add_generation_prompt,
            "bos_token": bos,
            "eos_token": eos,
        });
        let template = self.env.get_template(NAME).map_err(|e| TemplateError::new(NAME, &e))?;
        Ok(template.render(from_json(&context)).map_err(|e| TemplateError::new(NAME, &e))?)
    }
}

/// Why there is no chat prompt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChatError {
    /// The metadata hold something else than a text.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The template does not parse, failed, or raised an exception of its own.
    #[error(transparent)]
    Template(#[from] TemplateError),
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

impl Clock {
    /// Year, month (1..=12) and day (1..=31), UTC.
    pub fn date(&self) -> (u64, u64, u64) {
        civil(self.unix_s / 86_400)
    }
}

/// Python's `strftime` for the codes that chat templates use; others stay as they are.
fn strftime(format: &str, unix_s: u64) -> String {
    let (days, secs) = (unix_s / 86_400, unix_s % 86_400);
    let (year, month, day) = civil(days);
    let (month_name, day_name) = (MONTHS[month as usize - 1], DAYS[(days % 7) as usize]);
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('Y') => out += &year.to_string(),
            Some('m') => out += &format!("{month:02}"),
            Some('d') => out += &format!("{day:02}"),
            Some('H') => out += &format!("{:02}", secs / 3600),
            Some('M') => out += &format!("{:02}", secs / 60 % 60),
            Some('S') => out += &format!("{:02}", secs % 60),
            Some('B') => out += month_name,
            Some('b') => out += &month_name[..3],
            Some('A') => out += day_name,
            Some('a') => out += &day_name[..3],
            Some('y') => out += &format!("{:02}", year % 100),
            Some('%') => out.push('%'),
            Some(other) => out.extend(['%', other]),
            None => out.push('%'),
        }
    }
    out
}

/// Year, month (1..=12) and day (1..=31) of a day counted from 1970-01-01.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_IN_400_YEARS: u64 = 146_097;
    let (mut year, mut left) = (1970 + days / DAYS_IN_400_YEARS * 400, days % DAYS_IN_400_YEARS);
    let leap = |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
    while left >= 365 + u64::from(leap(year)) {
        left -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for len in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if left < len {
            break;
        }
        left -= len;
        month += 1;
    }
    (year, month, left + 1)
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

    #[test]
    fn civil_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(11_017), (2000, 3, 1));
        assert_eq!(civil(47_540), (2100, 2, 28));
        assert_eq!(civil(47_541), (2100, 3, 1));
    }
}
