//! Printing to stdout and stderr, with a closed pipe told apart from other errors; progress bars; names of sibling
//! files.
//!
//! All output of the program passes through here, and through `escape` if it is meant for people.

use crate::escape;
use aio::engine::EngineError;
use anyhow::{Result, bail};
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

/// Whether the error means that the reader of stdout closed the pipe.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let stdout = error.chain().find_map(|e| e.downcast_ref::<StdoutError>());
    stdout.is_some_and(|e| e.0.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Formats an error with its causes, outermost first, and the flag that would help. Omits causes already in the text.
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

/// A hint for an error from the libraries, which do not know about flags.
fn hint(cause: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    match cause.downcast_ref::<EngineError>()? {
        EngineError::Memory { .. } => Some("a smaller context needs less (--ctx of run, compile and perplexity)"),
        EngineError::ContextOverflow { .. } => Some("use a larger --ctx or a shorter prompt"),
        _ => None,
    }
}

/// Prints text for people to stdout immediately. Strings from files in it cannot control the terminal.
pub(crate) fn print_now(text: &str) -> Result<(), StdoutError> {
    write(&escape::text(text))
}

/// Formats a line of JSON that [`print_now`] leaves unchanged.
pub(crate) fn json_line(json: impl Display) -> String {
    escape::json(&format!("{json}\n")).into_owned()
}

/// Prints text to stdout immediately that a program may want verbatim, such as generated text or a path. It is
/// unchanged in a pipe or a file; on a terminal, only `\n` and `\t` take effect.
pub(crate) fn print_as_it_is(text: &str) -> Result<(), StdoutError> {
    let terminal = std::io::stdout().is_terminal();
    write(&if terminal { escape::text(text) } else { Cow::Borrowed(text) })
}

fn write(text: &str) -> Result<(), StdoutError> {
    print_bytes(text.as_bytes())
}

/// Writes bytes to stdout, for a program.
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<(), StdoutError> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(StdoutError)
}

/// Columns of the terminal; `None` if the output is none.
pub(crate) fn columns() -> Option<usize> {
    let out = std::io::stdout();
    if !out.is_terminal() {
        return None;
    }
    rustix::termios::tcgetwinsize(out).ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// Prints a message to stderr and ignores failure, since stderr may be closed. Cuts long lines.
pub(crate) fn note_same_line(text: &str) {
    let _ = std::io::stderr().write_all(escape::message(text).as_bytes());
}

/// Prints results to stderr, uncut.
pub(crate) fn results_to_stderr(text: &str) {
    let _ = std::io::stderr().write_all(escape::text(text).as_bytes());
}

/// A progress bar in bytes; shown only if stderr is a terminal.
pub(crate) fn bar(bytes: u64, message: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {eta}");
    ProgressBar::new(bytes).with_style(style.expect("the template is well formed")).with_message(message)
}

/// A line about what goes on; shown only if stderr is a terminal.
pub(crate) fn spinner(message: &'static str) -> ProgressBar {
    ProgressBar::new_spinner().with_message(message)
}

/// The path of a sibling file: the name with `before` and `after` added.
pub(crate) fn beside(path: &Path, before: &str, after: &str) -> PathBuf {
    let mut name = OsString::from(before);
    name.push(path.file_name().unwrap_or_default());
    name.push(after);
    path.with_file_name(name)
}

/// Refuses to write a result over a file that it is made from.
pub(crate) fn check_other<'a>(from: impl IntoIterator<Item = &'a Path>, to: &Path) -> Result<()> {
    let Ok(whole) = to.canonicalize() else { return Ok(()) };
    if from.into_iter().any(|from| from.canonicalize().is_ok_and(|from| from == whole)) {
        bail!("{} is the input; give another file to write", to.display());
    }
    Ok(())
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
