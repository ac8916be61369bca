//! `aio kernels support`: which cases a device runs, as a table that can be kept and compared.

use super::select::{distinct, open, selected};
use super::test::{self, Row as Tested};
use crate::args::KernelsSupportArgs;
use crate::bench::forms;
use crate::outcome::Outcome;
use crate::section::cells;
use crate::table::Table;
use crate::{input, output};
use aio::conformance::Purpose;
use anyhow::{Context, Result, anyhow, ensure};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A row; the same as in the checked-in tables.
#[derive(Serialize)]
struct Row {
    case: String,
    kind: &'static str,
    outcome: &'static str,
}

/// Largest table that is read, in bytes.
const MOST: u64 = 1 << 24;
/// The first line of a table; the names of [`Row`]'s fields.
const HEADER: &str = "case,kind,outcome";

pub(super) fn main(args: &KernelsSupportArgs) -> Result<Outcome> {
    ensure!(distinct(&args.device.isa).len() <= 1, "--isa takes one instruction set here");
    let opened = open(&args.device)?;
    let target = opened.first().context("a device is open")?.device.target();
    let kept = args.check.as_deref().map(read).transpose()?;
    let cases = selected(&args.cases, &args.device, &target, Purpose::Compare)?;
    let tested = test::run(&cases, &opened);
    let mut rows: Vec<Row> = tested.iter().map(row).collect();
    rows.sort_by(|a, b| a.case.cmp(&b.case));
    let Some(kept) = kept else {
        output::print_now(&forms::render(&rows, args.output, |_| by_type(&tested)))?;
        return Ok(Outcome::Fine);
    };
    let filtered = !args.cases.op.is_empty() || !args.cases.types.is_empty() || args.cases.case.is_some();
    let wrong = differences(&rows, &kept, filtered);
    if wrong.is_empty() {
        output::print_now(&format!("{} rows are the same\n", rows.len()))?;
        return Ok(Outcome::Fine);
    }
    output::print_now(&wrong.iter().map(|line| format!("{line}\n")).collect::<String>())?;
    note!("error: {} rows differ", wrong.len());
    Ok(Outcome::CheckFailed)
}

fn row(tested: &Tested) -> Row {
    Row { case: tested.case.clone(), kind: tested.op, outcome: tested.outcome }
}

/// A table by case, as `-o csv` prints it.
#[derive(Debug, PartialEq)]
struct Kept(BTreeMap<String, String>);

fn read(path: &Path) -> Result<Kept> {
    let text = input::text(path, MOST)?;
    let name = path.display();
    Kept::parse(&text).map_err(|(line, fault)| anyhow!("{name}:{line}: not a table of `aio kernels support`: {fault}"))
}

impl Kept {
    /// Parses a table; a fault comes with its line, from 1.
    fn parse(text: &str) -> Result<Kept, (usize, String)> {
        let mut lines = text.lines().zip(1..);
        let (head, _) = lines.next().unwrap_or_default();
        if head != HEADER {
            return Err((1, format!("expected the header `{HEADER}`")));
        }
        let mut rows = BTreeMap::new();
        for (line, at) in lines {
            let fields: Vec<&str> = line.split(',').collect();
            let [case, kind, outcome] = fields[..] else {
                return Err((at, format!("expected 3 fields, found {}", fields.len())));
            };
            if fields.iter().any(|field| field.trim().is_empty()) {
                return Err((at, "a field is empty".to_owned()));
            }
            if rows.insert(case.to_owned(), format!("{kind},{outcome}")).is_some() {
                return Err((at, format!("a second row for `{case}`")));
            }
        }
        Ok(Kept(rows))
    }
}

/// Rows that are new, missing or different. With filters, rows of cases that were not run are not missing.
fn differences(rows: &[Row], Kept(old): &Kept, filtered: bool) -> Vec<String> {
    let new: BTreeMap<&str, String> =
        rows.iter().map(|r| (r.case.as_str(), format!("{},{}", r.kind, r.outcome))).collect();
    let mut wrong = Vec::new();
    for (case, values) in &new {
        match old.get(*case) {
            None => wrong.push(format!("new: {case},{values}")),
            Some(was) if was != values => wrong.push(format!("changed: {case},{was} is now {values}")),
            Some(_) => {}
        }
    }
    let gone = old.iter().filter(|(case, _)| !filtered && !new.contains_key(case.as_str()));
    wrong.extend(gone.map(|(case, values)| format!("missing: {case},{values}")));
    wrong
}

/// A row for each op: the types of which all cases pass, and those of which some do not.
fn by_type(tested: &[Tested]) -> String {
    let mut ops: BTreeMap<&str, BTreeMap<&str, Vec<&Tested>>> = BTreeMap::new();
    for row in tested {
        ops.entry(row.op).or_default().entry(row.dtype).or_default().push(row);
    }
    let lines = ops.iter().map(|(op, types)| {
        let all = |outcome: &str| {
            let with = |rows: &&Vec<&Tested>| rows.iter().any(|r| r.outcome == outcome);
            let names: BTreeSet<&str> = types.iter().filter(|(_, rows)| with(rows)).map(|(name, _)| *name).collect();
            names.into_iter().collect::<Vec<_>>().join(" ")
        };
        let cases: usize = types.values().map(Vec::len).sum();
        cells![op, cases, all("pass"), all("unsupported"), all("fail")]
    });
    let heads = vec!["op", ">cases", "types that pass", "unsupported", "types that fail"];
    Table { title: "ops", heads, rows: lines.collect() }.markdown() + &test::reasons(tested)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_compared_in_both_directions() {
        let row = |case: &str, outcome| Row { case: case.to_owned(), kind: "add", outcome };
        let rows = [row("a", "pass"), row("b", "pass"), row("d", "fail")];
        let kept = Kept::parse("case,kind,outcome\na,add,pass\nb,add,unsupported\nc,add,pass\n").expect("a table");
        let wrong = ["new: d,add,fail", "missing: c,add,pass"];
        let changed = "changed: b,add,unsupported is now add,pass";
        assert_eq!(differences(&rows, &kept, false), [changed, wrong[0], wrong[1]]);
        assert_eq!(differences(&rows, &kept, true), [changed, wrong[0]]);
    }

    #[test]
    fn other_texts_are_no_tables() {
        let fault = |text: &str| Kept::parse(text).expect_err("no table");
        for text in ["", "\n", "# Notes\n", "case,kind\na,add\n", "a,add,pass\n"] {
            assert_eq!(fault(text), (1, "expected the header `case,kind,outcome`".to_owned()), "{text:?}");
        }
        for (row, text) in [
            ("a,add", "expected 3 fields, found 2"),
            ("a,add,pass,1", "expected 3 fields, found 4"),
            ("", "expected 3 fields, found 1"),
            ("a,,pass", "a field is empty"),
            ("x,add,fail", "a second row for `x`"),
        ] {
            assert_eq!(fault(&format!("{HEADER}\nx,add,pass\n{row}\n")), (3, text.to_owned()), "{row:?}");
        }
        assert_eq!(Kept::parse(&format!("{HEADER}\r\na,add,pass\r\n")).map(|k| k.0.len()), Ok(1));
    }
}
