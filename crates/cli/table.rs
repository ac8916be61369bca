//! Tables for people, as aligned text or Markdown. Kept apart so that all subcommands' tables look alike.
//!
//! Cells hold strings from files: each is truncated and kept on one line.

use crate::escape;

/// Maximum width of an aligned column, in characters. Longer cells stick out, so one of them does not widen every row.
const MAX_WIDTH: usize = 100;

/// Width below which no column is narrowed.
const MIN_WIDTH: usize = 12;

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
        self.fitted(None)
    }

    /// The table as text. If it is wider than `columns`, the widest columns are narrowed and their cells take several lines.
    pub(crate) fn fitted(&self, columns: Option<usize>) -> String {
        let heads = self.heads.iter().map(|h| h.trim_start_matches('>').to_owned()).collect();
        let rows = self.rows.iter().map(|cells| cells.iter().map(|c| escape::cell(c)).collect());
        let lines: Vec<Vec<String>> = std::iter::once(heads).chain(rows).collect();
        let longest = |column: usize| lines.iter().map(|l| l[column].chars().count()).max().unwrap_or(0);
        let mut widths: Vec<usize> = (0..self.heads.len()).map(longest).collect();
        match columns {
            Some(columns) => narrow(&mut widths, columns),
            None => widths.iter_mut().for_each(|w| *w = MAX_WIDTH.min(*w)),
        }
        let mut out = format!("{} ({})\n", self.title, self.rows.len());
        for line in &lines {
            let cells: Vec<Vec<String>> = match columns {
                Some(_) => line.iter().zip(&widths).map(|(cell, &w)| wrapped(cell, w)).collect(),
                None => line.iter().map(|cell| vec![cell.clone()]).collect(),
            };
            for part in 0..cells.iter().map(Vec::len).max().unwrap_or(0) {
                let cells = cells.iter().map(|parts| parts.get(part).map_or("", String::as_str));
                let padded = cells.zip(&self.heads).zip(&widths);
                let padded: Vec<String> =
                    padded.map(|((cell, head), &w)| pad(cell, head.starts_with('>'), w)).collect();
                out.push_str(format!("  {}", padded.join("  ")).trim_end());
                out.push('\n');
            }
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

/// Narrows the widest columns until all fit, with two spaces before each, but none below a width that holds a word.
fn narrow(widths: &mut [usize], columns: usize) {
    while widths.iter().map(|w| w + 2).sum::<usize>() > columns {
        match widths.iter_mut().max() {
            Some(widest) if *widest > MIN_WIDTH => *widest -= 1,
            _ => return,
        }
    }
}

/// The lines of a text that is broken between words, or within one that is longer than a line. One line if it is empty.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut room = width;
    for word in text.split_inclusive(' ') {
        if word.trim_end().chars().count() > room && room < width {
            lines.push(String::new());
            room = width;
        }
        for c in word.chars() {
            if room == 0 && c != ' ' {
                lines.push(String::new());
                room = width;
            }
            if room > 0 {
                lines.last_mut().expect("there is a line").push(c);
                room -= 1;
            }
        }
    }
    lines
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
    fn cells_take_several_lines_where_the_terminal_is_narrow() {
        let row = |name: &str, text: &str, n: &str| [name, text, n].map(str::to_owned).to_vec();
        let rows = vec![row("a", "several words and averyverylongwordindeed", "12"), row("b", "", "3")];
        let table = Table { title: "things", heads: vec!["name", "text", ">n"], rows };
        let (head, first, last) = ("name  text             n", "a     several words   12", "b                      3");
        let text = format!(
            "things (2)\n  {head}\n  {first}\n        and\n        averyverylongw\n        ordindeed\n  {last}\n"
        );
        assert_eq!(table.fitted(Some(26)), text);
        assert_eq!(table.fitted(Some(100)), table.text());
        let narrowest = table.fitted(Some(1));
        assert!(narrowest.contains("\n        words and\n"), "no column is narrower than a word: {narrowest}");
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
