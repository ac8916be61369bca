//! Where results go: stdout, with a closed pipe told apart; names of files beside others; progress on a terminal.
//!
//! All that the program prints passes here, and through `escape` if it is for people.

use crate::escape;
use aio::engine::EngineError;
use indicatif::{ProgressBar, ProgressStyle};
use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

/// Stdout could not be written to.
#[derive(Debug)]
pub(crate) struct StdoutError(std::io::Error);

impl Display for StdoutError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot write to standard output: {}", self.0)
    }
}

impl std::error::Error for StdoutError {}

/// Whether an error is a reader of stdout that went away.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let stdout = error.chain().find_map(|e| e.downcast_ref::<StdoutError>());
    stdout.is_some_and(|e| e.0.kind() == std::io::ErrorKind::BrokenPipe)
}

/// An error with its causes, outermost first, and the flag that would help. A cause that the text already ends with is
/// left out.
pub(crate) fn describe(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    match error.chain().find_map(hint) {
        Some(hint) => format!("{text}; {hint}"),
        None => text,
    }
}

/// What to do about an error of the libraries, which know no flags.
fn hint(cause: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    match cause.downcast_ref::<EngineError>()? {
        EngineError::Memory { .. } => Some("a smaller context needs less (--ctx of run, compile and perplexity)"),
        EngineError::ContextOverflow { .. } => Some("use a larger --ctx or a shorter prompt"),
        _ => None,
    }
}

/// Writes text for people to stdout at once. Strings of files in it are not obeyed by a terminal.
pub(crate) fn print_now(text: &str) -> Result<(), StdoutError> {
    write(&escape::text(text))
}

/// A line of JSON for [`print_now`], which changes nothing in it.
pub(crate) fn json_line(json: impl Display) -> String {
    escape::json(&format!("{json}\n")).into_owned()
}

/// Writes text to stdout at once that a program may want as it is: what a model generates, a path. Into a pipe or a file
/// it goes as it is, a terminal obeys nothing in it but `\n` and `\t`.
pub(crate) fn print_as_it_is(text: &str) -> Result<(), StdoutError> {
    let terminal = std::io::stdout().is_terminal();
    write(&if terminal { escape::text(text) } else { Cow::Borrowed(text) })
}

fn write(text: &str) -> Result<(), StdoutError> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(StdoutError)
}

/// Writes a message to stderr, which may be closed: nothing depends on it. Long lines are cut.
pub(crate) fn note_same_line(text: &str) {
    let _ = std::io::stderr().write_all(escape::message(text).as_bytes());
}

/// Writes results to stderr, whole.
pub(crate) fn results_to_stderr(text: &str) {
    let _ = std::io::stderr().write_all(escape::text(text).as_bytes());
}

/// A progress bar in bytes; shown only where stderr is a terminal.
pub(crate) fn bar(bytes: u64, message: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {eta}");
    ProgressBar::new(bytes).with_style(style.expect("the template is well formed")).with_message(message)
}

/// A path's neighbour: its name between `before` and `after`.
pub(crate) fn beside(path: &Path, before: &str, after: &str) -> PathBuf {
    let mut name = OsString::from(before);
    name.push(path.file_name().unwrap_or_default());
    name.push(after);
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_engine_ends_with_the_flag_that_helps() {
        let error = anyhow::Error::from(EngineError::ContextOverflow { prompt: 9, context: 8 }).context("cannot run");
        let shown = describe(&error);
        assert!(shown.starts_with("cannot run: the prompt has 9 tokens"), "{shown}");
        assert!(shown.ends_with("; use a larger --ctx or a shorter prompt"), "{shown}");
    }
}
