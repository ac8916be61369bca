//! `aio gguf`: shows everything in a GGUF file. Works for unknown architectures too, so that any file can be inspected.

use crate::args::{GgufArgs, GgufOutput};
use crate::outcome::Outcome;
use crate::output::{json_line, print_now};
use crate::table::Table;
use aio::model::gguf::{Array, Gguf, TensorInfo, Value};
use anyhow::{Context, Result};
use serde_json::json;
use std::collections::BTreeMap;

/// Number of array items shown.
const FIRST_ITEMS: usize = 8;
/// Characters of a string shown in a table.
const SHOWN_CHARS: usize = 60;

pub(crate) fn main(args: GgufArgs) -> Result<Outcome> {
    let gguf = Gguf::open(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    let text = match args.output {
        GgufOutput::Json => json_line(json(&gguf)),
        GgufOutput::Text => {
            let tables: Vec<String> = tables(&gguf).iter().map(Table::text).collect();
            format!("{}\n\n{}", headline(&gguf), tables.join("\n"))
        }
        GgufOutput::Md => {
            let tables: Vec<String> = tables(&gguf).iter().map(Table::markdown).collect();
            format!("{}\n\n{}", headline(&gguf), tables.join("\n"))
        }
    };
    print_now(&text)?;
    Ok(Outcome::Fine)
}

fn headline(gguf: &Gguf) -> String {
    let (files, bytes) = (gguf.paths().len(), gguf.file_bytes());
    let files = if files > 1 { format!(" in {files} files") } else { String::new() };
    let (version, alignment, data) = (gguf.version(), gguf.alignment(), gguf.data_start());
    format!("GGUF version {version}, {bytes} bytes{files}, tensor data from byte {data}, alignment {alignment}")
}

fn tables(gguf: &Gguf) -> Vec<Table> {
    let metadata = gguf.metadata().map(|(key, value)| vec![key.to_owned(), type_name(&value), shown(&value)]);
    let metadata = Table { title: "metadata", heads: vec!["key", "type", "value"], rows: metadata.collect() };
    let tensors = gguf.tensors().iter().map(|t| tensor_row(t, gguf.paths().len() > 1));
    let heads = vec!["name", "type", "shape", ">bytes", ">offset"];
    let tensors = Table { title: "tensors", heads, rows: tensors.collect() };
    let types = types(gguf).into_iter().map(|(name, t)| vec![name, t.count.to_string(), bytes(t.bytes)]);
    let types = Table { title: "tensor types", heads: vec!["type", ">tensors", ">bytes"], rows: types.collect() };
    vec![metadata, tensors, types]
}

fn tensor_row(t: &TensorInfo, split: bool) -> Vec<String> {
    let part = if split { format!("{}:", t.part + 1) } else { String::new() };
    let shape = format!("{:?}", t.shape());
    vec![t.name.clone(), t.ty.to_string(), shape, bytes(t.bytes), format!("{part}{}", t.file_offset)]
}

fn bytes(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "unknown".to_owned(), |b| b.to_string())
}

fn type_name(value: &Value<'_>) -> String {
    match value {
        Value::Array(a) => format!("{}[{}]", a.elem(), a.len()),
        other => other.ty().to_string(),
    }
}

/// Formats a value for a table.
fn shown(value: &Value<'_>) -> String {
    match *value {
        Value::Str(s) if s.chars().count() > SHOWN_CHARS => {
            let start: String = s.chars().take(SHOWN_CHARS).collect();
            format!("{start:?}... ({} bytes)", s.len())
        }
        Value::Str(s) => format!("{s:?}"),
        Value::Bytes(bytes) => format!("{} (not UTF-8)", shown(&Value::Str(&String::from_utf8_lossy(bytes)))),
        Value::Array(a) => {
            let mut items: Vec<String> = a.iter().take(FIRST_ITEMS).map(|v| shown(&v)).collect();
            if a.len() > FIRST_ITEMS {
                items.push("...".to_owned());
            }
            format!("[{}]", items.join(", "))
        }
        Value::Bool(b) => b.to_string(),
        Value::F32(v) => v.to_string(),
        Value::F64(v) => v.to_string(),
        ref int => int.as_int().map_or_else(String::new, |i| i.to_string()),
    }
}

/// Tensors of one type, together.
#[derive(Default)]
struct OfType {
    count: usize,
    /// `None` once a size is unknown.
    bytes: Option<u64>,
}

fn types(gguf: &Gguf) -> BTreeMap<String, OfType> {
    let mut types: BTreeMap<String, OfType> = BTreeMap::new();
    for t in gguf.tensors() {
        let entry = types.entry(t.ty.to_string()).or_insert(OfType { count: 0, bytes: Some(0) });
        entry.count += 1;
        entry.bytes = entry.bytes.zip(t.bytes).map(|(a, b)| a.saturating_add(b));
    }
    types
}

fn json(gguf: &Gguf) -> serde_json::Value {
    let paths: Vec<String> = gguf.paths().iter().map(|p| p.display().to_string()).collect();
    let metadata: Vec<_> = gguf.metadata().map(|(key, value)| entry_json(key, &value)).collect();
    let types = types(gguf).into_iter();
    let types: Vec<_> = types.map(|(n, t)| json!({"type": n, "tensors": t.count, "bytes": t.bytes})).collect();
    json!({
        "files": paths,
        "version": gguf.version(),
        "alignment": gguf.alignment(),
        "file_bytes": gguf.file_bytes(),
        "data_start": gguf.data_start(),
        "metadata": metadata,
        "tensors": gguf.tensors().iter().map(tensor_json).collect::<Vec<_>>(),
        "tensor_types": types,
    })
}

fn tensor_json(t: &TensorInfo) -> serde_json::Value {
    let (ty, shape) = (t.ty.to_string(), t.shape());
    json!({"name": t.name, "type": ty, "shape": shape, "bytes": t.bytes, "offset": t.file_offset, "part": t.part + 1})
}

fn entry_json(key: &str, value: &Value<'_>) -> serde_json::Value {
    json!({"key": key, "type": value.ty().name(), "value": value_json(value)})
}

fn value_json(value: &Value<'_>) -> serde_json::Value {
    match *value {
        Value::Str(s) => json!(s),
        Value::Bytes(bytes) => json!(String::from_utf8_lossy(bytes)),
        Value::Bool(b) => json!(b),
        Value::U64(v) => json!(v),
        Value::F32(v) => float_json(&v.to_string()),
        Value::F64(v) => float_json(&v.to_string()),
        Value::Array(a) => array_json(a),
        ref int => json!(int.as_int().and_then(|i| i64::try_from(i).ok())),
    }
}

/// A float as it is displayed; a string if JSON cannot represent the number.
fn float_json(digits: &str) -> serde_json::Value {
    match digits.parse::<f64>() {
        Ok(v) if v.is_finite() => json!(v),
        _ => json!(digits),
    }
}

fn array_json(array: Array<'_>) -> serde_json::Value {
    let first: Vec<_> = array.iter().take(FIRST_ITEMS).map(|v| value_json(&v)).collect();
    json!({"element": array.elem().name(), "length": array.len(), "first": first})
}
