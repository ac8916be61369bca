//! A table with notes. Kept apart so that every table of modelled figures looks alike.

use crate::table::Table;

/// A table and the notes under it.
pub(crate) struct Section {
    pub table: Table,
    pub notes: Vec<String>,
}

/// Markdown.
pub(crate) fn markdown(section: &Section) -> String {
    let notes: String = section.notes.iter().map(|note| format!("\n{note}\n")).collect();
    section.table.markdown() + &notes
}

/// JSON.
pub(crate) fn json(section: &Section) -> serde_json::Value {
    let heads: Vec<&str> = section.table.heads.iter().map(|h| h.trim_start_matches('>')).collect();
    let row = |cells: &Vec<String>| -> serde_json::Value {
        heads
            .iter()
            .zip(cells)
            .map(|(head, cell)| ((*head).to_owned(), serde_json::Value::from(cell.as_str())))
            .collect()
    };
    serde_json::json!({
        "kind": "modelled",
        "title": section.table.title,
        "rows": section.table.rows.iter().map(row).collect::<Vec<_>>(),
        "notes": section.notes,
    })
}

/// A row of cells.
macro_rules! cells {
    ($($cell:expr),* $(,)?) => { vec![$($cell.to_string()),*] };
}
pub(crate) use cells;
