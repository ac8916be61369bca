//! Tables for people, as aligned text or Markdown. Kept apart so that all subcommands' tables look alike.
//!
//! Cells hold strings from files: each is truncated and kept on one line.

use crate::escape;

/// Maximum width of an aligned column, in characters. Longer cells stick out, so one of them does not widen every row.
const MAX_WIDTH: usize = 100;

/// Rows of cells under headings.
#[derive(Debug)]
pub(crate) struct Table {
    /// What the rows are; shown above them with their number.
    pub title: &'static str,
    /// Headings; a leading `>` marks a right-aligned column of numbers.
    pub heads: Vec<&'static str>,
    /// Cells; each row has one per heading.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// The table as text, with aligned columns two spaces apart.
    pub(crate) fn text(&self) -> String {
        let heads = self.heads.iter().map(|h| h.trim_start_matches('>').to_owned()).collect();
        let rows = self.rows.iter().map(|cells| cells.iter().map(|c| escape::cell(c)).collect());
        let lines: Vec<Vec<String>> = std::iter::once(heads).chain(rows).collect();
        let longest = |column: usize| lines.iter().map(|l| l[column].chars().count()).max().unwrap_or(0);
        let width = |column: usize| longest(column).min(MAX_WIDTH);
        let widths: Vec<usize> = (0..self.heads.len()).map(width).collect();
        let mut out = format!("{} ({})\n", self.title, self.rows.len());
        for line in &lines {
            let cells = line.iter().zip(&self.heads).zip(&widths);
            let cells: Vec<String> = cells.map(|((cell, head), &w)| pad(cell, head.starts_with('>'), w)).collect();
            out.push_str(format!("  {}", cells.join("  ")).trim_end());
            out.push('\n');
        }
        out
    }

    /// The table in Markdown.
    pub(crate) fn markdown(&self) -> String {
        let row = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let mut out = format!("## {} ({})\n\n", self.title, self.rows.len());
        out.push_str(&row(self.heads.iter().map(|h| h.trim_start_matches('>').to_owned()).collect()));
        out.push_str(&row(self
            .heads
            .iter()
            .map(|h| if h.starts_with('>') { "---:" } else { "---" }.to_owned())
            .collect()));
        for cells in &self.rows {
            out.push_str(&row(cells.iter().map(|c| markdown(&escape::cell(c))).collect()));
        }
        out
    }
}

fn pad(cell: &str, right: bool, width: usize) -> String {
    let space = " ".repeat(width.saturating_sub(cell.chars().count()));
    if right { space + cell } else { cell.to_owned() + &space }
}

/// Escapes a cell's text for Markdown.
fn markdown(cell: &str) -> String {
    let mut out = String::new();
    for c in cell.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '\\' | '|' | '`' | '*' | '_' | '[' | ']' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_markdown_is_escaped() {
        let rows = vec![vec!["a|b".to_owned(), "7".to_owned()], vec!["c".to_owned(), "123".to_owned()]];
        let table = Table { title: "things", heads: vec!["name", ">n"], rows };
        assert_eq!(table.text(), "things (2)\n  name    n\n  a|b     7\n  c     123\n");
        let markdown = "## things (2)\n\n| name | n |\n| --- | ---: |\n| a\\|b | 7 |\n| c | 123 |\n";
        assert_eq!(table.markdown(), markdown);
    }

    #[test]
    fn a_long_cell_is_cut_and_widens_no_other_row() {
        let row = |key: &str| vec![key.to_owned(), "1".to_owned(), "\x1b[2J\n".to_owned()];
        let rows = vec![row(&"k".repeat(70_000)), row("short")];
        let table = Table { title: "things", heads: vec!["key", ">n", "text"], rows };
        let text = table.text();
        assert!(text.lines().all(|l| l.chars().count() < 500) && text.lines().count() == 4, "{text}");
        assert!(text.lines().last().is_some_and(|l| l.len() < 130 && l.ends_with("1  \\u{1b}[2J\\n")), "{text}");
        assert!(table.markdown().lines().all(|l| l.chars().count() < 500), "{}", table.markdown());
    }
}
