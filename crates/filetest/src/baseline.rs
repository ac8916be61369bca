//! Checked-in tables with one row per key, compared in both directions.

use crate::bless;
use std::collections::BTreeMap;
use std::path::Path;

/// Compares rows (key, the other columns) with a file, or rewrites the file.
///
/// # Panics
/// If a row is new, missing or different. The message names each.
pub fn compare(path: &Path, header: &str, rows: &BTreeMap<String, String>) {
    let text: String = rows.iter().map(|(key, values)| format!("{key},{values}\n")).collect();
    if bless() {
        std::fs::write(path, format!("{header}\n{text}")).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        return;
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    let old: BTreeMap<&str, &str> = found.lines().skip(1).filter_map(|l| l.split_once(',')).collect();
    let mut wrong = Vec::new();
    for (key, values) in rows {
        match old.get(key.as_str()) {
            None => wrong.push(format!("new row: {key},{values}")),
            Some(was) if was != values => wrong.push(format!("changed row: {key},{was} is now {values}")),
            Some(_) => {}
        }
    }
    let gone = old.iter().filter(|(key, _)| !rows.contains_key(**key));
    wrong.extend(gone.map(|(key, values)| format!("missing row: {key},{values}")));
    assert!(wrong.is_empty(), "{} (AIO_BLESS=1 rewrites it):\n{}", path.display(), wrong.join("\n"));
}
