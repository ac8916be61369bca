//! Why a template gave no text.

use minijinja::ErrorKind;

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
    /// The template is not even parsed: it nests too deeply, is too large, or has no whole tags.
    #[error("{name}, line {line}: {message}")]
    Unbounded {
        /// Which template.
        name: String,
        /// The line at fault, from 1; 0 for the whole.
        line: usize,
        /// What is wrong.
        message: &'static str,
    },
    /// The text that the template gives is too long.
    #[error("{name}: the template gives more than {bytes} bytes of text")]
    TooLong {
        /// Which template.
        name: String,
        /// The most that it may give.
        bytes: usize,
    },
    /// The thread on which templates are rendered cannot be started, or ended early.
    #[error("{name}: the thread that renders the template: {message}")]
    Thread {
        /// Which template.
        name: String,
        /// What the system says.
        message: String,
    },
}

impl TemplateError {
    /// The innermost cause: an error inside an included template is reported with that template's name and line.
    pub(crate) fn new(name: &str, error: &minijinja::Error) -> TemplateError {
        let mut cause = error;
        while let Some(inner) = std::error::Error::source(cause).and_then(|e| e.downcast_ref::<minijinja::Error>()) {
            cause = inner;
        }
        let what = match cause.kind() {
            ErrorKind::OutOfFuel => {
                "the template ran out of fuel: it takes too long, or makes too much data".to_owned()
            }
            kind => kind.to_string(),
        };
        let message = cause.detail().map_or(what.clone(), |detail| format!("{what}: {detail}"));
        let name = cause.name().unwrap_or(name).to_owned();
        TemplateError::Render { name, line: cause.line().unwrap_or(0), message }
    }
}
