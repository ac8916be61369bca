//! Errors of rendering a template.

use minijinja::ErrorKind;

/// Why a template could not be rendered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The template is invalid, uses an undefined name, or ran too long.
    #[error("{name}, line {line}: {message}")]
    Render {
        /// Name of the template.
        name: String,
        /// The line at fault, from 1; 0 if unknown.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// The template was rejected before parsing: it nests too deeply, is too large, or has incomplete tags.
    #[error("{name}, line {line}: {message}")]
    Unbounded {
        /// Name of the template.
        name: String,
        /// The line at fault, from 1; 0 for the whole template.
        line: usize,
        /// What is wrong.
        message: &'static str,
    },
    /// The output is too long.
    #[error("{name}: the template gives more than {bytes} bytes of text")]
    TooLong {
        /// Name of the template.
        name: String,
        /// Maximum size of the output in bytes.
        bytes: usize,
    },
    /// The rendering thread could not be started, or ended early.
    #[error("{name}: the thread that renders the template: {message}")]
    Thread {
        /// Name of the template.
        name: String,
        /// The system's message.
        message: String,
    },
}

impl TemplateError {
    /// Takes the innermost cause: an error in an included template is reported with that template's name and line.
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
