//! Forms in which results are printed.

use clap::ValueEnum;

/// Forms of a table of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TableForm {
    /// Markdown table.
    Md,
    /// Comma-separated values with a header line.
    Csv,
    /// One array of objects.
    Json,
    /// One object per line.
    Jsonl,
}

/// Forms in which devices and caches are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ShowForm {
    /// Markdown table.
    Md,
    /// One value.
    Json,
}
