//! Reads whole files that the user names. They may be pipes, so reads are limited in size, and Ctrl-C ends a wait for
//! data.

use crate::signals;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Maximum bytes of a prompt, a text to score, a graph or a list of prompts.
pub(crate) const TEXT: u64 = 64 << 20;
/// Maximum bytes of a template, a device profile or a list of kernels.
pub(crate) const TEMPLATE: u64 = 16 << 20;

/// Reads a text file.
pub(crate) fn text(path: &Path, limit: u64) -> Result<String> {
    let shown = path.display();
    String::from_utf8(bytes(path, limit)?).with_context(|| format!("cannot read {shown}: it is not UTF-8"))
}

/// Reads a binary file.
pub(crate) fn bytes(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let read = || whole(File::open(path)?, limit);
    let read = signals::while_waiting(read)?.with_context(|| format!("cannot read {}", path.display()))?;
    read.with_context(|| format!("{} has more than {limit} bytes", path.display()))
}

/// Reads text from standard input.
pub(crate) fn stdin(limit: u64) -> Result<String> {
    let read = signals::while_waiting(|| whole(std::io::stdin().lock(), limit))?;
    let bytes = read.context("cannot read the prompt from standard input")?;
    let Some(bytes) = bytes else { bail!("standard input has more than {limit} bytes") };
    String::from_utf8(bytes).context("cannot read the prompt from standard input: it is not UTF-8")
}

/// Reads all bytes; `None` if there are more than `limit`.
fn whole(source: impl Read, limit: u64) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    source.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_bound() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "12345").unwrap();
        assert_eq!(text(file.path(), 5).unwrap(), "12345");
        let error = text(file.path(), 4).unwrap_err().to_string();
        assert!(error.ends_with("has more than 4 bytes"), "{error}");
        std::fs::write(file.path(), b"\xff").unwrap();
        assert!(text(file.path(), 4).unwrap_err().to_string().contains("not UTF-8"));
    }

    #[test]
    fn a_source_without_an_end_is_left_at_its_bound() {
        assert_eq!(whole(std::io::repeat(7), 1000).unwrap(), None);
    }
}
