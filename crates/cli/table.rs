//! Tables for people: aligned text or Markdown. Kept apart so that every subcommand's tables look alike.

/// Rows of cells under headings.
#[derive(Debug)]
pub(crate) struct Table {
    /// What the rows are, shown above them with their number.
    pub title: &'static str,
    /// Headings; one that begins with `>` heads a column of numbers, set to the right.
    pub heads: Vec<&'static str>,
    /// Cells, as many a row as there are headings.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// The table as aligned columns, two spaces apart.
    pub(crate) fn text(&self) -> String {
        let heads = self.heads.iter().map(|h| h.trim_start_matches('>').to_owned()).collect();
        let lines: Vec<&Vec<String>> = std::iter::once(&heads).chain(&self.rows).collect();
        let width = |column: usize| lines.iter().map(|l| l[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.heads.len()).map(width).collect();
        let mut out = format!("{} ({})\n", self.title, self.rows.len());
        for line in lines {
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
            out.push_str(&row(cells.iter().map(|c| escape(c)).collect()));
        }
        out
    }
}

fn pad(cell: &str, right: bool, width: usize) -> String {
    if right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
}

/// Keeps a cell's text from being read as Markdown.
fn escape(cell: &str) -> String {
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
}
