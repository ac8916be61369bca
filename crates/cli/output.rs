//! Where results go: stdout, with a closed pipe told apart; names of files beside others; progress on a terminal.

use indicatif::{ProgressBar, ProgressStyle};
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Stdout could not be written to.
#[derive(Debug)]
pub(crate) struct StdoutError(std::io::Error);

impl std::fmt::Display for StdoutError {
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

/// An error with its causes, outermost first; a cause that the text before it says already is left out.
pub(crate) fn describe(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Writes text to stdout at once.
pub(crate) fn print_now(text: &str) -> Result<(), StdoutError> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(StdoutError)
}

/// Writes text to stderr, which may be closed: nothing depends on it.
pub(crate) fn note_same_line(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
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
