//! Forms of a table of results. Field names and their order come from the rows' own serialisation.

use crate::args::TableForm;
use crate::output::json_line;
use serde::Serialize;
use serde_json::Value;

/// Renders all rows in a form; `markdown` renders the Markdown one.
pub(crate) fn render<R: Serialize>(rows: &[R], form: TableForm, markdown: impl Fn(&[R]) -> String) -> String {
    let value = |row: &R| serde_json::to_value(row).expect("numbers and strings are JSON");
    match form {
        TableForm::Md => markdown(rows),
        TableForm::Csv => csv(rows.iter().map(value)),
        TableForm::Jsonl => rows.iter().map(|r| json_line(value(r))).collect(),
        TableForm::Json => json_line(Value::Array(rows.iter().map(value).collect())),
    }
}

/// A Markdown table with all columns right-aligned.
pub(crate) fn table(heads: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut out = format!("| {} |\n|{}\n", heads.join(" | "), " ---: |".repeat(heads.len()));
    for cells in rows {
        debug_assert_eq!(cells.len(), heads.len(), "each column has a heading");
        out += &format!("| {} |\n", cells.join(" | "));
    }
    out
}

fn csv(rows: impl Iterator<Item = Value>) -> String {
    let mut out = String::new();
    for row in rows {
        let Value::Object(mut fields) = row else { continue };
        fields.retain(|_, value| !is_table(value));
        if out.is_empty() {
            out = fields.keys().map(String::as_str).collect::<Vec<_>>().join(",") + "\n";
        }
        let cells: Vec<String> = fields.values().map(cell).collect();
        out += &(cells.join(",") + "\n");
    }
    out
}

/// Whether a value is a list of objects, which does not fit in a cell.
fn is_table(value: &Value) -> bool {
    value.as_array().and_then(|items| items.first()).is_some_and(Value::is_object)
}

/// Formats a value as a cell: list items separated by semicolons, text quoted where needed, null left empty.
fn cell(value: &Value) -> String {
    match value {
        Value::String(s) if s.contains([',', '"', '\n']) => format!("\"{}\"", s.replace('"', "\"\"")),
        Value::String(s) => s.clone(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(";"),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Row {
        name: &'static str,
        low: Option<f64>,
        samples: Vec<f64>,
        runs: Vec<Inner>,
    }

    #[derive(Serialize)]
    struct Inner {
        x: u32,
    }

    #[test]
    fn cells_hold_lists_and_leave_tables_out() {
        let rows = [Row { name: "a,\"b\"", low: None, samples: vec![1.0, 2.5], runs: vec![Inner { x: 1 }] }];
        let csv = render(&rows, TableForm::Csv, |_| String::new());
        assert_eq!(csv, "name,low,samples\n\"a,\"\"b\"\"\",,1.0;2.5\n");
        let lines = render(&rows, TableForm::Jsonl, |_| String::new());
        assert!(lines.contains("\"low\":null") && lines.contains("\"runs\":[{\"x\":1}]"), "{lines}");
    }
}
