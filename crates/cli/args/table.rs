//! Forms in which results are printed.

use clap::ValueEnum;

/// Forms of a table of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TableForm {
    /// A table in Markdown.
    Md,
    /// Comma-separated values with a line of headings.
    Csv,
    /// One array of objects.
    Json,
    /// An object a line.
    Jsonl,
}
