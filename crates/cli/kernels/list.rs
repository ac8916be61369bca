//! `aio kernels list`: the cases with their full strings.

use super::select::{Selected, open, selected};
use crate::args::KernelsListArgs;
use crate::bench::forms;
use crate::outcome::Outcome;
use crate::output;
use crate::section::cells;
use crate::table::Table;
use aio::conformance::Purpose;
use anyhow::{Context, Result};
use serde::Serialize;

/// A row; the field names are an interface.
#[derive(Serialize)]
struct Row {
    case: String,
    op: &'static str,
    #[serde(rename = "type")]
    dtype: &'static str,
    rows: Vec<u32>,
    /// Tasks of the model's plan; null for a case of the list.
    count: Option<usize>,
    bound: f64,
    tensors: String,
}

pub(super) fn main(args: &KernelsListArgs) -> Result<Outcome> {
    let opened = open(&args.device)?;
    let target = opened.first().context("a device is open")?.device.target();
    let cases = selected(&args.cases, &args.device, &target, Purpose::Compare)?;
    let rows: Vec<Row> = cases.iter().map(row).collect();
    output::print_now(&forms::render(&rows, args.output, markdown))?;
    Ok(Outcome::Fine)
}

fn row(Selected { case, count, rows, .. }: &Selected) -> Row {
    Row {
        case: case.name.clone(),
        op: case.kind.name(),
        dtype: case.weights.name(),
        rows: rows.map_or_else(|| case.row_counts(), |rows| vec![rows]),
        count: *count,
        bound: case.max_nmse,
        tensors: case.tensors(),
    }
}

fn markdown(rows: &[Row]) -> String {
    let planned = rows.iter().any(|r| r.count.is_some());
    let mut heads = vec!["case", "op", "type", "rows", ">bound", "tensors"];
    if planned {
        heads.insert(0, ">tasks");
    }
    let line = |r: &Row| {
        let steps: Vec<String> = r.rows.iter().map(u32::to_string).collect();
        let mut line = cells![r.case, r.op, r.dtype, steps.join(","), format!("{:.0e}", r.bound), r.tensors];
        if planned {
            line.insert(0, r.count.map_or_else(String::new, |n| n.to_string()));
        }
        line
    };
    Table { title: "cases", heads, rows: rows.iter().map(line).collect() }.markdown()
}
